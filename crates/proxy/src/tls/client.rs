//! TLS towards an upstream: one `UpstreamTlsContext`, rebuilt when the workload's secrets change.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use config::model::UpstreamTls;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use ::tls::{HandshakeError, PeerRules, ServerVerifier, Side, Trust};

use super::generation::Generation;
use super::secrets::{SecretSet, Secrets};
use super::session::Session;
use super::source::{KeySource, RootSource, TlsConfigError, local, trust, versions};

/// Sessions that can be resumed, per TLS context.
const SESSIONS: usize = 8;

/// Calls upstreams as one `UpstreamTlsContext` says.
#[derive(Debug)]
pub struct ClientTls {
    secrets: Arc<Secrets>,
    options: UpstreamTls,
    name: ServerName<'static>,
    key: Option<KeySource>,
    roots: RootSource,
    rules: Arc<PeerRules>,
    built: ArcSwapOption<Built>,
}

#[derive(Debug)]
struct Built {
    generation: Generation,
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// Checks a context and reads its files.
    ///
    /// # Errors
    /// Path and reason: a file or secret that is not there, a server name that is none.
    pub fn new(options: &UpstreamTls, secrets: &Arc<Secrets>) -> Result<ClientTls, TlsConfigError> {
        versions(&options.parameters)?;
        let (roots, rules) = trust(&options.trust)?;
        let name = match &*options.sni {
            // Without SNI the library still wants a name; an IP address is never sent.
            "" => ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into()),
            sni => ServerName::try_from(sni.to_owned())
                .map_err(|_| TlsConfigError::new("sni", format!("\"{sni}\" is not a DNS name")))?,
        };
        let key = options.certificate.as_ref().map(|source| KeySource::new(source, secrets)).transpose()?;
        Ok(ClientTls {
            secrets: secrets.clone(),
            options: options.clone(),
            name,
            key,
            roots,
            rules,
            built: ArcSwapOption::empty(),
        })
    }

    /// Does the handshake with an upstream; `peer` is how messages call it.
    ///
    /// # Errors
    /// Peer, reason and blame. The connection is closed.
    pub async fn connect<IO>(
        &self,
        io: IO,
        peer: impl ToString + Copy,
        limit: Option<Duration>,
    ) -> Result<(TlsStream<IO>, Session), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let built = self.current().map_err(local(peer, Side::Upstream))?;
        let config = built.config.clone();
        self.handshake(io, peer, limit, &built, config).await
    }

    /// The same, with the ALPN names that `offer` makes from the configured ones.
    ///
    /// # Errors
    /// Peer, reason and blame. The connection is closed.
    pub async fn connect_offering<IO>(
        &self,
        io: IO,
        peer: impl ToString + Copy,
        offer: &impl Fn(&[Arc<str>]) -> Vec<Vec<u8>>,
    ) -> Result<(TlsStream<IO>, Session), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let built = self.current().map_err(local(peer, Side::Upstream))?;
        let offered = offer(&self.options.alpn);
        let config = if offered == built.config.alpn_protocols {
            built.config.clone()
        } else {
            let mut config = ClientConfig::clone(&built.config);
            config.alpn_protocols = offered;
            Arc::new(config)
        };
        self.handshake(io, peer, None, &built, config).await
    }

    async fn handshake<IO>(
        &self,
        io: IO,
        peer: impl ToString + Copy,
        limit: Option<Duration>,
        built: &Built,
        config: Arc<ClientConfig>,
    ) -> Result<(TlsStream<IO>, Session), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = TlsConnector::from(config).connect(self.name.clone(), io);
        let result = match limit {
            None => handshake.await,
            Some(limit) => tokio::time::timeout(limit, handshake)
                .await
                .map_err(|_| HandshakeError::timeout(peer, Side::Upstream, limit))?,
        };
        let now = self.secrets.now();
        let stream = result.map_err(|error| {
            HandshakeError::from_io(peer, Side::Upstream, &error, built.generation.validity(now))
        })?;
        let (_, connection) = stream.get_ref();
        let sni = Some(&*self.options.sni).filter(|sni| !sni.is_empty());
        let session = Session::collect(connection, Some(&self.rules), built.generation.local_uri(), sni, now)
            .map_err(|reason| HandshakeError::peer(peer, Side::Upstream, &reason))?;
        built.generation.opened(&session);
        Ok((stream, session))
    }

    /// The library's configuration for the current secrets, with other ALPN protocols: for gRPC channels.
    ///
    /// # Errors
    /// There is no identity yet.
    pub fn config_with_alpn(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, String> {
        let mut config = ClientConfig::clone(&*self.current()?.config);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }

    fn current(&self) -> Result<Arc<Built>, String> {
        let built = self.built.load();
        if let Some(built) = built.as_ref().filter(|built| built.generation.is_current(&self.secrets)) {
            return Ok(built.clone());
        }
        let current = self.secrets.current();
        let built = Arc::new(self.build(current.as_deref())?);
        self.built.store(Some(built.clone()));
        Ok(built)
    }

    fn build(&self, current: Option<&SecretSet>) -> Result<Built, String> {
        let provider = self.secrets.provider().clone();
        let versions = versions(&self.options.parameters).map_err(|error| error.to_string())?;
        let verifier = ServerVerifier::new(
            provider.clone(),
            Trust::Roots(self.roots.roots(current)?),
            self.rules.clone(),
        );
        let builder = ClientConfig::builder_with_details(provider, self.secrets.time_provider())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let key = self.key.as_ref().map(|source| source.key(current)).transpose()?;
        let generation = Generation::new(current, key.as_deref());
        let mut config = match key {
            None => builder.with_no_client_auth(),
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        };
        config.alpn_protocols = self.options.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.enable_sni = !self.options.sni.is_empty();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Ok(Built { generation, config: Arc::new(config) })
    }
}
