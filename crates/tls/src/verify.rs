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

use crate::pin::{PinError, RootPin};
use crate::rules::PeerRules;

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

/// What a server's chain must lead to.
#[derive(Debug, Clone)]
pub enum Trust {
    /// Roots known before.
    Roots(Arc<RootCertStore>),
    /// The root that the server sends itself as the last of its chain, with this key: first contact with a join token.
    Pin(RootPin),
}

/// Checks that `chain` (a leaf, then intermediates) leads to one of `roots` at `now`.
///
/// # Errors
/// The library's: unknown issuer, expired, not valid yet, malformed.
pub fn chain_leads_to(
    roots: &RootCertStore,
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    now: UnixTime,
    provider: &CryptoProvider,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, algorithms)
}

/// Verifies servers that we call.
#[derive(Debug)]
pub struct ServerVerifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    rules: Arc<PeerRules>,
}

impl ServerVerifier {
    /// A verifier against `trust` and `rules`.
    pub fn new(provider: Arc<CryptoProvider>, trust: Trust, rules: Arc<PeerRules>) -> Self {
        ServerVerifier { provider, trust, rules }
    }

    fn check_chain(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let pin = match &self.trust {
            Trust::Roots(roots) => return chain_leads_to(roots, leaf, rest, now, &self.provider),
            Trust::Pin(pin) => pin,
        };
        let Some((root, between)) = rest.split_last() else { return Err(refused(PinError::NoRoot)) };
        let found = RootPin::of_certificate(root).map_err(refused)?;
        if found != *pin {
            let (found, expected) = (found.to_string(), pin.to_string());
            return Err(refused(PinError::OtherRoot { found, expected }));
        }
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        chain_leads_to(&roots, leaf, between, now, &self.provider)
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
        self.check_chain(end_entity, intermediates, now)?;
        self.rules.check(end_entity).map_err(refused)?;
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

/// Told of every refused certificate and why, in the handshake.
pub type Observer = fn(&CertificateDer<'_>, &Error);

/// Verifies clients that call us.
#[derive(Debug)]
pub struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    rules: Arc<PeerRules>,
    observer: Option<Observer>,
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
        Ok(ClientVerifier { chain, rules, observer: None })
    }

    /// Tells `observer` of every refusal, because the library's error does not say whose certificate it was.
    #[must_use]
    pub fn observed(self, observer: Observer) -> Self {
        ClientVerifier { observer: Some(observer), ..self }
    }

    fn check(
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
        self.check(end_entity, intermediates, now).inspect_err(|error| {
            if let Some(observer) = self.observer {
                observer(end_entity, error);
            }
        })
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
