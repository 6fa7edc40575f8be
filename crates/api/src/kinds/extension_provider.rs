//! `extensionProviders` of MeshConfig.

use serde::Deserialize;

use super::raw::Raw;
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
    pub zipkin: Option<ProviderService>,
    /// Lightstep traces.
    pub lightstep: Option<Raw>,
    /// Datadog traces.
    pub datadog: Option<ProviderService>,
    /// SkyWalking traces.
    pub skywalking: Option<Raw>,
    /// OpenCensus traces.
    pub opencensus: Option<Raw>,
    /// OpenTelemetry traces.
    pub opentelemetry: Option<Raw>,
    /// Stackdriver.
    pub stackdriver: Option<Raw>,
    /// Prometheus metrics.
    pub prometheus: Option<Raw>,
    /// Access log in a file.
    pub envoy_file_access_log: Option<EnvoyFileAccessLog>,
    /// Access log over gRPC.
    pub envoy_http_als: Option<Raw>,
    /// Access log of TCP over gRPC.
    pub envoy_tcp_als: Option<Raw>,
    /// Access log over OpenTelemetry.
    pub envoy_otel_als: Option<Raw>,
    /// Secret discovery.
    pub sds: Option<Raw>,
}

/// A provider's service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderService {
    /// `[namespace/]host`.
    pub service: String,
    /// Port.
    pub port: u32,
    /// Longest tag.
    pub max_tag_length: Option<u32>,
    /// 64-bit trace ids.
    pub enable64bit_trace_id: bool,
    /// Path; default `/api/v2/spans`.
    pub path: String,
    /// How context is carried.
    pub trace_context_option: Option<String>,
    /// Of one export.
    pub timeout: Option<Duration>,
    /// Headers of an export.
    pub headers: Vec<Raw>,
}

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
    pub labels: Option<Raw>,
}
