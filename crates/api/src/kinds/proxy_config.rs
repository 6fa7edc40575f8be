//! `ProxyConfig` of MeshConfig (`defaultConfig`) and of the annotation `proxy.istio.io/config`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::StringMatch;
use super::custom_tag::CustomTag;
use super::destination_rule::{ClientTlsSettings, TcpKeepalive};
use super::raw::Raw;
use crate::duration::Duration;

/// Settings of proxies.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Directory of generated configuration.
    pub config_path: String,
    /// Path of the proxy.
    pub binary_path: String,
    /// Name in traces.
    pub service_cluster: Option<String>,
    /// Where the name in traces comes from.
    pub tracing_service_name: Option<String>,
    /// Time of a hot restart; default 45s.
    pub drain_duration: Option<Duration>,
    /// Time between SIGTERM and the end; default 5s.
    pub termination_drain_duration: Option<Duration>,
    /// Address of the control plane.
    pub discovery_address: String,
    /// Long out of use.
    pub discovery_refresh_delay: Option<Duration>,
    /// Long out of use.
    pub zipkin_address: String,
    /// Long out of use.
    pub envoy_metrics_service_address: String,
    /// Long out of use.
    pub availability_zone: String,
    /// Long out of use.
    pub statsd_udp_address: String,
    /// Port of the admin interface; default 15000.
    pub proxy_admin_port: i32,
    /// Port of the status interface; default 15020.
    pub status_port: i32,
    /// How proxies reach the control plane.
    pub control_plane_auth_policy: Option<String>,
    /// File of a custom bootstrap.
    pub custom_config_file: String,
    /// Longest statistic name; default 189.
    pub stat_name_length: i32,
    /// Workers; unset: by the CPU limit, 0: all cores.
    pub concurrency: Option<i32>,
    /// File of a bootstrap template.
    pub proxy_bootstrap_template_path: String,
    /// `REDIRECT`, `TPROXY` or `NONE`.
    pub interception_mode: Option<String>,
    /// Traces.
    pub tracing: Option<Tracing>,
    /// Long out of use.
    pub sds: Option<Raw>,
    /// Access log service.
    pub envoy_access_log_service: Option<RemoteService>,
    /// Metrics service.
    pub envoy_metrics_service: Option<RemoteService>,
    /// Environment of proxies.
    pub proxy_metadata: BTreeMap<String, String>,
    /// Envoy runtime values.
    pub runtime_values: BTreeMap<String, String>,
    /// Long out of use.
    pub extra_stat_tags: Vec<String>,
    /// What stands in front of gateways.
    pub gateway_topology: Option<Topology>,
    /// Name of the mesh.
    pub mesh_id: String,
    /// Readiness probe of virtual machines.
    pub readiness_probe: Option<Raw>,
    /// Which further statistics are kept.
    pub proxy_stats_matcher: Option<ProxyStatsMatcher>,
    /// Start the app after the proxy.
    pub hold_application_until_proxy_starts: Option<bool>,
    /// Further roots.
    pub ca_certificates_pem: Vec<String>,
    /// Image of the proxy.
    pub image: Option<ProxyImage>,
    /// Hardware for private keys.
    pub private_key_provider: Option<Raw>,
    /// Headers the proxy adds.
    pub proxy_headers: Option<ProxyHeaders>,
    /// Default 1s.
    pub file_flush_interval: Option<Duration>,
    /// Default 64.
    pub file_flush_min_size_kb: Option<u32>,
    /// Default true.
    pub stats_compression: Option<bool>,
    /// Limits and timeouts of connections.
    pub connection_settings: Option<Raw>,
}

/// Traces.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// Zipkin.
    pub zipkin: Option<ZipkinAddress>,
    /// Lightstep.
    pub lightstep: Option<Raw>,
    /// Datadog.
    pub datadog: Option<Raw>,
    /// Stackdriver.
    pub stackdriver: Option<Raw>,
    /// OpenCensus.
    pub open_census_agent: Option<Raw>,
    /// Tags by name.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Longest path tag; default 256.
    pub max_path_tag_length: u32,
    /// Percent; default 1.0.
    pub sampling: f64,
    /// TLS to the tracer.
    pub tls_settings: Option<ClientTlsSettings>,
    /// Default true.
    pub enable_istio_tags: Option<bool>,
}

/// A Zipkin collector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZipkinAddress {
    /// `host:port`.
    pub address: String,
}

/// A service that proxies report to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RemoteService {
    /// `host:port`.
    pub address: String,
    /// TLS to it.
    pub tls_settings: Option<ClientTlsSettings>,
    /// Keep-alive probes.
    pub tcp_keepalive: Option<TcpKeepalive>,
}

/// What stands in front of gateways.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// Trusted proxies in front.
    pub num_trusted_proxies: u32,
    /// What happens to `x-forwarded-client-cert`.
    pub forward_client_cert_details: Option<String>,
    /// Expect the PROXY protocol.
    pub proxy_protocol: Option<Raw>,
}

/// Which further statistics are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyStatsMatcher {
    /// By prefix.
    pub inclusion_prefixes: Vec<String>,
    /// By suffix.
    pub inclusion_suffixes: Vec<String>,
    /// By expression.
    pub inclusion_regexps: Vec<String>,
}

/// Image of the proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyImage {
    /// `default`, `debug`, `distroless`.
    pub image_type: String,
}

/// Headers the proxy adds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// What happens to `x-forwarded-client-cert`.
    pub forwarded_client_cert: Option<String>,
    /// What `x-forwarded-client-cert` holds.
    pub set_current_client_cert_details: Option<SetCurrentClientCertDetails>,
    /// `x-request-id`.
    pub request_id: Option<HeaderSwitch>,
    /// `server`.
    pub server: Option<ServerHeader>,
    /// `x-envoy-attempt-count`.
    pub attempt_count: Option<HeaderSwitch>,
    /// Envoy's debug headers.
    pub envoy_debug_headers: Option<HeaderSwitch>,
    /// Peer metadata headers.
    pub metadata_exchange_headers: Option<MetadataExchangeHeaders>,
    /// Keep the case of HTTP/1 headers.
    #[serde(rename = "preserveHttp1HeaderCase")]
    pub preserve_http1_header_case: Option<bool>,
    /// `x-forwarded-host`.
    pub x_forwarded_host: Option<HeaderSwitch>,
    /// `x-forwarded-port`.
    pub x_forwarded_port: Option<HeaderSwitch>,
}

/// What `x-forwarded-client-cert` holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SetCurrentClientCertDetails {
    /// Subject.
    pub subject: Option<bool>,
    /// Certificate.
    pub cert: Option<bool>,
    /// Chain.
    pub chain: Option<bool>,
    /// DNS names.
    pub dns: Option<bool>,
    /// URI.
    pub uri: Option<bool>,
}

/// A header that can be switched off or on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderSwitch {
    /// Switched off.
    pub disabled: Option<bool>,
    /// Switched on.
    pub enabled: Option<bool>,
}

/// The `server` header.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerHeader {
    /// Switched off.
    pub disabled: Option<bool>,
    /// Its value; default `istio-envoy`.
    pub value: String,
}

/// Peer metadata headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetadataExchangeHeaders {
    /// `UNDEFINED` or `IN_MESH`.
    pub mode: Option<String>,
    /// Matches for which they are sent.
    pub hosts: Vec<StringMatch>,
}
