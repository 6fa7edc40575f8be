//! TLS of the control plane's port: its own certificate, and client certificates checked against the mesh's root.
//!
//! A client certificate is optional in the handshake, because a workload that joins has none yet. What is shown must be
//! good: a chain to the root, valid now, for client use, naming exactly one workload of the trust domain.

use std::fmt;
use std::sync::Arc;

use base::Clock;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::ca::{Authority, ServingCertificate};
use crate::peer::identity_of;
use crate::timestamp::rfc3339;

/// Why the TLS port cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

/// TLS 1.2 and 1.3 with `h2` only; no session resumption, so that every connection shows a certificate that is valid now.
///
/// # Errors
/// The root is not valid now, or is refused by the TLS library.
pub fn server_config(authority: Arc<Authority>) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |error: &dyn fmt::Display| TlsError(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(CallerVerifier::new(&authority, &provider)?);
    let clock = Arc::new(RimClock(authority.clock().clone()));
    let serving = ServingCertificate::new(authority, provider.clone()).map_err(|error| failed(&error))?;
    let mut config = ServerConfig::builder_with_details(provider, clock)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(serving));
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// webpki's chain check, then ours of the name.
#[derive(Debug)]
struct CallerVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: String,
}

impl CallerVerifier {
    fn new(authority: &Authority, provider: &Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).map_err(|error| TlsError(error.to_string()))?;
        let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|error| TlsError(error.to_string()))?;
        Ok(CallerVerifier { chain, trust_domain: authority.trust_domain().to_owned() })
    }
}

impl ClientCertVerifier for CallerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now).inspect_err(|error| {
            // The name is only what the certificate says; it helps to find the workload.
            let (name, end) = identity_of(end_entity, &self.trust_domain)
                .map_or_else(|error| (error.to_string(), String::new()), |(name, end)| (name.to_string(), rfc3339(end)));
            tracing::warn!(claims = name, ends = end, "client certificate refused: {error}; if it has expired, the workload joins again with a token from `tulled token create`");
        })?;
        identity_of(end_entity, &self.trust_domain).map_err(|error| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        })?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// The clock of the authority, as rustls wants it.
struct RimClock(Arc<dyn Clock>);

impl TimeProvider for RimClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.0.unix_seconds())))
    }
}

impl fmt::Debug for RimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RimClock")
    }
}
