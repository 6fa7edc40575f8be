//! HTTP on a connection.

use super::{AccessLog, CidrRange, Http2Options, HttpFilter, RouteConfiguration, Tracing};
use std::sync::Arc;
use std::time::Duration;

/// `envoy.filters.network.http_connection_manager`, defaults resolved as Envoy does.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConnectionManager {
    /// Prefix of its metrics.
    pub stat_prefix: Arc<str>,
    /// Which HTTP the downstream speaks.
    pub codec: Codec,
    /// Where routes come from.
    pub route: RouteSource,
    /// Filters in order; the last one is the router.
    pub http_filters: Vec<HttpFilter>,
    /// Written when a request ends.
    pub access_log: Vec<AccessLog>,

    /// From the first byte of a request to the end of its headers; `None`: no limit.
    pub request_headers_timeout: Option<Duration>,
    /// To the end of the request's body; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// A stream without progress for so long is ended with 408 or 504 (Envoy's default 5 min); `None`: never.
    pub stream_idle_timeout: Option<Duration>,
    /// A connection without a request for so long is closed (Envoy's default 1 h); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection is drained after so long; `None`: never.
    pub max_connection_duration: Option<Duration>,
    /// A stream is reset after so long; `None`: never.
    pub max_stream_duration: Option<Duration>,
    /// Between the notice to go away and the close (5 s by default).
    pub drain_timeout: Duration,
    /// How long a closed connection waits for the peer's close (1 s by default); `None`: not at all.
    pub delayed_close_timeout: Option<Duration>,

    /// All request headers together, in bytes (60 KiB by default). More is answered with 431.
    pub max_request_headers_bytes: usize,
    /// Number of request headers (100 by default). More is answered with 431.
    pub max_headers_count: usize,
    /// Requests on one connection before it is drained; `None`: no limit.
    pub max_requests_per_connection: Option<u32>,
    /// What happens with header names that have an underscore.
    pub headers_with_underscores: HeadersWithUnderscores,

    /// Dot segments and percent-encoding of unreserved characters are resolved before matching.
    pub normalize_path: bool,
    /// `//` becomes `/` before matching.
    pub merge_slashes: bool,
    /// `%2F`, `%5C` in the path.
    pub escaped_slashes: EscapedSlashes,
    /// The port of `host`/`:authority` before matching.
    pub strip_port: StripPort,
    /// A dot at the end of the host is removed before matching.
    pub strip_trailing_host_dot: bool,

    /// What happens with `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCert,
    /// What we add to it.
    pub client_cert_details: ClientCertDetails,
    /// Trust the connection's address as the client's, and append it to `x-forwarded-for`.
    pub use_remote_address: bool,
    /// How many proxies in front of us are trusted in `x-forwarded-for`.
    pub xff_num_trusted_hops: u32,
    /// Do not append to `x-forwarded-for`.
    pub skip_xff_append: bool,
    /// Text appended to `via`; empty: none.
    pub via: Arc<str>,

    /// Text of the `server` header (`envoy` by default).
    pub server_name: Arc<str>,
    /// What happens with the upstream's `server` header.
    pub server_header: ServerHeader,
    /// `x-request-id` is made when there is none.
    pub generate_request_id: bool,
    /// A client's `x-request-id` is kept even at the edge.
    pub preserve_external_request_id: bool,
    /// What `x-request-id` has to do with traces.
    pub request_id: RequestIdOptions,
    /// Traces; `None`: this listener has nothing to do with them.
    pub tracing: Option<Tracing>,
    /// Clients whose one `x-forwarded-for` address lies in them may force a trace.
    pub internal_addresses: Vec<CidrRange>,
    /// `x-request-id` is put in the response too.
    pub always_set_request_id_in_response: bool,
    /// `100-continue` is left to the upstream instead of being answered here.
    pub proxy_100_continue: bool,
    /// Protocol upgrades that are allowed.
    pub upgrades: Vec<Upgrade>,
    /// Rules of the HTTP/1 codec.
    pub http1: Http1Options,
    /// Limits of the HTTP/2 codec.
    pub http2: Http2Options,
}

/// `UuidRequestIdConfig`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdOptions {
    /// The decision to trace is written into the id.
    pub pack_trace_reason: bool,
    /// The id decides; if not, every request is offered to the tracer.
    pub samples_traces: bool,
}

impl Default for RequestIdOptions {
    fn default() -> Self {
        RequestIdOptions { pack_trace_reason: true, samples_traces: true }
    }
}

/// Which HTTP the downstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// By ALPN, else by the connection's first bytes.
    Auto,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where routes come from.
#[derive(Debug, Clone, PartialEq)]
pub enum RouteSource {
    /// The route configuration of that name, by RDS.
    Rds {
        /// Resource name.
        name: Arc<str>,
    },
    /// Written in the listener.
    Inline(Arc<RouteConfiguration>),
}

/// `HeadersWithUnderscoresAction`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadersWithUnderscores {
    /// Keep.
    Allow,
    /// Answer 400.
    RejectRequest,
    /// Remove the header.
    DropHeader,
}

/// `PathWithEscapedSlashesAction`. The default is Envoy's: keep unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// Leave them.
    Keep,
    /// Answer 400.
    Reject,
    /// Answer 307 to the unescaped path.
    UnescapeAndRedirect,
    /// Unescape and go on.
    UnescapeAndForward,
}

/// The port in `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripPort {
    /// Leave it.
    Keep,
    /// Remove it if it is the listener's.
    Matching,
    /// Remove it.
    Any,
}

/// `ForwardClientCertDetails`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardClientCert {
    /// Remove the header.
    Sanitize,
    /// Keep it if the connection is mTLS.
    ForwardOnly,
    /// Append ours if the connection is mTLS.
    AppendForward,
    /// Replace it by ours if the connection is mTLS, else remove it.
    SanitizeSet,
    /// Keep it always.
    AlwaysForwardOnly,
}

/// What is told about the peer's certificate (`Hash` and, where ours is known, `By` are always told).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClientCertDetails {
    /// `Subject="…"`.
    pub subject: bool,
    /// `Cert="…"` (URL-encoded PEM).
    pub cert: bool,
    /// `Chain="…"`.
    pub chain: bool,
    /// `DNS=…`.
    pub dns: bool,
    /// `URI=…`.
    pub uri: bool,
}

/// `ServerHeaderTransformation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerHeader {
    /// Always ours.
    Overwrite,
    /// Ours if the upstream sent none.
    AppendIfAbsent,
    /// The upstream's, or none.
    PassThrough,
}

/// One protocol upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// Value of the `upgrade` header in lower case, `websocket`; `connect`: the method CONNECT.
    pub kind: Arc<str>,
    /// Allowed unless a route says otherwise.
    pub enabled: bool,
}

/// `Http1ProtocolOptions` of the downstream side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http1Options {
    /// Absolute-form request targets are accepted (true by default).
    pub allow_absolute_url: bool,
    /// HTTP/1.0 is answered, else 426.
    pub accept_http_10: bool,
    /// Host of HTTP/1.0 requests without one; empty: 400.
    pub default_host_for_http_10: Arc<str>,
    /// Trailers are forwarded, else dropped.
    pub enable_trailers: bool,
    /// Header names keep the case that they came with.
    pub preserve_header_case: bool,
}

impl Default for Http1Options {
    fn default() -> Self {
        Http1Options {
            allow_absolute_url: true,
            accept_http_10: false,
            default_host_for_http_10: "".into(),
            enable_trailers: false,
            preserve_header_case: false,
        }
    }
}
