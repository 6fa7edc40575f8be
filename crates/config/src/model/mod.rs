//! The proxy's own plain, immutable configuration: no protobuf type, everything parsed, compiled and defaulted.
//!
//! Every type is cheap to share (`Arc`) and comparable: a push whose resource equals the old one keeps the old one's
//! runtime state (pools, health). Durations are resolved: `None` means "no limit".

pub mod access_log;
pub mod access_log_filter;
pub mod address;
pub mod bootstrap;
pub mod circuit_breakers;
pub mod cluster;
pub mod domain_index;
pub mod endpoint;
pub mod expression;
pub mod filter;
pub mod format;
pub mod header_operation;
pub mod http2;
pub mod http2_client;
pub mod http_connection_manager;
pub mod listener;
pub mod matcher;
pub mod outlier_detection;
pub mod rbac;
pub mod regex;
pub mod retry;
pub mod route;
pub mod runtime;
pub mod tcp_proxy;
pub mod tls;
pub mod tracing;
pub mod value;

pub use access_log::{
    AccessLog, AccessLogFormat, AccessLogLayout, AccessLogOutput, AccessLogSink, JsonFormat, LogText,
    OpenTelemetryLog,
};
pub use access_log_filter::{AccessLogFilter, Comparison, ComparisonOperator};
pub use address::Address;
pub use bootstrap::{Admin, AdsConfig, AdsProtocol, Bootstrap, Identity, Node};
pub use circuit_breakers::{CircuitBreakers, Priority, RetryBudget, Thresholds};
pub use cluster::{
    Cluster, Discovery, HttpProtocol, LbPolicy, TcpKeepalive, TransportSocket, TransportSocketMatch,
    UpstreamHttpOptions,
};
pub use domain_index::DomainIndex;
pub use endpoint::{Endpoint, Health, LoadAssignment, Locality, LocalityEndpoints};
pub use expression::Expression;
pub use filter::{
    Dimension, HttpFilter, HttpFilterKind, MetricChange, PeerMetadataFilter, RouterFilter, StatsFilter,
};
pub use format::{Format, GrpcStatusForm, HeaderSource, Moment, Operator, PathSource, Token, Unit};
pub use header_operation::{HeaderAction, HeaderAdd, HeaderOperations};
pub use http_connection_manager::{
    ClientCertDetails, Codec, EscapedSlashes, ForwardClientCert, HeadersWithUnderscores, Http1Options,
    HttpConnectionManager, RequestIdOptions, RouteSource, ServerHeader, StripPort, Upgrade,
};
pub use http2::Http2Options;
pub use http2_client::{Http2ClientOptions, Http2Keepalive};
pub use listener::{
    Direction, FilterChain, FilterChainMatch, Listener, ListenerFilter, NetworkFilter, SourceType,
    TlsInspector,
};
pub use matcher::{HeaderMatch, HeaderMatcher, QueryMatcher, StringMatch, StringMatcher};
pub use outlier_detection::{Consecutive, FailurePercentage, OutlierDetection, SuccessRate};
pub use rbac::{CidrRange, Permission, Policy, Principal, RbacAction, RbacFilter, RbacRules};
pub use regex::{Regex, RegexError};
pub use retry::{BackOff, RateLimitedBackOff, ResetHeader, RetryOn, RetryPolicy};
pub use route::{
    ClusterSpecifier, ConnectToTcp, DirectResponse, Forward, HostRewrite, MaxStreamDuration, PathMatch,
    PathRewrite, Redirect, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, WeightedCluster,
    WeightedClusters,
};
pub use runtime::RuntimeSettings;
pub use tcp_proxy::{TcpCluster, TcpProxy};
pub use tls::{
    CertificateSource, DownstreamTls, PrivateKey, Roots, SanMatcher, SanType, TlsParameters, TlsVersion,
    TrustSource, UpstreamTls,
};
pub use tracing::{
    Collector, CollectorProtocol, CustomTag, Decorator, Fraction, OpenTelemetry, RouteTracing, Sampling,
    TagValue, Tracer, Tracing, Zipkin,
};
pub use value::Value;
