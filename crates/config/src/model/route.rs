//! Routes: from host and request to an action.

use super::{
    Decorator, DomainIndex, HeaderMatcher, HeaderOperations, Priority, QueryMatcher, Regex, RetryPolicy,
    RouteTracing, Upgrade,
};
use std::sync::Arc;
use std::time::Duration;

/// A route configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteConfiguration {
    /// Resource name.
    pub name: Arc<str>,
    /// Virtual hosts in order.
    pub virtual_hosts: Vec<VirtualHost>,
    /// From host name to position in `virtual_hosts`.
    pub domains: DomainIndex,
    /// Changes of requests, for all routes.
    pub request_headers: HeaderOperations,
    /// Changes of responses, for all routes.
    pub response_headers: HeaderOperations,
    /// Header changes run from the general to the specific instead of the other way.
    pub most_specific_header_mutations_wins: bool,
    /// The port of the Host header is ignored when the virtual host is chosen.
    pub ignore_port_in_host_matching: bool,
    /// The path is matched without `;parameters`.
    pub ignore_path_parameters: bool,
    /// Headers removed from requests that come from outside.
    pub internal_only_headers: Vec<Arc<str>>,
}

/// A set of hosts with their routes.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHost {
    /// Name, `<fqdn>:<port>` from our control plane.
    pub name: Arc<str>,
    /// Domains in lower case: exact, `*.suffix`, `prefix.*` or `*`.
    pub domains: Vec<Arc<str>>,
    /// The first that matches is taken.
    pub routes: Vec<Arc<Route>>,
    /// Changes of requests.
    pub request_headers: HeaderOperations,
    /// Changes of responses.
    pub response_headers: HeaderOperations,
    /// When a request is sent again, for routes that do not say.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Most bytes of a request's body that are kept for a retry, for routes that do not say.
    pub request_body_buffer_limit: Option<u64>,
    /// `x-envoy-attempt-count` is sent upstream.
    pub include_request_attempt_count: bool,
    /// `x-envoy-attempt-count` is sent downstream.
    pub include_attempt_count_in_response: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Name for logs; may be empty.
    pub name: Arc<str>,
    /// User's resource, `VirtualService/production/payment-service#http[1]`.
    pub origin: Option<Arc<str>>,
    /// Which requests it takes.
    pub matcher: RouteMatch,
    /// What happens with them.
    pub action: RouteAction,
    /// Which of them are traced, and what their spans say, where the route says it.
    pub tracing: Option<Box<RouteTracing>>,
    /// The name of their spans.
    pub decorator: Option<Decorator>,
    /// Changes of requests.
    pub request_headers: HeaderOperations,
    /// Changes of responses.
    pub response_headers: HeaderOperations,
}

/// Which requests a route takes: all conditions must hold.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    /// Condition on the path.
    pub path: PathMatch,
    /// Whether ASCII case counts in the path (not for regular expressions). If not, the path's text is in lower case.
    pub case_sensitive: bool,
    /// Conditions on headers.
    pub headers: Vec<HeaderMatcher>,
    /// Conditions on query parameters.
    pub query_parameters: Vec<QueryMatcher>,
    /// Only `content-type: application/grpc…`.
    pub grpc: bool,
    /// Only that share of requests: numerator of 1,000,000; `None` takes all.
    pub runtime_fraction: Option<u32>,
}

/// Condition on the path. The query is never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Begins with.
    Prefix(Arc<str>),
    /// Equal.
    Exact(Arc<str>),
    /// Equal, or followed by `/`; without a slash at the end.
    SeparatedPrefix(Arc<str>),
    /// The whole path matches.
    Regex(Regex),
    /// The method is CONNECT: such a request has no path, and no other condition takes it.
    Connect,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteAction {
    /// Sends the request to a cluster.
    Forward(Box<Forward>),
    /// Answers with a redirect.
    Redirect(Redirect),
    /// Answers itself.
    DirectResponse(DirectResponse),
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Which cluster.
    pub cluster: ClusterSpecifier,
    /// Status when the cluster is not there: 503 by default, 404 or 500.
    pub cluster_not_found_status: u16,
    /// Change of the path.
    pub path_rewrite: PathRewrite,
    /// Change of the host.
    pub host_rewrite: HostRewrite,
    /// The old host goes to `x-forwarded-host`.
    pub append_x_forwarded_host: bool,
    /// From the end of the request to the end of the response (Envoy's default 15 s); `None`: no limit.
    pub timeout: Option<Duration>,
    /// Overrides the connection manager's stream idle timeout; `Some(None)`: no limit.
    pub idle_timeout: Option<Option<Duration>>,
    /// Limits of the whole stream that override the connection manager's.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// gRPC requests are held to their `grpc-timeout` instead of `timeout`, but to no more than this; zero is no limit.
    pub max_grpc_timeout: Option<Duration>,
    /// Taken off a `grpc-timeout` that is longer.
    pub grpc_timeout_offset: Option<Duration>,
    /// When a request is sent again; `None`: never, or as the virtual host says.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Most bytes of a request's body that are kept for a retry; `None`: as the virtual host says, else 1 MiB.
    pub request_body_buffer_limit: Option<u64>,
    /// Upgrades that override the connection manager's.
    pub upgrades: Vec<Upgrade>,
    /// CONNECT requests end here: their bytes go to the cluster as they are. `None`: they are sent on as requests.
    pub connect_to_tcp: Option<ConnectToTcp>,
    /// Which limits of the cluster a request counts against.
    pub priority: Priority,
}

/// `envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectToTcp {
    /// The bodies of POST requests are such bytes too.
    pub allow_post: bool,
}

/// `envoy.config.route.v3.RouteAction.MaxStreamDuration`; zero is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MaxStreamDuration {
    /// From the request's head to the end of the response.
    pub duration: Option<Duration>,
    /// A `grpc-timeout` is obeyed, but to no more than this.
    pub grpc_header_max: Option<Duration>,
    /// Taken off a `grpc-timeout`.
    pub grpc_header_offset: Option<Duration>,
}

/// Which cluster a request goes to.
#[derive(Debug, Clone, PartialEq)]
pub enum ClusterSpecifier {
    /// Always that one.
    Cluster(Arc<str>),
    /// By weight.
    Weighted(WeightedClusters),
    /// Named by a request header (lower case); no header is answered as a route that is not there.
    Header(Arc<str>),
}

/// Clusters by weight.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedClusters {
    /// At least one.
    pub clusters: Vec<WeightedCluster>,
    /// Sum of the weights, above 0.
    pub total: u64,
}

/// One of several clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedCluster {
    /// Cluster name.
    pub name: Arc<str>,
    /// Share of `total`; 0 is never picked.
    pub weight: u32,
    /// Changes of requests that go there.
    pub request_headers: HeaderOperations,
    /// Changes of responses that come from there.
    pub response_headers: HeaderOperations,
    /// Host that these requests get; `None` leaves it.
    pub host_rewrite: Option<Arc<str>>,
}

/// Change of the path before the request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// None.
    Keep,
    /// The matched prefix (or the whole path of an exact match) is replaced.
    Prefix(Arc<str>),
    /// Every match in the path (without query) is replaced; `\1` is a group.
    Regex {
        /// What is replaced.
        pattern: Regex,
        /// By what.
        substitution: Arc<str>,
    },
}

/// Change of the host before the request is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRewrite {
    /// None.
    Keep,
    /// That text.
    Literal(Arc<str>),
    /// The upstream's DNS name (`STRICT_DNS` only; else unchanged).
    Auto,
    /// The value of that request header (lower case).
    Header(Arc<str>),
    /// The path with the matches replaced.
    PathRegex {
        /// What is replaced.
        pattern: Regex,
        /// By what.
        substitution: Arc<str>,
    },
}

/// Answers with a redirect; what is `None` stays as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// Host without port.
    pub host: Option<Arc<str>>,
    /// Port.
    pub port: Option<u16>,
    /// The whole path, perhaps with query.
    pub path: Option<Arc<str>>,
    /// Change of the path; only without `path`.
    pub path_rewrite: PathRewrite,
    /// The query is dropped.
    pub strip_query: bool,
}

/// Answers itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectResponse {
    /// Status, 200 to 599.
    pub status: u16,
    /// Body; may be empty.
    pub body: Arc<[u8]>,
}
