//! What is measured: which proxies in which role, under which load.

use super::peers::Peer;

/// What kind of load a scenario is under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP/1.1, connections are kept.
    Http1,
    /// HTTP/1.1, a new connection for every request.
    Http1Close,
    /// HTTP/2 without TLS, 100 streams on one connection.
    Http2,
    /// Bytes over TCP.
    Bytes,
}

/// One scenario.
#[derive(Debug)]
pub struct Scenario {
    /// Its name in tables.
    pub name: &'static str,
    /// In words.
    pub what: &'static str,
    /// Folder below `benches/`.
    pub folder: &'static str,
    /// Two proxies with mutual TLS between them, else one.
    pub pair: bool,
    /// The load.
    pub kind: Kind,
    /// Who takes part.
    pub peers: &'static [Peer],
    /// The peer that ours is compared with, and the ratio that it must stay below.
    pub target: Option<(Peer, f64)>,
}

use Peer::{Direct, Envoy, Haproxy, Nginx, Relay, Tulle};

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a",
        what: "one plaintext hop, HTTP/1.1",
        folder: "plain",
        pair: false,
        kind: Kind::Http1,
        peers: &[Direct, Relay, Tulle, Envoy, Haproxy, Nginx],
        target: Some((Haproxy, 1.1)),
    },
    Scenario {
        name: "b",
        what: "one plaintext hop, HTTP/2",
        folder: "h2c",
        pair: false,
        kind: Kind::Http2,
        peers: &[Tulle, Envoy, Haproxy],
        target: Some((Envoy, 0.65)),
    },
    Scenario {
        name: "c",
        what: "mutual TLS pair with a policy, HTTP/1.1",
        folder: "mtls",
        pair: true,
        kind: Kind::Http1,
        peers: &[Tulle, Envoy, Haproxy, Nginx],
        target: Some((Envoy, 0.40)),
    },
    Scenario {
        name: "c-full",
        what: "as c with full metrics and logs",
        folder: "mtls-full",
        pair: true,
        kind: Kind::Http1,
        peers: &[Tulle, Envoy],
        target: Some((Envoy, 0.40)),
    },
    Scenario {
        name: "c-l4",
        what: "mutual TLS pair that forwards TCP, under HTTP/1.1",
        folder: "mtls-tcp",
        pair: true,
        kind: Kind::Http1,
        peers: &[Tulle, Envoy],
        target: Some((Envoy, 0.28)),
    },
    Scenario {
        name: "d2",
        what: "bulk bytes through the mutual TLS pair",
        folder: "mtls-tcp",
        pair: true,
        kind: Kind::Bytes,
        peers: &[Tulle, Envoy],
        target: Some((Envoy, 1.0)),
    },
    Scenario {
        name: "f",
        what: "as c, a new client connection for every request",
        folder: "mtls",
        pair: true,
        kind: Kind::Http1Close,
        peers: &[Tulle, Envoy, Haproxy, Nginx],
        target: Some((Envoy, 0.60)),
    },
];
