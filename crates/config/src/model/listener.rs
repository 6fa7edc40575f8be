//! A listener and its filter chains.

use super::{
    AccessLog, Address, CidrRange, DownstreamTls, HttpConnectionManager, RbacFilter, StatsFilter, TcpProxy,
};
use std::sync::Arc;
use std::time::Duration;

/// A socket that accepts connections.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique name.
    pub name: Arc<str>,
    /// Where it listens: an IP or a Unix socket, never a DNS name.
    pub address: Address,
    /// Whether a socket is bound; else it only takes connections handed over by original destination.
    pub bind_to_port: bool,
    /// To or from the workload.
    pub direction: Direction,
    /// Inspectors, in order.
    pub listener_filters: Vec<ListenerFilter>,
    /// How long the inspectors may take (Envoy's default 15 s); `None`: no limit.
    pub listener_filters_timeout: Option<Duration>,
    /// After that time go on without their result instead of closing.
    pub continue_on_listener_filters_timeout: bool,
    /// Chains; `decide::pick_filter_chain` chooses.
    pub filter_chains: Vec<FilterChain>,
    /// Used when no chain matches; without it the connection is closed.
    pub default_filter_chain: Option<Arc<FilterChain>>,
    /// Accept queue; `None` leaves the system's.
    pub tcp_backlog_size: Option<u32>,
    /// Where the ends of connections are logged.
    pub access_log: Vec<AccessLog>,
}

/// To or from the workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Not said.
    Unspecified,
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// Looks at a connection before its chain is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerFilter {
    /// Tells TLS from plaintext, reads SNI and ALPN.
    TlsInspector(TlsInspector),
    /// Tells HTTP from other bytes.
    HttpInspector,
    /// Takes the address that the connection was redirected from.
    OriginalDestination,
}

/// How the TLS inspector takes what it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsInspector {
    /// The longest ClientHello, with its record headers, in bytes; a longer one closes the connection.
    pub max_client_hello_size: u32,
    /// What begins like TLS and is no ClientHello closes the connection; else it counts as plaintext.
    pub close_on_parsing_errors: bool,
}

impl Default for TlsInspector {
    /// Envoy's defaults: 16 KiB, plaintext.
    fn default() -> Self {
        TlsInspector { max_client_hello_size: 16 * 1024, close_on_parsing_errors: false }
    }
}

/// One chain of network filters.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterChain {
    /// Name; may be empty.
    pub name: Arc<str>,
    /// Which connections it takes.
    pub matcher: FilterChainMatch,
    /// TLS termination; `None` is plaintext.
    pub tls: Option<Arc<DownstreamTls>>,
    /// How long the transport handshake may take; `None`: no limit.
    pub transport_socket_connect_timeout: Option<Duration>,
    /// L4 filters before the last one, in order, then the last one.
    pub filters: Vec<NetworkFilter>,
}

/// Which connections a chain takes. An empty list or `None` takes all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilterChainMatch {
    /// Port that the client asked for (after redirection).
    pub destination_port: Option<u16>,
    /// Destination IPs.
    pub prefix_ranges: Vec<CidrRange>,
    /// SNI names in lower case: exact, or `*.suffix`.
    pub server_names: Vec<Arc<str>>,
    /// `tls` or `raw_buffer`; empty takes both.
    pub transport_protocol: Arc<str>,
    /// ALPN protocols; one must be offered.
    pub application_protocols: Vec<Arc<str>>,
    /// Source IPs of the connection, the peer before PROXY protocol.
    pub direct_source_prefix_ranges: Vec<CidrRange>,
    /// From this machine or from outside.
    pub source_type: SourceType,
    /// Source IPs.
    pub source_prefix_ranges: Vec<CidrRange>,
    /// Source ports.
    pub source_ports: Vec<u16>,
}

/// `FilterChainMatch.ConnectionSourceType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SourceType {
    /// Any.
    #[default]
    Any,
    /// Same IP or loopback.
    SameIpOrLoopback,
    /// From elsewhere.
    External,
}

/// A network filter. The last one of a chain is `Http` or `Tcp`; the ones before it are not.
#[derive(Debug, Clone, PartialEq)]
pub enum NetworkFilter {
    /// HTTP.
    Http(Arc<HttpConnectionManager>),
    /// Bytes.
    Tcp(Arc<TcpProxy>),
    /// Authorization of the connection.
    Rbac(Arc<RbacFilter>),
    /// Istio's metrics of the connections of a TCP proxy.
    Stats(StatsFilter),
}
