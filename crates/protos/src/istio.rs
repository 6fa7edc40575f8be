//! Configuration messages of Istio's two filters that Envoy does not define, by hand (istio/proxy: peer_metadata and
//! stats plugin). Only `tulle-proxy` nodes receive them.

use crate::envoy::google::protobuf::Duration;
use prost::Name;

/// `io.istio.http.peer_metadata.Config`: how a proxy learns its peer's workload and tells its own.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PeerMetadataConfig {
    /// How the caller's workload is found.
    #[prost(message, repeated, tag = "1")]
    pub downstream_discovery: Vec<DiscoveryMethod>,
    /// How the called workload is found.
    #[prost(message, repeated, tag = "2")]
    pub upstream_discovery: Vec<DiscoveryMethod>,
    /// How the caller is told about this workload.
    #[prost(message, repeated, tag = "3")]
    pub downstream_propagation: Vec<PropagationMethod>,
    /// How the called workload is told about this one.
    #[prost(message, repeated, tag = "4")]
    pub upstream_propagation: Vec<PropagationMethod>,
    /// Whether the result is shared with upstream connections.
    #[prost(bool, tag = "5")]
    pub shared_with_upstream: bool,
}

impl Name for PeerMetadataConfig {
    const NAME: &'static str = "Config";
    const PACKAGE: &'static str = "io.istio.http.peer_metadata";
}

/// One way to find a peer's workload.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DiscoveryMethod {
    /// Reads the `x-envoy-peer-metadata` headers.
    #[prost(message, optional, tag = "3")]
    pub istio_headers: Option<IstioHeaders>,
}

/// One way to tell a peer about this workload.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PropagationMethod {
    /// Sends the `x-envoy-peer-metadata` headers.
    #[prost(message, optional, tag = "1")]
    pub istio_headers: Option<IstioHeaders>,
}

/// Peer metadata in the headers `x-envoy-peer-metadata` and `x-envoy-peer-metadata-id`.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct IstioHeaders {
    /// Send nothing to clusters outside the mesh.
    #[prost(bool, tag = "1")]
    pub skip_external_clusters: bool,
}

/// `stats.PluginConfig`: the filter that counts `istio_requests_total` and its companions.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatsConfig {
    /// Do not fall back to the Host header for `destination_service`.
    #[prost(bool, tag = "6")]
    pub disable_host_header_fallback: bool,
    /// How often TCP connections report their bytes.
    #[prost(message, optional, tag = "7")]
    pub tcp_reporting_duration: Option<Duration>,
}

impl Name for StatsConfig {
    const NAME: &'static str = "PluginConfig";
    const PACKAGE: &'static str = "stats";
}
