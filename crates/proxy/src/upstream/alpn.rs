//! Which protocol is spoken on a connection: what the cluster says, what the client speaks, what the host chose.

use std::sync::Arc;

use config::model::HttpProtocol;

use crate::http::Version;

/// What a request needs of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speak {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// What the host chooses in the TLS handshake.
    Either,
}

impl Speak {
    /// For a request of a client that speaks `version`.
    pub fn of(protocol: HttpProtocol, version: Version) -> Self {
        match (protocol, version) {
            (HttpProtocol::Http1, _) => Speak::Http1,
            (HttpProtocol::Http2, _) | (HttpProtocol::Downstream, Version::Http2) => Speak::Http2,
            (HttpProtocol::Downstream, Version::Http10 | Version::Http11) => Speak::Http1,
            (HttpProtocol::Auto, _) => Speak::Either,
        }
    }

    /// The names to offer: those of the TLS context where it has any, in the form of the protocol that will be spoken (as
    /// Istio's filter for it does); else the usual ones.
    pub fn offer(self, configured: &[Arc<str>]) -> Vec<Vec<u8>> {
        if configured.is_empty() {
            let usual: &[&str] = match self {
                Speak::Http1 => &["http/1.1"],
                Speak::Http2 => &["h2"],
                Speak::Either => &["h2", "http/1.1"],
            };
            return usual.iter().map(|name| name.as_bytes().to_vec()).collect();
        }
        let mut names: Vec<Vec<u8>> = Vec::with_capacity(configured.len());
        for name in configured {
            let name = match (self, &**name) {
                (Speak::Http1, "h2") => "http/1.1",
                (Speak::Http1, "istio-h2") => "istio-http/1.1",
                (Speak::Http2, "http/1.1" | "http/1.0") => "h2",
                (Speak::Http2, "istio-http/1.1" | "istio-http/1.0") => "istio-h2",
                (_, other) => other,
            };
            if !names.iter().any(|have| have == name.as_bytes()) {
                names.push(name.as_bytes().to_vec());
            }
        }
        names
    }

    /// Whether HTTP/2 is spoken after a handshake in which the host chose `alpn`.
    ///
    /// # Errors
    /// The host chose a protocol that the cluster does not allow; what it chose.
    pub fn is_http2(self, alpn: Option<&str>) -> Result<bool, String> {
        match (self, alpn) {
            (_, Some("h2" | "istio-h2")) => Ok(true),
            (Speak::Http2, Some(other @ ("http/1.1" | "http/1.0" | "istio-http/1.1" | "istio-http/1.0"))) => {
                Err(format!("the host chose {other} by ALPN where the cluster wants HTTP/2"))
            }
            (Speak::Http2, _) => Ok(true),
            (Speak::Http1 | Speak::Either, _) => Ok(false),
        }
    }
}

/// The names to offer for bytes that nobody looks into. To a peer of the mesh HTTP is not announced, by which it would
/// choose its chain: a cluster of a port that declares no protocol is called both ways.
pub fn offer_for_bytes(configured: &[Arc<str>]) -> Vec<Vec<u8>> {
    let mesh = configured.iter().any(|name| &**name == "istio");
    let http = |name: &str| ["h2", "http/1.1", "http/1.0"].contains(&name.trim_start_matches("istio-"));
    let names = configured.iter().filter(|name| !(mesh && http(name)));
    names.map(|name| name.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(speak: Speak, configured: &[&str]) -> Vec<String> {
        let configured: Vec<Arc<str>> = configured.iter().map(|name| (*name).into()).collect();
        speak.offer(&configured).into_iter().map(|name| String::from_utf8(name).unwrap()).collect()
    }

    #[test]
    fn what_is_offered_can_be_spoken() {
        assert_eq!(offered(Speak::Http2, &[]), ["h2"]);
        assert_eq!(offered(Speak::Either, &[]), ["h2", "http/1.1"]);
        assert_eq!(offered(Speak::Http1, &["istio", "h2"]), ["istio", "http/1.1"]);
        assert_eq!(
            offered(Speak::Http2, &["istio-http/1.1", "istio", "http/1.1"]),
            ["istio-h2", "istio", "h2"]
        );
        assert_eq!(offered(Speak::Http2, &["h2", "http/1.1"]), ["h2"]);
        assert_eq!(offered(Speak::Either, &["istio", "h2"]), ["istio", "h2"]);
    }

    #[test]
    fn bytes_are_not_announced_as_http_to_the_mesh() {
        let offered = |configured: &[&str]| {
            let configured: Vec<Arc<str>> = configured.iter().map(|name| (*name).into()).collect();
            let names = offer_for_bytes(&configured).into_iter();
            names.map(|name| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(offered(&["istio-http/1.1", "istio", "http/1.1"]), ["istio"]);
        assert_eq!(offered(&["h2", "http/1.1"]), ["h2", "http/1.1"], "as somebody wrote it");
    }

    #[test]
    fn the_clients_protocol_decides_only_where_the_cluster_says_so() {
        assert_eq!(Speak::of(HttpProtocol::Downstream, Version::Http2), Speak::Http2);
        assert_eq!(Speak::of(HttpProtocol::Downstream, Version::Http10), Speak::Http1);
        assert_eq!(Speak::of(HttpProtocol::Http1, Version::Http2), Speak::Http1);
    }

    #[test]
    fn a_choice_that_does_not_fit_is_an_error() {
        assert_eq!(Speak::Either.is_http2(Some("istio-h2")), Ok(true));
        assert_eq!(Speak::Either.is_http2(Some("http/1.1")), Ok(false));
        assert_eq!(Speak::Http2.is_http2(Some("istio")), Ok(true));
        assert_eq!(Speak::Http2.is_http2(None), Ok(true));
        assert!(Speak::Http2.is_http2(Some("http/1.1")).unwrap_err().contains("http/1.1"));
    }
}
