//! Asking the control plane for a certificate: with the join token at first, with the own certificate later.
//!
//! A client of its own beside `tulle-proxy`'s: the command line never imports the data plane.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper_util::rt::TokioIo;
use protos::istio_ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tls::{HandshakeError, JoinToken, PeerRules, RootPin, ServerVerifier, Side, Trust};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

use super::identity::{Identity, roots};

/// How long the whole exchange may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Where to ask, for what.
#[derive(Debug, Clone)]
pub struct Service {
    /// `host:port` of `tulled`'s TLS port.
    pub control: String,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// Lifetime to ask for; the control plane may shorten it.
    pub lifetime: Duration,
}

/// What proves who asks.
pub enum Credential<'a> {
    /// A join token.
    Token(&'a JoinToken),
    /// The own, still valid certificate.
    Own(&'a Identity),
}

/// Has a new key signed. The key is made here.
///
/// # Errors
/// The step that failed, where, and why.
pub async fn request(
    service: &Service,
    credential: &Credential<'_>,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> Result<Identity, String> {
    let at = |error: &dyn std::fmt::Display| format!("certificate service at {}: {error}", service.control);
    let exchange = exchange(service, credential, provider, now);
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(result) => result.map_err(|error| at(&error)),
        Err(_) => Err(at(&format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

async fn exchange(
    service: &Service,
    credential: &Credential<'_>,
    provider: &Arc<CryptoProvider>,
    now: SystemTime,
) -> Result<Identity, String> {
    let text = |error: &dyn std::error::Error| chain_of(error);
    let key = KeyPair::generate().map_err(|error| text(&error))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(&key).and_then(|csr| csr.pem()).map_err(|error| text(&error))?;

    let channel = connect(service, client_config(service, credential, provider)?).await?;
    let validity_duration = i64::try_from(service.lifetime.as_secs()).unwrap_or(i64::MAX);
    let mut call = tonic::Request::new(IstioCertificateRequest { csr, validity_duration, metadata: None });
    if let Credential::Token(token) = credential {
        let mut value = MetadataValue::try_from(format!("Bearer {}", token.bearer()))
            .map_err(|_| "the join token is not text".to_owned())?;
        value.set_sensitive(true);
        call.metadata_mut().insert("authorization", value);
    }
    let answer = IstioCertificateServiceClient::new(channel)
        .create_certificate(call)
        .await
        .map_err(|status| format!("{:?}: {}", status.code(), status.message()))?
        .into_inner()
        .cert_chain;
    let Some((root, chain)) = answer.split_last().filter(|(_, chain)| !chain.is_empty()) else {
        return Err(format!("the answer has {} parts; a leaf and a root are needed", answer.len()));
    };
    if let Credential::Token(token) = credential {
        let pin = token.pin();
        let pinned = CertificateDer::pem_slice_iter(root.as_bytes()).any(|root| {
            root.is_ok_and(|root| RootPin::of_certificate(&root).is_ok_and(|found| found == pin))
        });
        if !pinned {
            return Err("the trust bundle of the answer does not hold the join token's root".to_owned());
        }
    }
    let parts = (key.serialize_pem(), chain.join("\n"), root.clone());
    Identity::check(provider, parts, &service.trust_domain, now)
}

fn client_config(
    service: &Service,
    credential: &Credential<'_>,
    provider: &Arc<CryptoProvider>,
) -> Result<ClientConfig, String> {
    let trust = match credential {
        Credential::Token(token) => Trust::Pin(token.pin()),
        Credential::Own(own) => Trust::Roots(Arc::new(roots(&own.roots_pem)?)),
    };
    let rules = Arc::new(PeerRules::control_plane_of(&service.trust_domain));
    let verifier = ServerVerifier::new(provider.clone(), trust, rules);
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credential {
        Credential::Token(_) => builder.with_no_client_auth(),
        Credential::Own(own) => {
            let key = own.certified_key(provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// One gRPC connection over our own TLS.
async fn connect(service: &Service, config: ClientConfig) -> Result<tonic::transport::Channel, String> {
    let address = &service.control;
    let tcp = TcpStream::connect(address).await.map_err(|error| format!("connection: {error}"))?;
    let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| "the host is neither a DNS name nor an IP address".to_owned())?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(|error| HandshakeError::from_io(address, Side::Upstream, &error, None).to_string())?;
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: http::Uri| {
        let once = stream.take();
        async move {
            once.map(TokioIo::new)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection is used up"))
        }
    });
    Endpoint::from_static("http://control-plane")
        .connect_with_connector(connector)
        .await
        .map_err(|error| chain_of(&error))
}

/// An error and its causes in one line.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
