//! Asking the control plane for a certificate: once with the join token, later with the certificate itself.

use std::sync::Arc;
use std::time::SystemTime;

use base::Spiffe;
use protos::istio_ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::sign::SingleCertAndKey;
use tonic::metadata::MetadataValue;

use super::material::{Checked, Material};
use crate::tls::channel::{channel_on, connect_tls};
use crate::tls::secrets::{SecretSet, Secrets};
use crate::tls::{JoinToken, PeerRules, RootPin, ServerVerifier, Trust};

/// Lifetime that is asked for unless the bootstrap says another; the server may shorten it.
const USUAL_LIFETIME_SECONDS: u32 = 24 * 3600;

/// Where and as whom to ask.
#[derive(Debug, Clone)]
pub struct Service {
    /// `host:port` of the certificate service.
    pub address: String,
    /// The mesh's trust domain.
    pub trust_domain: String,
    /// The identity that this workload should get, when the node says so.
    pub expected: Option<Spiffe>,
    /// Lifetime to ask for, in seconds.
    pub lifetime_seconds: Option<u32>,
}

/// What the caller proves its identity with.
pub enum Credential<'a> {
    /// A join token; the server is known by the root key in it.
    Token(&'a JoinToken),
    /// The own, still valid certificate; the server is known by the trust bundle.
    Certificate(&'a SecretSet),
}

/// Why no certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The server was not reached, or is not the right one.
    #[error("{0}")]
    Connection(String),
    /// The server said no, in its words.
    #[error("the certificate service at {address} refused: {code}: {message}")]
    Refused {
        /// `host:port`.
        address: String,
        /// gRPC's code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// The answer is not usable.
    #[error("the certificate service at {address} answered with a certificate that is not usable: {reason}")]
    Answer {
        /// `host:port`.
        address: String,
        /// Why.
        reason: String,
    },
    /// Something on this side.
    #[error("{0}")]
    Local(String),
}

impl RequestError {
    /// The server knows this caller and does not want it, so that the other credential is worth a try.
    pub fn is_refusal(&self) -> bool {
        matches!(self, RequestError::Refused { code, .. } if code == "PermissionDenied" || code == "Unauthenticated")
    }
}

/// Has a new key signed. The key is made here and never leaves.
///
/// # Errors
/// The step that failed and why.
pub async fn request(
    service: &Service,
    credential: Credential<'_>,
    secrets: &Secrets,
    now: SystemTime,
) -> Result<(Material, Checked), RequestError> {
    let local = |error: &dyn std::fmt::Display| RequestError::Local(format!("certificate request: {error}"));
    let key = KeyPair::generate().map_err(|error| local(&error))?;
    let csr = signing_request(service, &key).map_err(|error| local(&error))?;
    let config = client_config(service, &credential, secrets).map_err(|error| local(&error))?;
    let stream = connect_tls(&service.address, config)
        .await
        .map_err(|error| RequestError::Connection(format!("certificate service: {error}")))?;
    let channel = channel_on(stream).await.map_err(|error| {
        RequestError::Connection(format!("certificate service at {}: {error}", service.address))
    })?;

    let validity_duration = i64::from(service.lifetime_seconds.unwrap_or(USUAL_LIFETIME_SECONDS));
    let message = IstioCertificateRequest { csr, validity_duration, metadata: None };
    let mut call = tonic::Request::new(message);
    call.set_timeout(std::time::Duration::from_secs(15));
    if let Credential::Token(token) = &credential {
        let mut value =
            MetadataValue::try_from(format!("Bearer {}", token.bearer())).map_err(|error| local(&error))?;
        value.set_sensitive(true);
        call.metadata_mut().insert("authorization", value);
    }
    let answer =
        IstioCertificateServiceClient::new(channel).create_certificate(call).await.map_err(|status| {
            RequestError::Refused {
                address: service.address.clone(),
                code: format!("{:?}", status.code()),
                message: status.message().to_owned(),
            }
        })?;
    let unusable = |reason| RequestError::Answer { address: service.address.clone(), reason };
    let material =
        Material::from_answer(key.serialize_pem(), &answer.into_inner().cert_chain).map_err(unusable)?;
    if let Credential::Token(token) = &credential {
        let pinned = material
            .roots
            .iter()
            .any(|root| RootPin::of_certificate(root).is_ok_and(|pin| pin == token.pin()));
        if !pinned {
            return Err(unusable("its trust bundle does not hold the root of the join token".to_owned()));
        }
    }
    let checked = material.check(secrets.provider(), service.expected.as_ref(), now).map_err(unusable)?;
    if checked.spiffe.trust_domain() != service.trust_domain {
        return Err(unusable(format!(
            "{} is not of the trust domain {}",
            checked.spiffe, service.trust_domain
        )));
    }
    Ok((material, checked))
}

fn signing_request(service: &Service, key: &KeyPair) -> Result<String, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(expected) = &service.expected {
        params.subject_alt_names = vec![SanType::URI(expected.to_string().try_into()?)];
    }
    params.serialize_request(key)?.pem()
}

fn client_config(
    service: &Service,
    credential: &Credential<'_>,
    secrets: &Secrets,
) -> Result<Arc<ClientConfig>, String> {
    let provider = secrets.provider().clone();
    let trust = match credential {
        Credential::Token(token) => Trust::Pin(token.pin()),
        Credential::Certificate(own) => Trust::Roots(own.roots.clone()),
    };
    let rules = Arc::new(PeerRules::control_plane_of(&service.trust_domain));
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(provider, trust, rules)));
    let mut config = match credential {
        Credential::Token(_) => builder.with_no_client_auth(),
        Credential::Certificate(own) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own.key.clone())))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
