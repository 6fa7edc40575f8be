//! TLS of the control plane's port: its own certificate, and client certificates checked against the mesh's root.
//!
//! A client certificate is optional in the handshake, because a workload that joins has none yet. What is shown must be
//! good: a chain to the root, valid now, for client use, naming exactly one workload of the trust domain.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::{Error, RootCertStore, ServerConfig};
use rustls_pki_types::CertificateDer;
use tls::{ClientVerifier, HandshakeClock, Peer, PeerRules};

use crate::ca::{Authority, ServingCertificate};
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
    let verifier = Arc::new(caller_verifier(&authority, &provider)?);
    let clock = Arc::new(HandshakeClock(authority.clock().clone()));
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

fn caller_verifier(
    authority: &Authority,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientVerifier, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(|error| TlsError(error.to_string()))?;
    let rules = Arc::new(PeerRules::workload_of(authority.trust_domain()));
    let verifier = ClientVerifier::new(provider.clone(), Arc::new(roots), rules, false).map_err(TlsError)?;
    Ok(verifier.observed(log_refusal))
}

/// The name is only what the certificate says; it helps to find the workload.
fn log_refusal(certificate: &CertificateDer<'_>, error: &Error) {
    let (claims, starts, ends) = match Peer::parse(certificate) {
        Ok(peer) => (peer.name().to_owned(), rfc3339(peer.not_before), rfc3339(peer.not_after)),
        Err(error) => (error.to_string(), String::new(), String::new()),
    };
    tracing::warn!(
        claims,
        starts,
        ends,
        "client certificate refused: {error}; if it has expired, the workload joins again with a token from `tulled \
         token create`"
    );
}
