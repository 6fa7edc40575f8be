//! `VirtualService` (networking.istio.io): where requests to a host go.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::{Percent, PortSelector, StringMatch};
use super::http_policy::{CorsPolicy, HttpFaultInjection, HttpRetry};
use crate::duration::Duration;

/// The spec of a VirtualService.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VirtualService {
    /// Names it applies to; empty makes it a delegate.
    pub hosts: Vec<String>,
    /// Gateways (`[namespace/]name`) and `mesh`; empty means `mesh`.
    pub gateways: Vec<String>,
    /// HTTP routes, first match wins.
    pub http: Vec<HttpRoute>,
    /// Routes of TLS that is passed through.
    pub tls: Vec<TlsRoute>,
    /// Routes of everything else.
    pub tcp: Vec<TcpRoute>,
    /// Namespaces that see it: `.`, `*` or names; empty: the mesh's default.
    pub export_to: Vec<String>,
}

/// Istio's `HTTPRoute`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRoute {
    /// Label in the access log.
    pub name: String,
    /// One block must match; none: all requests.
    #[serde(rename = "match")]
    pub matches: Vec<HttpMatchRequest>,
    /// Weighted destinations.
    pub route: Vec<HttpRouteDestination>,
    /// Answer with a redirect.
    pub redirect: Option<HttpRedirect>,
    /// Answer with a fixed response.
    pub direct_response: Option<HttpDirectResponse>,
    /// Include the routes of a VirtualService without hosts.
    pub delegate: Option<Delegate>,
    /// Rewrite before forwarding.
    pub rewrite: Option<HttpRewrite>,
    /// Of the whole request with its retries; unset or `0s`: off.
    pub timeout: Option<Duration>,
    /// Retries; unset: the mesh's default.
    pub retries: Option<HttpRetry>,
    /// Injected faults.
    pub fault: Option<HttpFaultInjection>,
    /// A copy goes here.
    pub mirror: Option<Destination>,
    /// Copies go here.
    pub mirrors: Vec<HttpMirrorPolicy>,
    /// Older spelling of `mirrorPercentage`, whole percent.
    pub mirror_percent: Option<u32>,
    /// Share of requests to mirror; unset: all.
    pub mirror_percentage: Option<Percent>,
    /// Cross-origin rules.
    pub cors_policy: Option<CorsPolicy>,
    /// Header changes for all destinations.
    pub headers: Option<Headers>,
}

/// Istio's `HTTPMatchRequest`: every given part must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMatchRequest {
    /// Appended to the route's name with a dot.
    pub name: String,
    /// Path (with query, for a regex without).
    pub uri: Option<StringMatch>,
    /// Scheme.
    pub scheme: Option<StringMatch>,
    /// Method.
    pub method: Option<StringMatch>,
    /// Authority (`Host`).
    pub authority: Option<StringMatch>,
    /// Headers by lower-case name; `{}` asks for presence.
    pub headers: BTreeMap<String, StringMatch>,
    /// Headers that must not match.
    pub without_headers: BTreeMap<String, StringMatch>,
    /// Query parameters.
    pub query_params: BTreeMap<String, StringMatch>,
    /// Compare `uri` exact and prefix without case.
    pub ignore_uri_case: bool,
    /// Only on this port of the service.
    pub port: Option<u32>,
    /// Only for clients with these labels.
    pub source_labels: BTreeMap<String, String>,
    /// Only for clients of this namespace.
    pub source_namespace: String,
    /// Replaces the top-level gateways for this block.
    pub gateways: Vec<String>,
    /// Prefix of per-route statistics.
    pub stat_prefix: String,
}

/// Istio's `HTTPRouteDestination`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteDestination {
    /// Where to.
    pub destination: Option<Destination>,
    /// Relative share; ignored when it is the only destination.
    pub weight: i32,
    /// Header changes for this destination, after the route's.
    pub headers: Option<Headers>,
}

/// A service, or a subset of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Destination {
    /// Registry host; a short name belongs to the rule's namespace.
    pub host: String,
    /// Subset of the client's DestinationRule for that host.
    pub subset: String,
    /// Port of the service; needed when it has several.
    pub port: Option<PortSelector>,
}

/// Header changes in both directions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Before the request is forwarded.
    pub request: Option<HeaderOperations>,
    /// Before the response is returned.
    pub response: Option<HeaderOperations>,
}

/// Header changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeaderOperations {
    /// Overwrite.
    pub set: BTreeMap<String, String>,
    /// Append.
    pub add: BTreeMap<String, String>,
    /// Remove.
    pub remove: Vec<String>,
}

/// Istio's `HTTPRedirect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRedirect {
    /// New path.
    pub uri: String,
    /// Replaces the matched prefix; excludes `uri`.
    pub prefix_rewrite: String,
    /// New host.
    pub authority: String,
    /// New scheme, `http` or `https`.
    pub scheme: String,
    /// New port; excludes `derivePort`.
    pub port: Option<u32>,
    /// Where the new port comes from.
    pub derive_port: Option<RedirectPortSelection>,
    /// Status; 0 means 301.
    pub redirect_code: u32,
}

/// Where a redirect's port comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RedirectPortSelection {
    /// 80 for http, 443 for https.
    #[default]
    FromProtocolDefault,
    /// The port of the request.
    FromRequestPort,
}

/// Istio's `HTTPDirectResponse`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpDirectResponse {
    /// Status, 200 to 599.
    pub status: u32,
    /// Body, below 1 MB.
    pub body: Option<HttpBody>,
}

/// Istio's `HTTPBody`: text or bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpBody {
    /// Text.
    pub string: Option<String>,
    /// Bytes, in base64.
    pub bytes: Option<String>,
}

/// Names a VirtualService without hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Delegate {
    /// Its name.
    pub name: String,
    /// Its namespace; empty: the root's.
    pub namespace: String,
}

/// Istio's `HTTPRewrite`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRewrite {
    /// Replaces the matched prefix, or the whole path.
    pub uri: String,
    /// New `Host`.
    pub authority: String,
    /// Rewrite by expression.
    pub uri_regex_rewrite: Option<RegexRewrite>,
}

/// Rewrite of the path by an RE2 expression.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RegexRewrite {
    /// Expression.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Replacement with `\1` groups.
    pub rewrite: String,
}

/// Istio's `HTTPMirrorPolicy`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpMirrorPolicy {
    /// Where the copy goes.
    pub destination: Option<Destination>,
    /// Share of requests; unset: all.
    pub percentage: Option<Percent>,
}

/// Istio's `TLSRoute`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsRoute {
    /// One block must match.
    #[serde(rename = "match")]
    pub matches: Vec<TlsMatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// Istio's `TLSMatchAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsMatchAttributes {
    /// Server names; a leading wildcard is allowed.
    pub sni_hosts: Vec<String>,
    /// Original destination addresses.
    pub destination_subnets: Vec<String>,
    /// Port of the service.
    pub port: Option<u32>,
    /// Only for clients with these labels.
    pub source_labels: BTreeMap<String, String>,
    /// Only for clients of this namespace.
    pub source_namespace: String,
    /// Replaces the top-level gateways for this block.
    pub gateways: Vec<String>,
}

/// Istio's `TCPRoute`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpRoute {
    /// One block must match; none: all.
    #[serde(rename = "match")]
    pub matches: Vec<L4MatchAttributes>,
    /// Weighted destinations.
    pub route: Vec<RouteDestination>,
}

/// Istio's `L4MatchAttributes`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct L4MatchAttributes {
    /// Original destination addresses.
    pub destination_subnets: Vec<String>,
    /// Port of the service.
    pub port: Option<u32>,
    /// Addresses of clients.
    pub source_subnet: String,
    /// Only for clients with these labels.
    pub source_labels: BTreeMap<String, String>,
    /// Only for clients of this namespace.
    pub source_namespace: String,
    /// Replaces the top-level gateways for this block.
    pub gateways: Vec<String>,
}

/// A weighted destination of a layer 4 route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteDestination {
    /// Where to.
    pub destination: Option<Destination>,
    /// Relative share.
    pub weight: i32,
}
