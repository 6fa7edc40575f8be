//! `Telemetry` (telemetry.istio.io): which metrics, traces and access logs workloads produce, and how.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{PolicyTargetReference, WorkloadSelector};
use super::custom_tag::CustomTag;
use crate::duration::Duration;

/// The spec of a Telemetry.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Telemetry {
    /// Workloads of the own namespace; unset: the namespace (or the mesh, in the root namespace).
    pub selector: Option<WorkloadSelector>,
    /// Older spelling of one `targetRefs` entry.
    pub target_ref: Option<PolicyTargetReference>,
    /// Gateways or services it is attached to; such a Telemetry never holds for a sidecar.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Traces.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// Access logs.
    pub access_logging: Vec<AccessLogging>,
}

/// On which side of a call something holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// On both.
    #[default]
    ClientAndServer,
    /// Where the workload calls (`reporter="source"`).
    Client,
    /// Where the workload is called (`reporter="destination"`).
    Server,
}

impl WorkloadMode {
    /// Whether it holds on `side`, which is [`WorkloadMode::Client`] or [`WorkloadMode::Server`].
    pub fn includes(self, side: WorkloadMode) -> bool {
        self == WorkloadMode::ClientAndServer || self == side
    }
}

/// Names an entry of MeshConfig's `extensionProviders`, or a built-in one (`prometheus`, `envoy`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderRef {
    /// Name of the provider.
    pub name: String,
}

/// Restricts a block to one side of calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModeSelector {
    /// The side.
    pub mode: WorkloadMode,
}

/// Traces. Of several blocks those below override those above field by field.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tracing {
    /// The side of calls.
    #[serde(rename = "match")]
    pub selector: Option<ModeSelector>,
    /// Where spans go; only the first counts.
    pub providers: Vec<ProviderRef>,
    /// 0.0 to 100.0 percent of requests that nobody sampled before; unset: inherited, at last 1 %.
    pub random_sampling_percentage: Option<f64>,
    /// Spans are not sent; context is still passed on.
    pub disable_span_reporting: Option<bool>,
    /// Tags of each span, by name; replaces those of the level above as a whole.
    pub custom_tags: BTreeMap<String, CustomTag>,
    /// Whether `x-request-id` decides with; default yes.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Istio's own tags; default yes.
    pub enable_istio_tags: Option<bool>,
    /// Trace context is not passed on; default no.
    pub disable_context_propagation: Option<bool>,
}

/// Metrics of one or several providers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metrics {
    /// Providers; none: those of the level above.
    pub providers: Vec<ProviderRef>,
    /// Changes of what is produced by default, in order.
    pub overrides: Vec<MetricsOverrides>,
    /// How often metrics of open connections are counted up; default 5s.
    pub reporting_interval: Option<Duration>,
}

/// One change of what is produced by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricsOverrides {
    /// Which metrics; unset: all on both sides.
    #[serde(rename = "match")]
    pub selector: Option<MetricSelector>,
    /// Whether they are not produced; unset: as the level above.
    pub disabled: Option<bool>,
    /// Labels by name.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Metrics by name and side.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetricSelector {
    /// One of Istio's own.
    pub metric: Option<IstioMetric>,
    /// One by its name.
    pub custom_metric: Option<String>,
    /// The side of calls.
    pub mode: WorkloadMode,
}

/// Istio's metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IstioMetric {
    /// Every one.
    #[default]
    AllMetrics,
    /// `istio_requests_total`.
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    RequestDuration,
    /// `istio_request_bytes`.
    RequestSize,
    /// `istio_response_bytes`.
    ResponseSize,
    /// `istio_tcp_connections_opened_total`.
    TcpOpenedConnections,
    /// `istio_tcp_connections_closed_total`.
    TcpClosedConnections,
    /// `istio_tcp_sent_bytes_total`.
    TcpSentBytes,
    /// `istio_tcp_received_bytes_total`.
    TcpReceivedBytes,
    /// `istio_request_messages_total`.
    GrpcRequestMessages,
    /// `istio_response_messages_total`.
    GrpcResponseMessages,
}

/// What happens with a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TagOverride {
    /// Set or removed.
    pub operation: TagOperation,
    /// Expression (CEL) whose value the label gets.
    pub value: String,
}

/// What happens with a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagOperation {
    /// Added, or its value replaced.
    #[default]
    Upsert,
    /// Left out.
    Remove,
}

/// Access logs of one or several providers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLogging {
    /// The side of calls.
    #[serde(rename = "match")]
    pub selector: Option<ModeSelector>,
    /// Providers; none: those of the level above.
    pub providers: Vec<ProviderRef>,
    /// Whether nothing is logged; unset: as the level above.
    pub disabled: Option<bool>,
    /// Which requests and connections are logged; unset: as the level above.
    pub filter: Option<AccessLoggingFilter>,
}

/// Which requests and connections are logged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessLoggingFilter {
    /// Expression (CEL) that must hold, such as `response.code >= 400`.
    pub expression: String,
}
