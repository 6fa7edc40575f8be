//! Who the control plane is: on first contact the one whose root key is in the join token, later one under the trust
//! bundle. In both cases its certificate has exactly one SPIFFE id, the control plane's.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// The most certificates of a server's chain.
const MAX_CHAIN: usize = 8;

/// SHA-256 of a root's SubjectPublicKeyInfo.
pub type Pin = [u8; 32];

/// What the server's chain must lead to.
#[derive(Debug)]
pub enum Trust {
    /// A root that the server sends itself, with this key.
    Pin(Pin),
    /// Roots known before.
    Roots(RootCertStore),
}

/// Verifies the control plane's certificate.
#[derive(Debug)]
pub struct ControlPlaneVerifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    identity: String,
}

impl ControlPlaneVerifier {
    /// Accepts the control plane of `trust_domain` under `trust`.
    pub fn new(provider: Arc<CryptoProvider>, trust: Trust, trust_domain: &str) -> Self {
        let identity = format!("spiffe://{trust_domain}/ns/istio-system/sa/tulled");
        ControlPlaneVerifier { provider, trust, identity }
    }
}

/// The pin of a certificate.
///
/// # Errors
/// It cannot be parsed.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<Pin, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("the root certificate cannot be parsed: {error}"))?;
    let key = parsed.tbs_certificate.subject_pki.raw;
    let mut pin = [0; 32];
    pin.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key).as_ref());
    Ok(pin)
}

/// The one SPIFFE id of a certificate.
///
/// # Errors
/// It has none, or several.
pub fn spiffe_of(certificate: &CertificateDer<'_>) -> Result<String, String> {
    let (_, parsed) = X509Certificate::from_der(certificate)
        .map_err(|error| format!("the certificate cannot be parsed: {error}"))?;
    let names = parsed.subject_alternative_name().map_err(|error| format!("its names: {error}"))?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris.as_slice() {
        [uri] if uri.starts_with("spiffe://") => Ok((*uri).to_owned()),
        _ => Err(format!("the certificate must have exactly one URI, a SPIFFE id; it has {uris:?}")),
    }
}

fn refused(reason: String) -> Error {
    Error::General(reason)
}

impl ServerCertVerifier for ControlPlaneVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(refused(format!("the server's chain has more than {MAX_CHAIN} certificates")));
        }
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        match &self.trust {
            Trust::Roots(roots) => {
                verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
            }
            Trust::Pin(pin) => {
                let Some((root, between)) = intermediates.split_last() else {
                    return Err(refused(
                        "the server sent no root certificate to compare with the join token's".to_owned(),
                    ));
                };
                if pin_of(root).map_err(refused)? != *pin {
                    return Err(refused(
                        "the server's root key is not the one of the join token: the token is of another mesh, or \
                         something between here and the control plane terminates TLS"
                            .to_owned(),
                    ));
                }
                let mut roots = RootCertStore::empty();
                roots.add(root.clone().into_owned())?;
                verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, now, algorithms)?;
            }
        }
        let found = spiffe_of(end_entity).map_err(refused)?;
        if found != self.identity {
            return Err(refused(format!("the server is {found}; the control plane is {}", self.identity)));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
