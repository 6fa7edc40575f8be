//! `extensionProviders` of MeshConfig.

use serde::Deserialize;

use super::raw::Raw;
use super::structure::Structure;
use crate::duration::Duration;

/// A provider; exactly one field beside `name` is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtensionProvider {
    /// Name that policies and Telemetry use.
    pub name: String,
    /// External authorization over HTTP.
    pub envoy_ext_authz_http: Option<EnvoyExternalAuthorizationHttp>,
    /// External authorization over gRPC.
    pub envoy_ext_authz_grpc: Option<EnvoyExternalAuthorizationGrpc>,
    /// Zipkin traces.
    pub zipkin: Option<Zipkin>,
    /// Lightstep traces.
    pub lightstep: Option<Raw>,
    /// Datadog traces.
    pub datadog: Option<Raw>,
    /// SkyWalking traces.
    pub skywalking: Option<Raw>,
    /// OpenCensus traces.
    pub opencensus: Option<Raw>,
    /// OpenTelemetry traces.
    pub opentelemetry: Option<OpenTelemetry>,
    /// Stackdriver.
    pub stackdriver: Option<Raw>,
    /// Prometheus metrics.
    pub prometheus: Option<Prometheus>,
    /// Access log in a file.
    pub envoy_file_access_log: Option<EnvoyFileAccessLog>,
    /// Access log over gRPC.
    pub envoy_http_als: Option<EnvoyGrpcAccessLog>,
    /// Access log of TCP over gRPC.
    pub envoy_tcp_als: Option<EnvoyGrpcAccessLog>,
    /// Access log over OpenTelemetry.
    pub envoy_otel_als: Option<EnvoyOpenTelemetryLog>,
    /// Secret discovery.
    pub sds: Option<Raw>,
}

/// Traces over Zipkin's API.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Zipkin {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Longest path in a tag; default 256.
    pub max_tag_length: Option<u32>,
    /// Trace ids of 64 bits; default 128.
    #[serde(rename = "enable64bitTraceId")]
    pub enable64bit_trace_id: bool,
    /// Path; default `/api/v2/spans`.
    pub path: String,
    /// How context is carried.
    pub trace_context_option: TraceContextOption,
    /// Of one export; default 5s.
    pub timeout: Option<Duration>,
    /// Headers of an export.
    pub headers: Vec<HttpHeader>,
}

/// How trace context is carried by a Zipkin provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TraceContextOption {
    /// B3.
    #[default]
    #[serde(rename = "USE_B3")]
    B3,
    /// B3, and W3C beside it.
    #[serde(rename = "USE_B3_WITH_W3C_PROPAGATION")]
    B3WithW3c,
}

/// Traces over OpenTelemetry's protocol: gRPC unless `http` is given.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OpenTelemetry {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Longest path in a tag; default 256.
    pub max_tag_length: Option<u32>,
    /// Export over HTTP.
    pub http: Option<HttpService>,
    /// Options of an export over gRPC.
    pub grpc: Option<GrpcService>,
    /// What is found out about the proxy's place.
    pub resource_detectors: Option<ResourceDetectors>,
    /// How `service.name` is made.
    pub service_attribute_enrichment: ServiceAttributeEnrichment,
    /// Dynatrace's sampler.
    pub dynatrace_sampler: Option<Raw>,
}

/// An export over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpService {
    /// Path of the request.
    pub path: String,
    /// Of one export; default 3s.
    pub timeout: Option<Duration>,
    /// Headers of an export.
    pub headers: Vec<HttpHeader>,
}

/// An export over gRPC.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcService {
    /// Of one export.
    pub timeout: Option<Duration>,
    /// Metadata of an export.
    pub initial_metadata: Vec<HttpHeader>,
}

/// A header with a fixed value or one of the proxy's environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
    /// Variable of the control plane's environment that holds it.
    pub env_name: Option<String>,
}

/// What is found out about the proxy's place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceDetectors {
    /// `OTEL_RESOURCE_ATTRIBUTES`.
    pub environment: Option<Raw>,
    /// Dynatrace's files.
    pub dynatrace: Option<Raw>,
}

/// How `service.name` and its kin are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServiceAttributeEnrichment {
    /// From Istio's canonical service.
    #[default]
    IstioCanonical,
    /// From OpenTelemetry's rules for Kubernetes.
    OtelSemanticConventions,
}

/// Prometheus has nothing to set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Prometheus {}

/// External authorization over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyExternalAuthorizationHttp {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Of one question; default 600s.
    pub timeout: Option<Duration>,
    /// Put before the path.
    pub path_prefix: String,
    /// Let requests pass when it fails.
    pub fail_open: bool,
    /// Choose the route again after it.
    pub clear_route_cache: bool,
    /// Status when it fails; default 403.
    pub status_on_error: String,
    /// Headers that are sent to it.
    pub include_request_headers_in_check: Vec<String>,
    /// Older spelling of `includeRequestHeadersInCheck`.
    pub include_headers_in_check: Vec<String>,
    /// Further headers that are sent to it.
    pub include_additional_headers_in_check: std::collections::BTreeMap<String, String>,
    /// The body is sent to it.
    pub include_request_body_in_check: Option<ExtAuthzRequestBody>,
    /// Its headers that go to the service.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// Its headers that go to the client when it denies.
    pub headers_to_downstream_on_deny: Vec<String>,
    /// Its headers that go to the client when it allows.
    pub headers_to_downstream_on_allow: Vec<String>,
}

/// External authorization over gRPC.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyExternalAuthorizationGrpc {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Of one question; default 600s.
    pub timeout: Option<Duration>,
    /// Let requests pass when it fails.
    pub fail_open: bool,
    /// Choose the route again after it.
    pub clear_route_cache: bool,
    /// Status when it fails; default 403.
    pub status_on_error: String,
    /// The body is sent to it.
    pub include_request_body_in_check: Option<ExtAuthzRequestBody>,
}

/// How much of the body is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ExtAuthzRequestBody {
    /// Bytes.
    pub max_request_bytes: u32,
    /// Send the beginning of a longer one.
    pub allow_partial_message: bool,
    /// As bytes, not text.
    pub pack_as_bytes: bool,
}

/// Access log in a file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyFileAccessLog {
    /// File; default `/dev/stdout`.
    pub path: String,
    /// Format.
    pub log_format: Option<LogFormat>,
    /// Leave empty values out.
    pub omit_empty_values: bool,
}

/// Format of an access log: text or labels.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogFormat {
    /// Line.
    pub text: Option<String>,
    /// JSON object.
    pub labels: Option<Structure>,
}

/// Access log over Envoy's gRPC service (of HTTP, or of TCP).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyGrpcAccessLog {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Name of the log.
    pub log_name: String,
    /// Filter state that is sent.
    pub filter_state_objects_to_log: Vec<String>,
    /// Request headers that are sent.
    pub additional_request_headers_to_log: Vec<String>,
    /// Response headers that are sent.
    pub additional_response_headers_to_log: Vec<String>,
    /// Response trailers that are sent.
    pub additional_response_trailers_to_log: Vec<String>,
}

/// Access log over OpenTelemetry's protocol (gRPC).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EnvoyOpenTelemetryLog {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Name of the log; default `otel_envoy_accesslog`.
    pub log_name: String,
    /// Body (`text`) and attributes (`labels`).
    pub log_format: Option<LogFormat>,
}
