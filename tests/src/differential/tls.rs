//! Certificates of a run: a mesh root, the proxy's certificate, and clients' with the SPIFFE id that a step names.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// Identity of the proxy's own certificate.
const OWN: &str = "spiffe://cluster.local/ns/shop/sa/server";

/// The roots and the proxy's certificate.
pub struct Certificates {
    root: Authority,
    /// Signs identities of strangers: nobody trusts it.
    other: Authority,
}

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    fn sign(&self, identity: &str) -> (rcgen::Certificate, KeyPair) {
        let mut params = named("workload");
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity).unwrap())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Certificates {
    /// New roots.
    pub fn new() -> Certificates {
        Certificates { root: Authority::new("mesh root"), other: Authority::new("other root") }
    }

    /// A `transport_socket` with the proxy's certificate and the root, whose files are written to `folder`.
    pub fn transport_socket(&self, context: &str, folder: &Path) -> Value {
        let (certificate, key) = self.root.sign(OWN);
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            json!({ "filename": path })
        };
        json!({
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{context}"),
                "common_tls_context": {
                    "tls_certificates": [{
                        "certificate_chain": write("own.pem", certificate.pem()),
                        "private_key": write("own.key", key.serialize_pem()),
                    }],
                    "validation_context": { "trusted_ca": write("root.pem", self.root.certificate.pem()) },
                },
            },
        })
    }

    fn chain(&self, text: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (authority, identity) = match text.strip_prefix("stranger:") {
            Some(identity) => (&self.other, identity),
            None => (&self.root, text),
        };
        let (certificate, key) = authority.sign(identity);
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        (chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    /// The TLS side of an upstream with that SPIFFE id. It asks for a certificate of the mesh.
    pub fn server(&self, identity: &str, alpn: &[String]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(self.root.certificate.der().to_vec())).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .unwrap();
        let (chain, key) = self.chain(identity);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.clone().into_bytes()).collect();
        Arc::new(config)
    }

    /// A TLS connection of a client.
    pub fn connect(&self, stream: TcpStream, wishes: &Wishes) -> Stream {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = match wishes.certificate {
            None => builder.with_no_client_auth(),
            Some(text) => {
                let (chain, key) = self.chain(text);
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = wishes.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        let name = wishes.server_name.unwrap_or("server.shop").to_owned();
        let connection =
            ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
        Stream::Tls(Box::new(StreamOwned::new(connection, stream)))
    }
}

/// How a client speaks TLS.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes<'a> {
    /// SPIFFE id of its certificate; with the prefix `stranger:` nobody trusts it.
    pub certificate: Option<&'a str>,
    /// Protocols that it offers.
    pub alpn: &'a [String],
    /// The name that it asks for.
    pub server_name: Option<&'a str>,
}

impl Default for Certificates {
    fn default() -> Self {
        Certificates::new()
    }
}

/// The client does not verify the proxy: that is not what these cases are about.
#[derive(Debug)]
pub struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection of the client or of an upstream.
pub enum Stream {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS, as a client.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS, as a server.
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Stream {
    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => &stream.sock,
            Stream::Server(stream) => &stream.sock,
        }
    }

    /// The protocol that was agreed on by ALPN, after the handshake.
    pub fn alpn(&mut self) -> Option<String> {
        let name = match self {
            Stream::Plain(_) => None,
            Stream::Tls(stream) => {
                // A refused handshake shows itself in what follows.
                let _ = stream.conn.complete_io(&mut stream.sock);
                stream.conn.alpn_protocol()
            }
            Stream::Server(stream) => stream.conn.alpn_protocol(),
        };
        name.map(|name| String::from_utf8_lossy(name).into_owned())
    }

    /// Closes the writing half.
    pub fn half_close(&mut self) {
        match self {
            Stream::Plain(_) => {}
            Stream::Tls(stream) => stream.conn.send_close_notify(),
            Stream::Server(stream) => stream.conn.send_close_notify(),
        }
        // The peer may have gone.
        let _ = self.flush().and_then(|()| self.socket().shutdown(Shutdown::Write));
    }

    /// Whether the peer showed a certificate, for a server with TLS.
    pub fn peer_has_certificate(&self) -> Option<bool> {
        match self {
            Stream::Server(stream) => Some(stream.conn.peer_certificates().is_some()),
            _ => None,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            Stream::Tls(stream) => stream.read(buffer),
            Stream::Server(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(buffer),
            Stream::Tls(stream) => stream.write(buffer),
            Stream::Server(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
            Stream::Server(stream) => stream.flush(),
        }
    }
}
