//! `DestinationRule` (networking.istio.io): how a service is called, and its subsets.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{PortSelector, WorkloadSelector};
use super::load_balancer::LoadBalancerSettings;
use crate::duration::Duration;

/// The spec of a DestinationRule.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRule {
    /// Service it is for; a short name belongs to the rule's namespace; leading wildcard allowed.
    pub host: String,
    /// Policy of all subsets.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see it: `.`, `*` or names; empty: the mesh's default.
    pub export_to: Vec<String>,
    /// Only these clients of the own namespace.
    pub workload_selector: Option<WorkloadSelector>,
}

/// Endpoints that carry all of some labels.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Name that routes use.
    pub name: String,
    /// Labels an endpoint must have.
    pub labels: BTreeMap<String, String>,
    /// Blocks given here replace those of the rule.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// Policy of the calls to a service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// Choice of the endpoint.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the service; unset: automatic mutual TLS.
    pub tls: Option<ClientTlsSettings>,
    /// Policies by service port; replace the four blocks above.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnel through HTTP CONNECT or POST.
    pub tunnel: Option<TunnelSettings>,
    /// PROXY protocol to the service.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Cap on concurrent retries.
    pub retry_budget: Option<RetryBudget>,
}

/// Policy of one port.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortTrafficPolicy {
    /// Port of the service.
    pub port: Option<PortSelector>,
    /// Choice of the endpoint.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits of connections and requests.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of failing endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the service.
    pub tls: Option<ClientTlsSettings>,
}

/// Limits of connections and requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPoolSettings {
    /// Of TCP.
    pub tcp: Option<TcpSettings>,
    /// Of HTTP.
    pub http: Option<HttpSettings>,
}

/// Istio's `TCPSettings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpSettings {
    /// Connections to the whole service; 0: no limit.
    pub max_connections: i32,
    /// Default 10s (MeshConfig `connectTimeout`).
    pub connect_timeout: Option<Duration>,
    /// Keep-alive probes of the operating system.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Connections are closed after this time.
    pub max_connection_duration: Option<Duration>,
    /// Idle connections are closed after this time; default 1h, `0s` off.
    pub idle_timeout: Option<Duration>,
}

/// Keep-alive probes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: u32,
    /// Idle time before the first probe.
    pub time: Option<Duration>,
    /// Time between probes.
    pub interval: Option<Duration>,
}

/// Istio's `HTTPSettings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpSettings {
    /// Requests waiting for a connection; 0: no limit.
    pub http1_max_pending_requests: i32,
    /// Active requests; 0: no limit.
    pub http2_max_requests: i32,
    /// Requests on one connection; 0: no limit.
    pub max_requests_per_connection: i32,
    /// Retries at one time; 0: no limit.
    pub max_retries: i32,
    /// Idle connections are closed after this time; default 1h.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/1 is upgraded to HTTP/2.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Keep the protocol of the client.
    pub use_client_protocol: bool,
    /// Streams on one HTTP/2 connection; 0: no limit.
    pub max_concurrent_streams: i32,
    /// HTTP/2 PING.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// HTTP/2 PING; both are needed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http2KeepAlive {
    /// Time between pings.
    pub interval: Option<Duration>,
    /// Time to wait for the answer.
    pub timeout: Option<Duration>,
}

/// Whether HTTP/1 is upgraded to HTTP/2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// The mesh's default.
    #[default]
    Default,
    /// Never.
    DoNotUpgrade,
    /// Always.
    Upgrade,
}

/// Ejection of failing endpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// Older spelling of `consecutive5xxErrors`.
    pub consecutive_errors: i32,
    /// Count local failures apart.
    pub split_external_local_origin_errors: bool,
    /// Local failures in a row; default 5.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504 in a row; unset or 0: off.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row; default 5, 0: off.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between sweeps; default 10s.
    pub interval: Option<Duration>,
    /// Ejection time, multiplied by the number of ejections; default 30s.
    pub base_ejection_time: Option<Duration>,
    /// Share that may be ejected, percent; 0 counts as 10.
    pub max_ejection_percent: i32,
    /// Share that must be healthy for ejections to count, percent.
    pub min_health_percent: i32,
    /// Status codes that count instead of 5xx.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// Istio's `ClientTLSSettings`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTlsSettings {
    /// Kind of TLS.
    pub mode: ClientTlsMode,
    /// File with the own certificate chain.
    pub client_certificate: String,
    /// File with the own key.
    pub private_key: String,
    /// File with the roots of the server; empty: those of the system.
    pub ca_certificates: String,
    /// Secret with all three.
    pub credential_name: String,
    /// Names the server's certificate must have.
    pub subject_alt_names: Vec<String>,
    /// Server name that is asked for.
    pub sni: String,
    /// Accept any certificate.
    pub insecure_skip_verify: Option<bool>,
    /// File with revoked certificates.
    pub ca_crl: String,
}

/// Kind of TLS to a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClientTlsMode {
    /// Plaintext.
    #[default]
    Disable,
    /// Server certificate only.
    Simple,
    /// Both certificates, given here.
    Mutual,
    /// Both certificates, the mesh's.
    IstioMutual,
}

/// Tunnel of layer 4 routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TunnelSettings {
    /// `CONNECT` (default) or `POST`.
    pub protocol: String,
    /// Host to reach through the tunnel.
    pub target_host: String,
    /// Its port.
    pub target_port: u32,
}

/// PROXY protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// Version.
    pub version: ProxyProtocolVersion,
}

/// Version of the PROXY protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ProxyProtocolVersion {
    /// Text.
    #[default]
    V1,
    /// Binary.
    V2,
}

/// Cap on concurrent retries.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// Share of active requests in percent; default 20.
    pub percent: Option<f64>,
    /// Always allowed; default 3.
    pub min_retry_concurrency: u32,
    /// Interval over which requests count; default 0ms.
    pub budget_interval: Option<Duration>,
}
