//! The value of one operator of an access log, safe to stand in a line.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use config::model::{GrpcStatusForm, Moment, Node, Operator, PathSource, Unit};
use decide::expression::Value;

use super::attributes::value_of;
use super::captures::Captures;
use super::flags::ResponseFlags;
use super::labels::Workload;
use super::random::Random;
use super::record::{Captured, ConnectionFacts, RequestRecord};
use super::start_time::Seconds;
use super::{log_text, request_id, start_time};

/// A value of an access log.
#[derive(Debug, PartialEq)]
pub enum LogValue<'a> {
    /// There is none: `-` in text, `null` in JSON.
    Missing,
    /// Text from outside: to be escaped.
    Untrusted(Cow<'a, [u8]>),
    /// Text that the proxy made.
    Text(Cow<'a, str>),
    /// Flags of a response; `-` without one.
    Flags(ResponseFlags),
    /// An address with its port.
    Address(SocketAddr),
    /// An address without one.
    Ip(IpAddr),
    /// A moment, in a format.
    Time(SystemTime, Option<&'a str>),
    /// A number.
    Number(u64),
}

/// What a log reads: the request's record, and where the process runs.
#[derive(Debug, Clone, Copy)]
pub struct LogContext<'a> {
    /// The request.
    pub record: &'a RequestRecord,
    /// Its connection.
    pub connection: &'a ConnectionFacts,
    /// Who this proxy is: `namespace/workload`.
    pub own_name: &'a str,
    /// Who this proxy is, for expressions.
    pub node: &'a Node,
    /// Where values of heads were put; `None` for a connection.
    pub captures: Option<&'a Captures>,
    /// The caller's workload, where it is known.
    pub caller: Option<&'a Workload>,
    /// The called workload, where it is known.
    pub called: Option<&'a Workload>,
    /// The trace and the span of the request.
    pub span: Option<(u128, u64)>,
    /// The ids that the upstream proved and that we proved to it.
    pub upstream_principals: Option<(&'a str, &'a str)>,
    /// The worker's random numbers.
    pub random: &'a Random,
}

impl<'a> LogContext<'a> {
    fn hop(&self) -> LogValue<'a> {
        match (self.record.reason, &self.record.told) {
            (None, _) => LogValue::Missing,
            (Some(_), Some(told)) => untrusted(&told.hop),
            (Some(_), None) => untrusted(self.own_name),
        }
    }

    fn failing_peer(&self) -> LogValue<'a> {
        match self.record.failing_peer(self.connection) {
            None => LogValue::Missing,
            Some(Cow::Borrowed(peer)) => LogValue::Untrusted(Cow::Borrowed(peer.as_bytes())),
            Some(Cow::Owned(peer)) => LogValue::Untrusted(Cow::Owned(peer.into_bytes())),
        }
    }

    /// The value of an operator. `slot` is the operator's position among those that read a head.
    #[inline]
    pub fn value(&self, operator: &'a Operator, slot: usize) -> LogValue<'a> {
        let (record, connection) = (self.record, self.connection);
        match operator {
            Operator::StartTime(format) => LogValue::Time(record.start_time, format.as_deref()),
            Operator::Protocol if !record.protocol.is_empty() => LogValue::Text(record.protocol.into()),
            Operator::Protocol => LogValue::Missing,
            Operator::Request(_) => captured(&record.request_values, slot),
            Operator::Response(_) => captured(&record.response_values, slot),
            Operator::Trailer(_) => captured(&record.trailer_values, slot),
            Operator::ResponseCode => LogValue::Number(u64::from(record.status)),
            Operator::ResponseCodeDetails => own_or_untrusted(&record.details),
            Operator::GrpcStatus(form) => {
                record.grpc_status.map_or(LogValue::Missing, |status| grpc_status(status, *form))
            }
            Operator::ResponseFlags => LogValue::Flags(record.flags),
            Operator::ResponseFlagsLong => LogValue::Text(record.flags.long().into()),
            Operator::ConnectionTerminationDetails => own_or_untrusted(&record.termination),
            Operator::UpstreamTransportFailureReason => own_or_untrusted(&record.transport_failure),
            Operator::BytesReceived => LogValue::Number(record.request_body_bytes),
            Operator::BytesSent => LogValue::Number(record.response_body_bytes),
            Operator::Duration => between(Some(record.begun), record.end),
            Operator::RequestDuration => between(Some(record.begun), record.request_end),
            Operator::ResponseDuration => between(Some(record.begun), record.response_begin),
            Operator::ResponseTxDuration => between(record.response_begin, record.end),
            Operator::DownstreamTransportFailureReason => untrusted(&record.downstream_failure),
            Operator::RequestHeadersBytes => LogValue::Number(record.request_head_bytes),
            Operator::ResponseHeadersBytes => LogValue::Number(record.response_head_bytes),
            Operator::TulleReason => record.reason.map_or(LogValue::Missing, |reason| text(reason.code())),
            Operator::TulleBlame => {
                record.reason.map_or(LogValue::Missing, |reason| text(reason.blame().as_str()))
            }
            Operator::TulleHop => self.hop(),
            Operator::TullePeer => self.failing_peer(),
            Operator::UpstreamCluster => {
                record.upstream_cluster.as_deref().map_or(LogValue::Missing, untrusted)
            }
            Operator::RequestedServerName => untrusted(&connection.server_name),
            Operator::RouteName => record.route_name.as_deref().map_or(LogValue::Missing, untrusted),
            Operator::VirtualHostName => record.virtual_host.as_deref().map_or(LogValue::Missing, untrusted),
            Operator::DownstreamPeerUriSan => untrusted(&connection.peer_uri_sans),
            Operator::DownstreamLocalUriSan => untrusted(&connection.local_uri_sans),
            Operator::DownstreamPeerSubject => untrusted(&connection.peer_subject),
            Operator::DownstreamTlsVersion => text(connection.tls_version),
            Operator::UpstreamRequestAttemptCount => LogValue::Number(u64::from(record.attempts)),
            // Both are resolved to literals when the log is compiled.
            Operator::Environment(_) | Operator::Hostname | Operator::Never => LogValue::Missing,
            Operator::DownstreamDirectRemoteAddress
            | Operator::DownstreamDirectRemoteAddressWithoutPort
            | Operator::DownstreamDirectRemotePort
            | Operator::DownstreamLocalAddress
            | Operator::DownstreamLocalAddressWithoutPort
            | Operator::DownstreamLocalPort
            | Operator::DownstreamRemoteAddress
            | Operator::DownstreamRemoteAddressWithoutPort
            | Operator::DownstreamRemotePort
            | Operator::UpstreamHost
            | Operator::UpstreamLocalAddress
            | Operator::UpstreamLocalAddressWithoutPort
            | Operator::UpstreamLocalPort
            | Operator::UpstreamRemoteAddressWithoutPort
            | Operator::UpstreamRemotePort => self.address(operator),
            Operator::EmitTime(_)
            | Operator::AccessLogType
            | Operator::TraceId
            | Operator::SpanId
            | Operator::UniqueId
            | Operator::CustomFlags
            | Operator::QueryParam(_)
            | Operator::QueryParams
            | Operator::Path { .. }
            | Operator::CommonDuration(..)
            | Operator::DownstreamDirectLocalAddress
            | Operator::DownstreamDirectLocalAddressWithoutPort
            | Operator::DownstreamDirectLocalPort
            | Operator::UpstreamPeerUriSan
            | Operator::UpstreamLocalUriSan
            | Operator::Expression(_) => self.rarer_value(operator, slot),
        }
    }

    /// An address, or a part of it.
    fn address(&self, operator: &Operator) -> LogValue<'a> {
        let (record, connection) = (self.record, self.connection);
        match operator {
            Operator::UpstreamHost => record.upstream_host.as_deref().map_or(LogValue::Missing, untrusted),
            Operator::UpstreamRemoteAddressWithoutPort => {
                of_address(record.upstream_host.as_deref(), |it| LogValue::Ip(it.ip()))
            }
            Operator::UpstreamRemotePort => {
                of_address(record.upstream_host.as_deref(), |it| LogValue::Number(it.port().into()))
            }
            Operator::UpstreamLocalAddressWithoutPort => {
                record.upstream_local.map_or(LogValue::Missing, |it| LogValue::Ip(it.ip()))
            }
            Operator::UpstreamLocalPort => {
                record.upstream_local.map_or(LogValue::Missing, |it| LogValue::Number(it.port().into()))
            }
            Operator::DownstreamRemotePort => {
                LogValue::Number(record.client_address.unwrap_or(connection.remote).port().into())
            }
            Operator::DownstreamDirectRemotePort => LogValue::Number(connection.remote.port().into()),
            Operator::UpstreamLocalAddress => {
                record.upstream_local.map_or(LogValue::Missing, LogValue::Address)
            }
            Operator::DownstreamLocalAddress => LogValue::Address(connection.local),
            Operator::DownstreamLocalAddressWithoutPort => LogValue::Ip(connection.local.ip()),
            Operator::DownstreamLocalPort => LogValue::Number(u64::from(connection.local.port())),
            Operator::DownstreamRemoteAddress => {
                LogValue::Address(record.client_address.unwrap_or(connection.remote))
            }
            Operator::DownstreamRemoteAddressWithoutPort => {
                LogValue::Ip(record.client_address.unwrap_or(connection.remote).ip())
            }
            Operator::DownstreamDirectRemoteAddress => LogValue::Address(connection.remote),
            Operator::DownstreamDirectRemoteAddressWithoutPort => LogValue::Ip(connection.remote.ip()),
            _ => LogValue::Missing,
        }
    }

    /// What few formats ask for.
    fn rarer_value(&self, operator: &'a Operator, slot: usize) -> LogValue<'a> {
        let (record, connection) = (self.record, self.connection);
        match operator {
            Operator::EmitTime(format) => LogValue::Time(SystemTime::now(), format.as_deref()),
            Operator::AccessLogType if record.protocol == "-" => text("TcpConnectionEnd"),
            Operator::AccessLogType => text("DownstreamEnd"),
            Operator::TraceId => self
                .span
                .map_or(LogValue::Missing, |(trace, _)| LogValue::Text(format!("{trace:032x}").into())),
            Operator::SpanId => {
                self.span.map_or(LogValue::Missing, |(_, span)| LogValue::Text(format!("{span:016x}").into()))
            }
            Operator::UniqueId => {
                let id = request_id::generate(self.random);
                LogValue::Text(String::from_utf8_lossy(&id).into_owned().into())
            }
            Operator::CustomFlags => LogValue::Text("".into()),
            Operator::Path { .. } | Operator::QueryParams | Operator::QueryParam(_) => {
                of_target(operator, captured(&record.request_values, slot))
            }
            Operator::CommonDuration(from, to, unit) => {
                let lasted = self.moment(*from).zip(self.moment(*to));
                let lasted = lasted.and_then(|(from, to)| to.checked_duration_since(from));
                lasted.map_or(LogValue::Missing, |lasted| LogValue::Number(whole(lasted, *unit)))
            }
            Operator::DownstreamDirectLocalAddress => LogValue::Address(connection.local),
            Operator::DownstreamDirectLocalAddressWithoutPort => LogValue::Ip(connection.local.ip()),
            Operator::DownstreamDirectLocalPort => LogValue::Number(connection.local.port().into()),
            Operator::UpstreamPeerUriSan => principal(self.upstream_principals.map(|(peer, _)| peer)),
            Operator::UpstreamLocalUriSan => principal(self.upstream_principals.map(|(_, own)| own)),
            Operator::Expression(expression) => {
                value_of(expression, self).map_or(LogValue::Missing, evaluated)
            }
            _ => LogValue::Missing,
        }
    }

    fn moment(&self, moment: Moment) -> Option<Instant> {
        match moment {
            Moment::DownstreamReceiveBegin => Some(self.record.begun),
            Moment::DownstreamReceiveEnd => self.record.request_end,
            Moment::UpstreamSendBegin => self.record.sent,
            Moment::UpstreamReceiveBegin => self.record.response_begin,
            Moment::DownstreamSendEnd => self.record.end,
        }
    }
}

/// The header in which the path stands that an operator wants.
pub fn path_header(operator: &Operator) -> Option<(&'static str, Option<&'static str>)> {
    const ORIGINAL: &str = "x-envoy-original-path";
    Some(match operator {
        Operator::Path { source: PathSource::Path, .. } => (":path", None),
        Operator::Path { source: PathSource::Original, .. } => (ORIGINAL, None),
        Operator::Path { source: PathSource::OriginalOrPath, .. }
        | Operator::QueryParams
        | Operator::QueryParam(_) => (ORIGINAL, Some(":path")),
        _ => return None,
    })
}

/// What such an operator wants of a path with its query.
pub fn of_target<'a>(operator: &Operator, target: LogValue<'a>) -> LogValue<'a> {
    match operator {
        Operator::Path { query: false, .. } => part(target, |target| Some(cut_query(target).0)),
        Operator::QueryParams => part(target, |target| cut_query(target).1),
        Operator::QueryParam(name) => part(target, |target| parameter(cut_query(target).1?, name.as_bytes())),
        _ => target,
    }
}

fn cut_query(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The first parameter of that name.
fn parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| match pair.iter().position(|byte| *byte == b'=') {
        Some(at) => (pair[..at] == *name).then(|| &pair[at + 1..]),
        None => (pair == name).then_some(&pair[pair.len()..]),
    })
}

fn part<'a>(whole: LogValue<'a>, part: impl Fn(&[u8]) -> Option<&[u8]>) -> LogValue<'a> {
    let LogValue::Untrusted(whole) = whole else { return LogValue::Missing };
    match part(&whole).map(<[u8]>::to_vec) {
        Some(part) => LogValue::Untrusted(Cow::Owned(part)),
        None => LogValue::Missing,
    }
}

fn whole(lasted: Duration, unit: Unit) -> u64 {
    let whole = match unit {
        Unit::Milliseconds => lasted.as_millis(),
        Unit::Microseconds => lasted.as_micros(),
        Unit::Nanoseconds => lasted.as_nanos(),
    };
    u64::try_from(whole).unwrap_or(u64::MAX)
}

fn principal(id: Option<&str>) -> LogValue<'_> {
    id.filter(|id| *id != "unknown").map_or(LogValue::Missing, text)
}

/// What an expression came to: a text, also in JSON.
fn evaluated(value: Value) -> LogValue<'static> {
    LogValue::Untrusted(Cow::Owned(value.into_text().into_bytes()))
}

/// A gRPC status by Envoy's names; one without a name is its number.
fn grpc_status(status: u8, form: GrpcStatusForm) -> LogValue<'static> {
    const NAMES: [(&str, &str); 17] = [
        ("OK", "OK"),
        ("Canceled", "CANCELLED"),
        ("Unknown", "UNKNOWN"),
        ("InvalidArgument", "INVALID_ARGUMENT"),
        ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
        ("NotFound", "NOT_FOUND"),
        ("AlreadyExists", "ALREADY_EXISTS"),
        ("PermissionDenied", "PERMISSION_DENIED"),
        ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
        ("FailedPrecondition", "FAILED_PRECONDITION"),
        ("Aborted", "ABORTED"),
        ("OutOfRange", "OUT_OF_RANGE"),
        ("Unimplemented", "UNIMPLEMENTED"),
        ("Internal", "INTERNAL"),
        ("Unavailable", "UNAVAILABLE"),
        ("DataLoss", "DATA_LOSS"),
        ("Unauthenticated", "UNAUTHENTICATED"),
    ];
    match (form, NAMES.get(usize::from(status))) {
        (GrpcStatusForm::Number, _) => LogValue::Number(u64::from(status)),
        (_, None) => LogValue::Text(status.to_string().into()),
        (GrpcStatusForm::Camel, Some((camel, _))) => text(camel),
        (GrpcStatusForm::Snake, Some((_, snake))) => text(snake),
    }
}

fn text(value: &str) -> LogValue<'_> {
    untrusted(value)
}

fn untrusted(value: &str) -> LogValue<'_> {
    if value.is_empty() { LogValue::Missing } else { LogValue::Untrusted(Cow::Borrowed(value.as_bytes())) }
}

/// What stands in the program is safe; what was put together may hold something from outside.
#[allow(clippy::ptr_arg, reason = "which of the two it is decides")]
fn own_or_untrusted<'a>(value: &'a Cow<'static, str>) -> LogValue<'a> {
    match value {
        Cow::Borrowed("") => LogValue::Missing,
        Cow::Borrowed(text) => LogValue::Text(Cow::Borrowed(text)),
        Cow::Owned(text) => untrusted(text),
    }
}

/// A part of an address; a host on a Unix socket has none.
fn of_address(address: Option<&str>, part: impl Fn(SocketAddr) -> LogValue<'static>) -> LogValue<'static> {
    address.and_then(|address| address.parse().ok()).map_or(LogValue::Missing, part)
}

fn captured(values: &Captured, slot: usize) -> LogValue<'_> {
    match values.get(slot).and_then(Option::as_ref) {
        Some(value) if !value.is_empty() => LogValue::Untrusted(Cow::Borrowed(value)),
        _ => LogValue::Missing,
    }
}

fn between(from: Option<std::time::Instant>, to: Option<std::time::Instant>) -> LogValue<'static> {
    match (from, to) {
        (Some(from), Some(to)) => LogValue::Number(
            u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX),
        ),
        _ => LogValue::Missing,
    }
}

impl LogValue<'_> {
    /// Writes the value into a text line, at most `max_length` bytes of it.
    #[inline]
    pub fn write_text(&self, line: &mut Vec<u8>, max_length: Option<usize>, seconds: &mut Seconds) {
        let cut = |bytes: usize| max_length.unwrap_or(usize::MAX).min(bytes);
        match self {
            LogValue::Missing => line.push(b'-'),
            LogValue::Text(text) => line.extend_from_slice(&text.as_bytes()[..cut(text.len())]),
            LogValue::Untrusted(bytes) => log_text::escaped(line, &bytes[..cut(bytes.len())]),
            other => {
                let start = line.len();
                other.write_own(line, seconds);
                line.truncate(start + cut(line.len() - start));
            }
        }
    }

    /// Writes what cannot do harm.
    fn write_own(&self, line: &mut Vec<u8>, seconds: &mut Seconds) {
        match self {
            LogValue::Flags(flags) => flags.write(line),
            LogValue::Address(address) => log_text::address(line, *address),
            LogValue::Ip(ip) => log_text::ip(line, *ip),
            LogValue::Time(time, None) => seconds.write(line, *time),
            LogValue::Time(time, Some(format)) => start_time::write_format(line, *time, format),
            LogValue::Number(number) => log_text::number(line, *number),
            LogValue::Missing | LogValue::Text(_) | LogValue::Untrusted(_) => {}
        }
    }

    /// Writes the value as JSON.
    pub fn write_json(&self, line: &mut Vec<u8>, max_length: Option<usize>, seconds: &mut Seconds) {
        let cut = |bytes: usize| max_length.unwrap_or(usize::MAX).min(bytes);
        match self {
            LogValue::Missing => line.extend_from_slice(b"null"),
            LogValue::Number(_) => self.write_own(line, seconds),
            LogValue::Text(text) => log_text::json(line, &text.as_bytes()[..cut(text.len())]),
            LogValue::Untrusted(bytes) => log_text::json(line, &bytes[..cut(bytes.len())]),
            LogValue::Flags(_) | LogValue::Address(_) | LogValue::Ip(_) | LogValue::Time(_, None) => {
                line.push(b'"');
                self.write_own(line, seconds);
                line.push(b'"');
            }
            LogValue::Time(_, Some(_)) => {
                let mut text = Vec::new();
                self.write_own(&mut text, seconds);
                log_text::json(line, &text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_status_has_envoys_names() {
        for (status, form, expected) in [
            (0, GrpcStatusForm::Camel, "OK"),
            (1, GrpcStatusForm::Camel, "Canceled"),
            (1, GrpcStatusForm::Snake, "CANCELLED"),
            (14, GrpcStatusForm::Camel, "Unavailable"),
            (14, GrpcStatusForm::Number, "14"),
            (16, GrpcStatusForm::Snake, "UNAUTHENTICATED"),
            (17, GrpcStatusForm::Camel, "17"),
        ] {
            let mut line = Vec::new();
            grpc_status(status, form).write_text(&mut line, None, &mut Seconds::default());
            assert_eq!(line, expected.as_bytes());
        }
    }

    #[test]
    fn a_length_limit_cuts() {
        let (mut line, mut seconds) = (Vec::new(), Seconds::default());
        LogValue::Untrusted(b"abcdef".into()).write_text(&mut line, Some(3), &mut seconds);
        LogValue::Missing.write_text(&mut line, Some(3), &mut seconds);
        LogValue::Address("1.2.3.4:5".parse().unwrap()).write_text(&mut line, Some(3), &mut seconds);
        assert_eq!(line, b"abc-1.2");
    }

    #[test]
    fn parameters_of_a_query() {
        let of = |name: &str| parameter(b"a=1&bb=2&c&a=3", name.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!((of("a"), of("b"), of("bb")), (Some(b"1".to_vec()), None, Some(b"2".to_vec())));
        assert_eq!(of("c"), Some(Vec::new()));
        assert_eq!(cut_query(b"/x?y?z"), (&b"/x"[..], Some(&b"y?z"[..])));
    }
}
