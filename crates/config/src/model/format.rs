//! Envoy's substitution format (`%OPERATOR(ARGUMENT):LENGTH%`), parsed: used by access logs and by added headers.

use super::expression::Expression;
use std::sync::Arc;

/// A parsed format string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Format {
    /// Pieces in order.
    pub tokens: Vec<Token>,
}

/// One piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Text written as it is.
    Literal(Arc<str>),
    /// A value of the request, connection or proxy; `-` in an access log when there is none.
    Operator {
        /// Which value.
        operator: Operator,
        /// At most that many bytes of it.
        max_length: Option<usize>,
    },
}

/// The header that an operator reads: the first of the two that the message has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderSource {
    /// Name in lower case; may be a pseudo header.
    pub name: Arc<str>,
    /// Second choice (`%REQ(FIRST?SECOND)%`), in lower case.
    pub alternative: Option<Arc<str>>,
}

/// How a gRPC status is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcStatusForm {
    /// `NotFound`.
    Camel,
    /// `NOT_FOUND`.
    Snake,
    /// `5`.
    Number,
}

/// Where a path comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathSource {
    /// As it goes upstream.
    Path,
    /// As it came, where it was changed.
    Original,
    /// As it came.
    OriginalOrPath,
}

/// A moment in the life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The first byte came from downstream.
    DownstreamReceiveBegin,
    /// The last byte came from downstream.
    DownstreamReceiveEnd,
    /// The first byte went upstream.
    UpstreamSendBegin,
    /// The first byte came from upstream.
    UpstreamReceiveBegin,
    /// The last byte went downstream.
    DownstreamSendEnd,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// Millionths.
    Microseconds,
    /// Thousand millionths.
    Nanoseconds,
}

/// A value that a format can name. Names as in Envoy's substitution formatter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// When the request began. The argument is a strftime format; `None` means `2006-01-02T15:04:05.000Z`.
    StartTime(Option<Arc<str>>),
    /// `HTTP/1.0`, `HTTP/1.1`, `HTTP/2`.
    Protocol,
    /// A request header.
    Request(HeaderSource),
    /// A response header.
    Response(HeaderSource),
    /// A response trailer.
    Trailer(HeaderSource),
    /// HTTP status; `0` when none was sent.
    ResponseCode,
    /// Why the proxy answered so (`via_upstream`, `route_not_found`).
    ResponseCodeDetails,
    /// What a gRPC call came to; nothing for other requests.
    GrpcStatus(GrpcStatusForm),
    /// Short flags (`UH`, `NR`, `-`).
    ResponseFlags,
    /// Long flags (`NoHealthyUpstream`).
    ResponseFlagsLong,
    /// Why the connection was closed (RBAC on L4).
    ConnectionTerminationDetails,
    /// Why the upstream's TLS failed.
    UpstreamTransportFailureReason,
    /// Body bytes received from downstream.
    BytesReceived,
    /// Body bytes sent to downstream.
    BytesSent,
    /// Milliseconds from the first byte in to the last byte out.
    Duration,
    /// Milliseconds until the last byte of the request was received.
    RequestDuration,
    /// Milliseconds until the first byte of the upstream's response.
    ResponseDuration,
    /// Milliseconds between first byte from upstream and last byte to downstream.
    ResponseTxDuration,
    /// `ip:port` of the chosen host.
    UpstreamHost,
    /// The chosen host's address without its port.
    UpstreamRemoteAddressWithoutPort,
    /// The chosen host's port.
    UpstreamRemotePort,
    /// Our address of the upstream connection without its port.
    UpstreamLocalAddressWithoutPort,
    /// Our port of the upstream connection.
    UpstreamLocalPort,
    /// The port of the downstream's address.
    DownstreamRemotePort,
    /// The port of the connection's other end.
    DownstreamDirectRemotePort,
    /// Why the handshake with the downstream failed.
    DownstreamTransportFailureReason,
    /// Bytes of the request's head.
    RequestHeadersBytes,
    /// Bytes of the response's head.
    ResponseHeadersBytes,
    /// Our own: the code of the reason for which it ended other than well.
    TulleReason,
    /// Our own: who caused that.
    TulleBlame,
    /// Our own: the workload whose proxy noticed it first, as `namespace/name`.
    TulleHop,
    /// Our own: with whom that proxy spoke.
    TullePeer,
    /// Name of the upstream cluster.
    UpstreamCluster,
    /// Our address of the upstream connection.
    UpstreamLocalAddress,
    /// The address that the downstream connected to.
    DownstreamLocalAddress,
    /// The same without the port.
    DownstreamLocalAddressWithoutPort,
    /// Only its port.
    DownstreamLocalPort,
    /// The downstream's address, from `x-forwarded-for` when that is trusted.
    DownstreamRemoteAddress,
    /// The same without the port.
    DownstreamRemoteAddressWithoutPort,
    /// The address of the connection itself.
    DownstreamDirectRemoteAddress,
    /// The same without the port.
    DownstreamDirectRemoteAddressWithoutPort,
    /// SNI of the downstream's TLS.
    RequestedServerName,
    /// Name of the route.
    RouteName,
    /// Name of the virtual host.
    VirtualHostName,
    /// URI SANs of the peer's certificate.
    DownstreamPeerUriSan,
    /// URI SANs of our own certificate.
    DownstreamLocalUriSan,
    /// Subject of the peer's certificate.
    DownstreamPeerSubject,
    /// Negotiated TLS version of the downstream connection.
    DownstreamTlsVersion,
    /// Attempts made upstream.
    UpstreamRequestAttemptCount,
    /// An environment variable, read when the configuration is applied.
    Environment(Arc<str>),
    /// The proxy's host name.
    Hostname,
    /// What is logged: the end of a request or of a connection.
    AccessLogType,
    /// Id of the trace that the request belongs to.
    TraceId,
    /// Id of the request's span.
    SpanId,
    /// A random id of the line.
    UniqueId,
    /// When the line is written; the argument as in `StartTime`.
    EmitTime(Option<Arc<str>>),
    /// A parameter of the query, as the client sent it.
    QueryParam(Arc<str>),
    /// The query, as the client sent it.
    QueryParams,
    /// The path.
    Path {
        /// With its query.
        query: bool,
        /// Which one.
        source: PathSource,
    },
    /// The time between two moments.
    CommonDuration(Moment, Moment, Unit),
    /// The address that the connection was accepted on.
    DownstreamDirectLocalAddress,
    /// The same without the port.
    DownstreamDirectLocalAddressWithoutPort,
    /// Only its port.
    DownstreamDirectLocalPort,
    /// URI SAN of the upstream's certificate.
    UpstreamPeerUriSan,
    /// URI SAN of the certificate that we showed to the upstream.
    UpstreamLocalUriSan,
    /// Flags that extensions set: none does.
    CustomFlags,
    /// The value of an expression.
    Expression(Arc<Expression>),
    /// Something that has never a value in this proxy.
    Never,
}
