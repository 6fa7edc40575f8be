//! Who is at the other end of a connection. Every request carries it as an extension; no handler looks elsewhere.

use std::net::SocketAddr;
use std::time::SystemTime;

use base::Spiffe;

/// The authenticated other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// From its client certificate, which chains to the root; `None`: it showed none.
    pub spiffe: Option<Spiffe>,
    /// When that certificate ends. A connection may outlive it: check before trusting `spiffe` on a long-lived one.
    pub not_after: Option<SystemTime>,
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is TLS; `false` only on the plaintext port, which binds to loopback.
    pub tls: bool,
}
