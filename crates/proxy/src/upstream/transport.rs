//! How the connections to a host are made: plaintext or TLS.

use std::sync::Arc;

use config::model::{CertificateSource, TransportSocket};

use crate::tls::secrets::SDS_DEFAULT;
use crate::tls::{ClientTls, Secrets, TlsConfigError};

/// A transport socket ready for use.
#[derive(Debug)]
pub enum Transport {
    /// Plaintext.
    Plain,
    /// TLS.
    Tls {
        /// Does the handshake.
        client: Box<ClientTls>,
        /// We show the workload's own certificate: the other side is a mesh peer.
        mesh: bool,
    },
}

impl Transport {
    /// Builds what the configuration says.
    ///
    /// # Errors
    /// The TLS context cannot be used; path and reason.
    pub fn new(socket: &TransportSocket, secrets: &Arc<Secrets>) -> Result<Self, TlsConfigError> {
        match socket {
            TransportSocket::RawBuffer => Ok(Transport::Plain),
            TransportSocket::Tls(options) => Ok(Transport::Tls {
                client: Box::new(ClientTls::new(options, secrets)?),
                mesh: matches!(&options.certificate, Some(CertificateSource::Sds(name)) if &**name == SDS_DEFAULT),
            }),
        }
    }

    /// Whether the other side is a mesh peer: both sides are verified.
    pub fn is_mesh(&self) -> bool {
        matches!(self, Transport::Tls { mesh: true, .. })
    }
}
