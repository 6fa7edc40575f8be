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
    /// Changes of single metrics.
    #[prost(message, repeated, tag = "8")]
    pub metrics: Vec<MetricConfig>,
    /// Further metrics.
    #[prost(message, repeated, tag = "9")]
    pub definitions: Vec<MetricDefinition>,
    /// Which side reports, where the listener's direction does not tell: 1 is a gateway in front of servers.
    #[prost(int32, tag = "10")]
    pub reporter: i32,
    /// How often all series are begun anew; zero: never.
    #[prost(message, optional, tag = "11")]
    pub rotation_interval: Option<Duration>,
    /// How long series of before are kept after that.
    #[prost(message, optional, tag = "12")]
    pub graceful_deletion_interval: Option<Duration>,
}

/// `stats.MetricConfig`: what is changed in one metric, or in all.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricConfig {
    /// Labels with the expressions (CEL) of their values.
    #[prost(btree_map = "string, string", tag = "1")]
    pub dimensions: std::collections::BTreeMap<String, String>,
    /// Name without `istio_`; empty: all.
    #[prost(string, tag = "2")]
    pub name: String,
    /// Labels that are left out.
    #[prost(string, repeated, tag = "3")]
    pub tags_to_remove: Vec<String>,
    /// Expression that must hold for it to be counted.
    #[prost(string, tag = "4")]
    pub r#match: String,
    /// Whether it is not produced.
    #[prost(bool, tag = "5")]
    pub drop: bool,
}

/// `stats.MetricDefinition`: a further metric.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MetricDefinition {
    /// Name without `istio_`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Expression of its value.
    #[prost(string, tag = "2")]
    pub value: String,
    /// 0 counter, 1 gauge, 2 histogram.
    #[prost(int32, tag = "3")]
    pub r#type: i32,
}

impl Name for StatsConfig {
    const NAME: &'static str = "PluginConfig";
    const PACKAGE: &'static str = "stats";
}
