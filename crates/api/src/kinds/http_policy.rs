//! Behaviour of HTTP routes: retries, injected faults, cross-origin rules (also used by MeshConfig).

use serde::Deserialize;

use super::common::{Percent, StringMatch};
use crate::duration::Duration;

/// Istio's `HTTPRetry`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRetry {
    /// Extra tries; 0 disables retries.
    pub attempts: i32,
    /// Of each try; unset: the route's timeout.
    pub per_try_timeout: Option<Duration>,
    /// Comma-separated conditions and status codes.
    pub retry_on: String,
    /// Try lower-priority localities.
    pub retry_remote_localities: Option<bool>,
    /// Skip hosts already tried; default true.
    pub retry_ignore_previous_hosts: Option<bool>,
    /// Base interval of the exponential backoff; default 25ms.
    pub backoff: Option<Duration>,
}

/// Istio's `HTTPFaultInjection`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpFaultInjection {
    /// Wait before forwarding.
    pub delay: Option<FaultDelay>,
    /// Answer with an error.
    pub abort: Option<FaultAbort>,
}

/// A delay.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultDelay {
    /// Older spelling of `percentage`, whole percent.
    pub percent: i32,
    /// Length, at least 1ms.
    pub fixed_delay: Option<Duration>,
    /// Never supported, upstream neither.
    pub exponential_delay: Option<Duration>,
    /// Share of requests; unset: none.
    pub percentage: Option<Percent>,
}

/// An error answer: one of the three.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FaultAbort {
    /// HTTP status.
    pub http_status: Option<i32>,
    /// gRPC status by name, such as `UNAVAILABLE`.
    pub grpc_status: Option<String>,
    /// Never supported, upstream neither.
    pub http2_error: Option<String>,
    /// Share of requests; unset: none.
    pub percentage: Option<Percent>,
}

/// Cross-origin rules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CorsPolicy {
    /// Older spelling of exact `allowOrigins`.
    pub allow_origin: Vec<String>,
    /// Origins that are allowed; echoed.
    pub allow_origins: Vec<StringMatch>,
    /// Methods.
    pub allow_methods: Vec<String>,
    /// Request headers.
    pub allow_headers: Vec<String>,
    /// Response headers the browser may show.
    pub expose_headers: Vec<String>,
    /// How long a preflight is cached.
    pub max_age: Option<Duration>,
    /// Whether credentials are allowed.
    pub allow_credentials: Option<bool>,
    /// What happens to preflights of other origins.
    pub unmatched_preflights: UnmatchedPreflights,
}

/// What happens to preflights of origins that are not listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum UnmatchedPreflights {
    /// As `FORWARD`.
    #[default]
    Unspecified,
    /// Passed to the service.
    Forward,
    /// Answered without CORS headers.
    Ignore,
}
