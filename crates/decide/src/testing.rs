//! A request and a peer for tests.

use crate::view::{PeerView, RequestView};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: &'static str,
    pub authority: String,
    pub target: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

impl Request {
    /// A GET.
    pub fn get(authority: &str, target: &str) -> Self {
        Request { method: "GET", authority: authority.into(), target: target.into(), headers: Vec::new() }
    }

    /// With one more header line.
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.as_bytes().to_vec()));
        self
    }
}

impl RequestView for Request {
    fn method(&self) -> &[u8] {
        self.method.as_bytes()
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }
    fn target(&self) -> &[u8] {
        self.target.as_bytes()
    }
    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }
}

/// A peer.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    pub uri: Vec<String>,
    pub dns: Vec<String>,
    pub remote: Option<IpAddr>,
}

impl Peer {
    /// A peer of the mesh.
    pub fn spiffe(uri: &str) -> Self {
        Peer { uri: vec![uri.into()], ..Peer::default() }
    }
}

impl PeerView for Peer {
    fn is_authenticated(&self) -> bool {
        !self.uri.is_empty() || !self.dns.is_empty()
    }
    fn uri_sans(&self) -> impl Iterator<Item = &str> {
        self.uri.iter().map(String::as_str)
    }
    fn dns_sans(&self) -> impl Iterator<Item = &str> {
        self.dns.iter().map(String::as_str)
    }
    fn subject(&self) -> &str {
        ""
    }
    fn direct_remote_ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }
    fn remote_ip(&self) -> IpAddr {
        self.remote.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }
    fn destination(&self) -> SocketAddr {
        SocketAddr::from(([127, 2, 0, 1], 8080))
    }
    fn requested_server_name(&self) -> &str {
        "outbound_.8080_._.payment"
    }
}
