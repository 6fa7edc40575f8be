//! First contact: the server is who the join token says, because its chain ends in the pinned root key.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::token::RootPin;
use crate::tls::rules::PeerRules;
use crate::tls::verify::{ChainTooLong, MAX_CHAIN, refused};

/// The server's root is not the one of the join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The server sent its leaf only.
    #[error("the server sent no root certificate, so it cannot be compared with the join token's root")]
    NoRoot,
    /// Another root.
    #[error(
        "the server's root key is {found}, and the join token was made for {expected}: the token is of another mesh, \
         or something between here and the control plane terminates TLS"
    )]
    OtherRoot {
        /// Of the server's last certificate.
        found: String,
        /// Of the token.
        expected: String,
    },
    /// The root cannot be read.
    #[error("the server's root certificate cannot be parsed: {0}")]
    Malformed(String),
}

/// Verifies a server against a pinned root key.
#[derive(Debug)]
pub struct PinnedVerifier {
    provider: Arc<CryptoProvider>,
    pin: RootPin,
    rules: PeerRules,
}

impl PinnedVerifier {
    /// A verifier that accepts servers with a name in `rules` whose chain ends in the root key `pin`.
    pub fn new(provider: Arc<CryptoProvider>, pin: RootPin, rules: PeerRules) -> Self {
        PinnedVerifier { provider, pin, rules }
    }
}

/// The pin of a certificate.
///
/// # Errors
/// It cannot be parsed.
pub fn pin_of(certificate: &CertificateDer<'_>) -> Result<RootPin, PinError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| PinError::Malformed(error.to_string()))?;
    Ok(RootPin::of(parsed.tbs_certificate.subject_pki.raw))
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(refused(ChainTooLong(intermediates.len() + 1)));
        }
        let Some((root, between)) = intermediates.split_last() else { return Err(refused(PinError::NoRoot)) };
        let found = pin_of(root).map_err(refused)?;
        if found != self.pin {
            return Err(refused(PinError::OtherRoot {
                found: found.to_string(),
                expected: self.pin.to_string(),
            }));
        }
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, now, algorithms)?;
        self.rules.check(end_entity).map_err(refused)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
