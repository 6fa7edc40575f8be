//! What a decision may look at.

use std::net::{IpAddr, SocketAddr};

/// A request, after its path was made canonical.
pub trait RequestView {
    /// The method, as received.
    fn method(&self) -> &[u8];
    /// `http` or `https`.
    fn scheme(&self) -> &str;
    /// Host and perhaps port: `:authority`, or the Host header of HTTP/1.
    fn authority(&self) -> &[u8];
    /// Path and query, `/a?b=c`.
    fn target(&self) -> &[u8];
    /// All values of a header in order; `name` is in lower case and compared without regard to case. Pseudo headers and
    /// `host` are never asked for.
    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a;

    /// The path without query and fragment.
    fn path(&self) -> &[u8] {
        let target = self.target();
        let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
        &target[..end]
    }

    /// The query without its question mark.
    fn query(&self) -> Option<&[u8]> {
        let target = self.target();
        let target = &target[..target.iter().position(|byte| *byte == b'#').unwrap_or(target.len())];
        target.iter().position(|byte| *byte == b'?').map(|begin| &target[begin + 1..])
    }
}

/// A connection and the peer at its other end.
pub trait PeerView {
    /// The peer showed a certificate and it was verified.
    fn is_authenticated(&self) -> bool;
    /// URI SANs of the verified certificate.
    fn uri_sans(&self) -> impl Iterator<Item = &str>;
    /// DNS SANs of the verified certificate.
    fn dns_sans(&self) -> impl Iterator<Item = &str>;
    /// Subject of the verified certificate (RFC 2253); empty: none.
    fn subject(&self) -> &str;
    /// Address of the connection's other end.
    fn direct_remote_ip(&self) -> IpAddr;
    /// Address of the client: the same, or from `x-forwarded-for` when that is trusted.
    fn remote_ip(&self) -> IpAddr;
    /// The address that the client connected to.
    fn destination(&self) -> SocketAddr;
    /// SNI; empty: none.
    fn requested_server_name(&self) -> &str;
}
