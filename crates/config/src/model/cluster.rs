//! A group of upstream hosts and how to talk to them.

use super::{CircuitBreakers, Http2ClientOptions, LoadAssignment, OutlierDetection, UpstreamTls, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Unique name, `outbound|<port>|<subset>|<host>` from our control plane.
    pub name: Arc<str>,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How a host is picked.
    pub lb_policy: LbPolicy,
    /// Limit of a TCP connect (Envoy's default 5 s).
    pub connect_timeout: Duration,
    /// How to talk to an endpoint that no match takes.
    pub transport_socket: TransportSocket,
    /// The first whose labels are all in the endpoint's `tls` metadata is taken.
    pub transport_socket_matches: Vec<TransportSocketMatch>,
    /// HTTP rules.
    pub http: UpstreamHttpOptions,
    /// Limits of connections and requests.
    pub circuit_breakers: CircuitBreakers,
    /// When hosts are ejected; `None`: never.
    pub outlier_detection: Option<OutlierDetection>,
    /// Below this share of healthy hosts, in percent, health is ignored (Envoy's default 50, Istio's 0).
    pub healthy_panic_threshold: u32,
    /// TCP keepalive on upstream connections; `None` leaves it off.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// `metadata.filter_metadata`: `istio` holds the services that the labels of metrics are taken from.
    pub metadata: BTreeMap<Arc<str>, Value>,
}

impl Cluster {
    /// The transport socket for an endpoint with these `envoy.transport_socket_match` labels.
    pub fn transport_socket_for(&self, labels: &BTreeMap<Arc<str>, Arc<str>>) -> &TransportSocket {
        self.transport_socket_matches
            .iter()
            .find(|candidate| candidate.labels.iter().all(|(key, value)| labels.get(key) == Some(value)))
            .map_or(&self.transport_socket, |found| &found.socket)
    }
}

/// Where endpoints come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// Written here; every address is an IP.
    Static(Arc<LoadAssignment>),
    /// Written here; names are resolved again and again.
    StrictDns {
        /// The names.
        assignment: Arc<LoadAssignment>,
        /// How often (Envoy's default 5 s).
        refresh: Duration,
    },
    /// The load assignment of that name, by EDS.
    Eds {
        /// Resource name.
        service_name: Arc<str>,
    },
    /// The address that the client asked for.
    OriginalDestination,
}

/// How a host is picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LbPolicy {
    /// In turn, by weight.
    RoundRobin,
    /// The one with fewer active requests of so many random picks (2 by default).
    LeastRequest {
        /// Number of picks, at least 2.
        choices: u32,
    },
    /// At random, by weight.
    Random,
    /// The address that the client asked for.
    ClusterProvided,
}

/// How to talk to an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum TransportSocket {
    /// Plaintext.
    RawBuffer,
    /// TLS.
    Tls(Arc<UpstreamTls>),
}

/// A transport socket for the endpoints with certain labels.
#[derive(Debug, Clone, PartialEq)]
pub struct TransportSocketMatch {
    /// Name for metrics, `tlsMode-istio`.
    pub name: Arc<str>,
    /// Labels that the endpoint must have; empty takes every endpoint.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// How to talk to it.
    pub socket: TransportSocket,
}

/// `HttpProtocolOptions`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamHttpOptions {
    /// Which HTTP is spoken.
    pub protocol: HttpProtocol,
    /// A pooled connection without a request for so long is closed (Envoy's default 1 h); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection is drained after so long; `None`: never.
    pub max_connection_duration: Option<Duration>,
    /// Requests on one connection before it is closed; `None`: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// Number of response headers (100 by default); more is an error of the upstream.
    pub max_headers_count: usize,
    /// All response headers together on HTTP/1, in bytes (80 KiB by default).
    pub max_response_headers_bytes: usize,
    /// Trailers are forwarded, else dropped (HTTP/1).
    pub enable_trailers: bool,
    /// Header names are written with the case that they came with (HTTP/1).
    pub preserve_header_case: bool,
    /// Rules of HTTP/2, where that is spoken.
    pub http2: Http2ClientOptions,
    /// Statuses that outlier detection counts as errors, in order; `None`: those from 500 on.
    pub error_statuses: Option<Arc<[u16]>>,
}

/// Which HTTP is spoken to a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// As the downstream.
    Downstream,
    /// By ALPN.
    Auto,
}

/// `TcpKeepalive`; `None` leaves the system's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpKeepalive {
    /// Probes before the connection is given up.
    pub probes: Option<u32>,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}
