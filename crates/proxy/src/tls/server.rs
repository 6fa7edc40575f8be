//! TLS termination: one `DownstreamTlsContext`, rebuilt when the workload's secrets change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use config::model::DownstreamTls;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{Acceptor, ClientHello, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use ::tls::{ClientVerifier, HandshakeError, PeerRules, Side};

use super::generation::Generation;
use super::secrets::{SecretSet, Secrets};
use super::session::Session;
use super::source::{KeySource, RootSource, TlsConfigError, local, trust, versions};

/// Sessions that clients can resume, per TLS context.
const SESSIONS: usize = 64;

/// Terminates TLS as one `DownstreamTlsContext` says.
#[derive(Debug)]
pub struct ServerTls {
    secrets: Arc<Secrets>,
    options: DownstreamTls,
    key: KeySource,
    trust: Option<(RootSource, Arc<PeerRules>)>,
    built: ArcSwapOption<Built>,
}

/// What is made of one generation of secrets. A new generation gets a new session cache, so that no session outlives
/// the trust bundle it was verified with.
#[derive(Debug)]
struct Built {
    generation: Generation,
    with_alpn: Arc<ServerConfig>,
    without_alpn: Arc<ServerConfig>,
}

impl ServerTls {
    /// Checks a context and reads its files.
    ///
    /// # Errors
    /// Path and reason: a file or secret that is not there, a client certificate demanded without roots to verify it.
    pub fn new(options: &DownstreamTls, secrets: &Arc<Secrets>) -> Result<ServerTls, TlsConfigError> {
        versions(&options.parameters)?;
        let trust = options.trust.as_ref().map(trust).transpose()?;
        if options.require_client_certificate && trust.is_none() {
            return Err(TlsConfigError::new(
                "require_client_certificate",
                "a client certificate is demanded, and there is no validation_context to verify it with",
            ));
        }
        let tls = ServerTls {
            secrets: secrets.clone(),
            options: options.clone(),
            key: KeySource::new(&options.certificate, secrets)?,
            trust,
            built: ArcSwapOption::empty(),
        };
        Ok(tls)
    }

    /// Does the handshake on a connection that begins with a ClientHello.
    ///
    /// # Errors
    /// Peer, reason and blame. The connection is closed.
    pub async fn accept<IO>(
        &self,
        io: IO,
        peer: impl ToString + Copy,
        limit: Option<Duration>,
    ) -> Result<(TlsStream<IO>, Session), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let built = self.current().map_err(local(peer, Side::Downstream))?;
        let failed = |error: std::io::Error| {
            let own = built.generation.validity(self.secrets.now());
            HandshakeError::from_io(peer, Side::Downstream, &error, own)
        };
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), io).await.map_err(failed)?;
            let config = built.config_for(&start.client_hello());
            start.into_stream(config).await.map_err(failed)
        };
        let stream = match limit {
            None => handshake.await?,
            Some(limit) => tokio::time::timeout(limit, handshake)
                .await
                .map_err(|_| HandshakeError::timeout(peer, Side::Downstream, limit))??,
        };
        let (_, connection) = stream.get_ref();
        let rules = self.trust.as_ref().map(|(_, rules)| &**rules);
        let sni = connection.server_name();
        let (own, now) = (built.generation.local_uri(), self.secrets.now());
        let session = Session::collect(connection, rules, own, sni, now)
            .map_err(|reason| HandshakeError::peer(peer, Side::Downstream, &reason))?;
        built.generation.opened(&session);
        Ok((stream, session))
    }

    fn current(&self) -> Result<Arc<Built>, String> {
        let built = self.built.load();
        if let Some(built) = built.as_ref().filter(|built| built.generation.is_current(&self.secrets)) {
            return Ok(built.clone());
        }
        // Two workers may build at the same time; the later store wins, and both are equal.
        let current = self.secrets.current();
        let built = Arc::new(self.build(current.as_deref())?);
        self.built.store(Some(built.clone()));
        Ok(built)
    }

    fn build(&self, current: Option<&SecretSet>) -> Result<Built, String> {
        let provider: Arc<CryptoProvider> = self.secrets.provider().clone();
        let versions = versions(&self.options.parameters).map_err(|error| error.to_string())?;
        let verifier = match &self.trust {
            None => WebPkiClientVerifier::no_client_auth(),
            Some((roots, rules)) => Arc::new(ClientVerifier::new(
                provider.clone(),
                roots.roots(current)?,
                rules.clone(),
                self.options.require_client_certificate,
            )?),
        };
        let key = self.key.key(current)?;
        let generation = Generation::new(current, Some(&key));
        let mut config = ServerConfig::builder_with_details(provider, self.secrets.time_provider())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        config.send_tls13_tickets = 1;
        let without_alpn = Arc::new(config.clone());
        config.alpn_protocols = self.options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(Built { generation, with_alpn: Arc::new(config), without_alpn })
    }
}

impl Built {
    /// Envoy goes on without ALPN when no protocol is common; the TLS library would refuse (RFC 7301, section 3.2).
    fn config_for(&self, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
        let common = hello.alpn().is_some_and(|mut offered| {
            offered.any(|name| self.with_alpn.alpn_protocols.iter().any(|ours| ours.as_slice() == name))
        });
        if common { self.with_alpn.clone() } else { self.without_alpn.clone() }
    }
}
