//! HTTP filters.

use super::RbacFilter;
use std::sync::Arc;
use std::time::Duration;

/// One HTTP filter of a connection manager.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpFilter {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it does.
    pub kind: HttpFilterKind,
}

/// The filters that this proxy has.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpFilterKind {
    /// `envoy.filters.http.rbac`.
    Rbac(Arc<RbacFilter>),
    /// `istio.metadata_exchange`.
    PeerMetadata(PeerMetadataFilter),
    /// `istio.stats`.
    Stats(StatsFilter),
    /// `envoy.filters.http.router`, always the last one.
    Router(RouterFilter),
}

/// Tells peers who we are and learns who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerMetadataFilter {
    /// Reads `x-envoy-peer-metadata` of requests.
    pub downstream_discovery: bool,
    /// Reads it of responses.
    pub upstream_discovery: bool,
    /// Writes it into responses.
    pub downstream_propagation: bool,
    /// Writes it into requests.
    pub upstream_propagation: bool,
    /// Writes nothing into requests to clusters outside the mesh.
    pub skip_external_clusters: bool,
}

/// Counts `istio_requests_total` and its companions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsFilter {
    /// `destination_service` is never taken from the Host header.
    pub disable_host_header_fallback: bool,
    /// How often an open TCP connection reports its bytes.
    pub tcp_reporting_duration: Duration,
}

/// Sends the request upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouterFilter {
    /// No `x-envoy-*` headers are added to requests and responses.
    pub suppress_envoy_headers: bool,
}
