//! The two verifiers handed to the TLS library: the chain by webpki against our roots, then our rules on the leaf.
//! The host name is never consulted: in the mesh the name is the SPIFFE id, and webpki does not match URI names.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use super::rules::PeerRules;

/// The most certificates that a peer may send: chain building is quadratic at worst (RUSTSEC-2023-0053).
pub const MAX_CHAIN: usize = 10;

/// Wraps a reason of ours into the library's error, so that the peer gets an alert and we get the reason back.
pub fn refused(reason: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

/// A peer that sends a chain of unreasonable length.
#[derive(Debug, thiserror::Error)]
#[error("the peer sent {0} certificates; at most {MAX_CHAIN} are accepted")]
pub struct ChainTooLong(pub usize);

/// Verifies servers that we call.
#[derive(Debug)]
pub struct ServerVerifier {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    rules: Arc<PeerRules>,
}

impl ServerVerifier {
    /// A verifier against `roots` and `rules`.
    pub fn new(provider: Arc<CryptoProvider>, roots: Arc<RootCertStore>, rules: Arc<PeerRules>) -> Self {
        ServerVerifier { provider, roots, rules }
    }
}

impl ServerCertVerifier for ServerVerifier {
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
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
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

/// Verifies clients that call us.
#[derive(Debug)]
pub struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    rules: Arc<PeerRules>,
}

impl ClientVerifier {
    /// A verifier against `roots` and `rules`. `required`: a client without a certificate is refused.
    ///
    /// # Errors
    /// There are no roots.
    pub fn new(
        provider: Arc<CryptoProvider>,
        roots: Arc<RootCertStore>,
        rules: Arc<PeerRules>,
        required: bool,
    ) -> Result<Self, String> {
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        let builder = if required { builder } else { builder.allow_unauthenticated() };
        let chain = builder.build().map_err(|error| error.to_string())?;
        Ok(ClientVerifier { chain, rules })
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(refused(ChainTooLong(intermediates.len() + 1)));
        }
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        self.rules.check(end_entity).map_err(refused)?;
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
