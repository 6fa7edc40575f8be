//! A request and its connection in the eyes of `decide`.

use std::net::{IpAddr, SocketAddr};

use decide::{PeerView, RequestView};

use crate::http::RequestHead;
use crate::tls::Peer;

/// A request's head, its path in canonical form.
#[derive(Debug, Clone, Copy)]
pub struct HeadView<'a>(pub &'a RequestHead);

impl RequestView for HeadView<'_> {
    fn method(&self) -> &[u8] {
        self.0.method.as_str().as_bytes()
    }

    fn scheme(&self) -> &str {
        self.0.scheme.as_str()
    }

    fn authority(&self) -> &[u8] {
        &self.0.authority
    }

    fn target(&self) -> &[u8] {
        &self.0.target
    }

    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0.headers.get_all(name)
    }
}

/// A downstream connection and who is at its other end.
#[derive(Debug, Clone, Copy)]
pub struct CallerView<'a> {
    /// The client's verified certificate.
    pub peer: Option<&'a Peer>,
    /// The other end of the connection.
    pub direct_remote: IpAddr,
    /// The client, where `x-forwarded-for` is trusted.
    pub remote: IpAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// SNI; empty without.
    pub server_name: &'a str,
}

impl PeerView for CallerView<'_> {
    fn is_authenticated(&self) -> bool {
        self.peer.is_some()
    }

    fn uri_sans(&self) -> impl Iterator<Item = &str> {
        self.peer.into_iter().flat_map(|peer| peer.uri_sans.iter().map(String::as_str))
    }

    fn dns_sans(&self) -> impl Iterator<Item = &str> {
        self.peer.into_iter().flat_map(|peer| peer.dns_sans.iter().map(String::as_str))
    }

    fn subject(&self) -> &str {
        self.peer.map_or("", |peer| peer.subject.as_str())
    }

    fn direct_remote_ip(&self) -> IpAddr {
        self.direct_remote
    }

    fn remote_ip(&self) -> IpAddr {
        self.remote
    }

    fn destination(&self) -> SocketAddr {
        self.local
    }

    fn requested_server_name(&self) -> &str {
        self.server_name
    }
}
