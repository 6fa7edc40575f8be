//! From the configuration's certificate and trust sources to keys, roots and rules.

use std::path::Path;
use std::sync::Arc;

use config::model::{
    CertificateSource, Roots, SanMatcher, SanType, StringMatch, TlsParameters, TlsVersion, TrustSource,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SupportedProtocolVersion};

use ::tls::pem::{self, PemError};
use ::tls::{HandshakeError, PeerRules, SanKind, SanRule, Side};

use super::secrets::{SDS_DEFAULT, SDS_ROOT, SecretSet, Secrets};

/// Why a TLS context cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TlsConfigError {
    /// Field below the TLS context.
    pub path: String,
    /// What is wrong, and the remedy.
    pub reason: String,
}

impl TlsConfigError {
    pub(super) fn new(path: &str, reason: impl Into<String>) -> Self {
        TlsConfigError { path: path.to_owned(), reason: reason.into() }
    }
}

impl From<PemError> for TlsConfigError {
    fn from(error: PemError) -> Self {
        TlsConfigError { path: error.source_name, reason: error.reason }
    }
}

/// A key that is fixed, or the workload's current one.
#[derive(Debug)]
pub(super) enum KeySource {
    Workload,
    Fixed(Arc<CertifiedKey>),
}

/// Roots that are fixed, or the mesh's current ones.
#[derive(Debug)]
pub(super) enum RootSource {
    Workload,
    Fixed(Arc<RootCertStore>),
}

impl KeySource {
    pub(super) fn new(source: &CertificateSource, secrets: &Secrets) -> Result<KeySource, TlsConfigError> {
        const CHAIN: &str = "common_tls_context.tls_certificates[0].certificate_chain";
        const KEY: &str = "common_tls_context.tls_certificates[0].private_key";
        let (chain_name, key_name, chain, key) = match source {
            CertificateSource::Sds(name) if &**name == SDS_DEFAULT => return Ok(KeySource::Workload),
            CertificateSource::Sds(name) => {
                return Err(TlsConfigError::new(
                    "common_tls_context.tls_certificate_sds_secret_configs[0].name",
                    format!("secret \"{name}\" is not known here; the only one is \"{SDS_DEFAULT}\""),
                ));
            }
            CertificateSource::Files { chain, key } => {
                (&**chain, &**key, pem::read_file(Path::new(&**chain))?, pem::read_file(Path::new(&**key))?)
            }
            CertificateSource::Inline { chain, key } => (CHAIN, KEY, chain.to_vec(), key.0.to_vec()),
        };
        let chain = pem::certificates(chain_name, &chain)?;
        let key = pem::private_key(key_name, &key)?;
        Ok(KeySource::Fixed(pem::certified_key(secrets.provider(), key_name, chain, key)?))
    }

    pub(super) fn key(&self, current: Option<&SecretSet>) -> Result<Arc<CertifiedKey>, String> {
        match self {
            KeySource::Fixed(key) => Ok(key.clone()),
            KeySource::Workload => current.map(|set| set.key.clone()).ok_or_else(no_identity),
        }
    }
}

impl RootSource {
    pub(super) fn new(source: &Roots) -> Result<RootSource, TlsConfigError> {
        let (name, text) = match source {
            Roots::Sds(name) if &**name == SDS_ROOT => return Ok(RootSource::Workload),
            Roots::Sds(name) => {
                return Err(TlsConfigError::new(
                    "common_tls_context.validation_context_sds_secret_config.name",
                    format!("secret \"{name}\" is not known here; the only one is \"{SDS_ROOT}\""),
                ));
            }
            Roots::File(file) => (&**file, pem::read_file(Path::new(&**file))?),
            Roots::Inline(text) => ("common_tls_context.validation_context.trusted_ca", text.to_vec()),
        };
        Ok(RootSource::Fixed(pem::roots(name, &pem::certificates(name, &text)?)?))
    }

    pub(super) fn roots(&self, current: Option<&SecretSet>) -> Result<Arc<RootCertStore>, String> {
        match self {
            RootSource::Fixed(roots) => Ok(roots.clone()),
            RootSource::Workload => current.map(|set| set.roots.clone()).ok_or_else(no_identity),
        }
    }
}

fn no_identity() -> String {
    "this workload has no certificate yet (see /ready of its admin port)".to_owned()
}

/// Roots and rules of a trust source.
pub(super) fn trust(source: &TrustSource) -> Result<(RootSource, Arc<PeerRules>), TlsConfigError> {
    let roots = RootSource::new(&source.roots)?;
    let rules = PeerRules {
        mesh: matches!(roots, RootSource::Workload),
        trust_domain: None,
        one_uri: source.sans.iter().any(|san| san.kind == Some(SanType::Uri)),
        names: source.sans.iter().flat_map(san_rules).collect(),
        certificates: source.certificate_hash.clone(),
        keys: source.spki.clone(),
    };
    Ok((roots, Arc::new(rules)))
}

fn san_rules(san: &SanMatcher) -> Vec<SanRule> {
    let kinds: &[SanKind] = match san.kind {
        Some(SanType::Uri) => &[SanKind::Uri],
        Some(SanType::Dns) => &[SanKind::Dns],
        Some(SanType::IpAddress) => &[SanKind::Ip],
        Some(SanType::Email) => &[SanKind::Email],
        None => &[SanKind::Uri, SanKind::Dns, SanKind::Ip, SanKind::Email],
    };
    let text = match &san.matcher.pattern {
        StringMatch::Exact(text) => text.to_string(),
        StringMatch::Prefix(text) => format!("{text}*"),
        StringMatch::Suffix(text) => format!("*{text}"),
        StringMatch::Contains(text) => format!("*{text}*"),
        StringMatch::Regex(regex) => format!("regex {regex:?}"),
    };
    let rule = |kind: &SanKind| {
        let matcher = san.matcher.clone();
        SanRule {
            kind: *kind,
            text: text.clone(),
            exact_dns: match (&san.matcher.pattern, kind) {
                (StringMatch::Exact(name), SanKind::Dns) => Some(name.to_string()),
                _ => None,
            },
            test: Box::new(move |name| decide::string_matches(&matcher, name.as_bytes())),
        }
    };
    kinds.iter().map(rule).collect()
}

/// The library's versions for a range.
pub(super) fn versions(
    range: &TlsParameters,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsConfigError> {
    let within = |version| range.minimum <= version && version <= range.maximum;
    let mut list = Vec::with_capacity(2);
    if within(TlsVersion::V1_3) {
        list.push(&rustls::version::TLS13);
    }
    if within(TlsVersion::V1_2) {
        list.push(&rustls::version::TLS12);
    }
    if list.is_empty() {
        let reason = "the minimum is above the maximum";
        return Err(TlsConfigError::new("common_tls_context.tls_params", reason));
    }
    Ok(list)
}

/// Our side has no usable secrets.
pub(super) fn local(peer: impl ToString, side: Side) -> impl FnOnce(String) -> HandshakeError {
    move |reason| HandshakeError::local(peer, side, reason)
}
