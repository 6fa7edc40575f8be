//! A workload as the control plane's ports see it: TLS, join token, certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use protos::istio_ca::{IstioCertificateRequest, IstioCertificateServiceClient};
use rcgen::KeyPair;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::ca::Authority;

/// A certificate with its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

/// A CSR without any name.
pub fn csr() -> (KeyPair, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let csr = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, csr)
}

/// A certificate of the payment service, without asking over the network.
pub fn leaf(authority: &Authority, validity: Option<Duration>) -> Leaf {
    let (key, csr) = csr();
    let caller = "spiffe://cluster.local/ns/production/sa/payment".parse().unwrap();
    let issued = authority.sign(&csr, &caller, validity).unwrap();
    Leaf { chain: certificates(&issued.chain), key }
}

fn certificates(chain: &[String]) -> Vec<CertificateDer<'static>> {
    chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).collect()
}

/// TLS that trusts `root` and shows `leaf`.
pub fn connector(root: &CertificateDer<'static>, leaf: Option<Leaf>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match leaf {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.serialize_der()));
            builder.with_client_auth_cert(leaf.chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// A gRPC channel over that TLS.
pub async fn channel(
    address: SocketAddr,
    connector: TlsConnector,
) -> Result<Channel, tonic::transport::Error> {
    let connect = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = "localhost".try_into().map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://tulled").connect_with_connector(connect).await
}

/// Asks for a certificate; also returns the chain in PEM.
pub async fn join(channel: Channel, token: Option<&str>) -> Result<(Leaf, Vec<String>), Status> {
    let (key, csr) = csr();
    let mut request =
        tonic::Request::new(IstioCertificateRequest { csr, ..IstioCertificateRequest::default() });
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let chain = IstioCertificateServiceClient::new(channel).create_certificate(request).await?;
    let chain = chain.into_inner().cert_chain;
    Ok((Leaf { chain: certificates(&chain), key }, chain))
}
