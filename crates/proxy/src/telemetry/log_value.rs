//! The value of one operator of an access log, safe to stand in a line.

use std::fmt::Display;
use std::io::Write;
use std::net::SocketAddr;
use std::time::SystemTime;

use config::model::{GrpcStatusForm, Operator};

use super::record::{Captured, ConnectionFacts, RequestRecord};
use super::start_time;

/// A value of an access log.
#[derive(Debug, PartialEq)]
pub enum LogValue<'a> {
    /// There is none: `-` in text, `null` in JSON.
    Missing,
    /// Text from outside: to be escaped.
    Untrusted(&'a [u8]),
    /// Text from outside that somebody put together.
    UntrustedText(String),
    /// Text that the proxy made.
    Text(String),
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
}

impl<'a> LogContext<'a> {
    fn hop(&self) -> LogValue<'a> {
        match (self.record.reason, &self.record.told) {
            (None, _) => LogValue::Missing,
            (Some(_), Some(told)) => untrusted(&told.hop),
            (Some(_), None) => untrusted(self.own_name),
        }
    }

    /// The value of an operator. `slot` is the operator's position among those that read a head.
    pub fn value(&self, operator: &'a Operator, slot: usize) -> LogValue<'a> {
        let (record, connection) = (self.record, self.connection);
        match operator {
            Operator::StartTime(format) => started(record.start_time, format.as_deref()),
            Operator::Protocol => text(record.protocol),
            Operator::Request(_) => captured(&record.request_values, slot),
            Operator::Response(_) => captured(&record.response_values, slot),
            Operator::Trailer(_) => captured(&record.trailer_values, slot),
            Operator::ResponseCode => LogValue::Number(u64::from(record.status)),
            Operator::ResponseCodeDetails => untrusted(&record.details),
            Operator::GrpcStatus(form) => {
                record.grpc_status.map_or(LogValue::Missing, |status| grpc_status(status, *form))
            }
            Operator::ResponseFlags => shown(record.flags),
            Operator::ResponseFlagsLong => LogValue::Text(record.flags.long()),
            Operator::ConnectionTerminationDetails => untrusted(&record.termination),
            Operator::UpstreamTransportFailureReason => untrusted(&record.transport_failure),
            Operator::BytesReceived => LogValue::Number(record.request_body_bytes),
            Operator::BytesSent => LogValue::Number(record.response_body_bytes),
            Operator::Duration => between(Some(record.begun), record.end),
            Operator::RequestDuration => between(Some(record.begun), record.request_end),
            Operator::ResponseDuration => between(Some(record.begun), record.response_begin),
            Operator::ResponseTxDuration => between(record.response_begin, record.end),
            Operator::UpstreamHost => record.upstream_host.as_deref().map_or(LogValue::Missing, untrusted),
            Operator::UpstreamRemoteAddressWithoutPort => {
                of_address(record.upstream_host.as_deref(), |it| shown(it.ip()))
            }
            Operator::UpstreamRemotePort => {
                of_address(record.upstream_host.as_deref(), |it| LogValue::Number(it.port().into()))
            }
            Operator::UpstreamLocalAddressWithoutPort => {
                record.upstream_local.map_or(LogValue::Missing, |it| shown(it.ip()))
            }
            Operator::UpstreamLocalPort => {
                record.upstream_local.map_or(LogValue::Missing, |it| LogValue::Number(it.port().into()))
            }
            Operator::DownstreamRemotePort => {
                LogValue::Number(record.client_address.unwrap_or(connection.remote).port().into())
            }
            Operator::DownstreamDirectRemotePort => LogValue::Number(connection.remote.port().into()),
            Operator::DownstreamTransportFailureReason => untrusted(&record.downstream_failure),
            Operator::RequestHeadersBytes => LogValue::Number(record.request_head_bytes),
            Operator::ResponseHeadersBytes => LogValue::Number(record.response_head_bytes),
            Operator::TulleReason => record.reason.map_or(LogValue::Missing, |reason| text(reason.code())),
            Operator::TulleBlame => {
                record.reason.map_or(LogValue::Missing, |reason| text(reason.blame().as_str()))
            }
            Operator::TulleHop => self.hop(),
            Operator::TullePeer => record
                .failing_peer(connection)
                .map_or(LogValue::Missing, |peer| LogValue::UntrustedText(peer.into_owned())),
            Operator::UpstreamCluster => {
                record.upstream_cluster.as_deref().map_or(LogValue::Missing, untrusted)
            }
            Operator::UpstreamLocalAddress => record.upstream_local.map_or(LogValue::Missing, shown),
            Operator::DownstreamLocalAddress => shown(connection.local),
            Operator::DownstreamLocalAddressWithoutPort => shown(connection.local.ip()),
            Operator::DownstreamLocalPort => LogValue::Number(u64::from(connection.local.port())),
            Operator::DownstreamRemoteAddress => shown(record.client_address.unwrap_or(connection.remote)),
            Operator::DownstreamRemoteAddressWithoutPort => {
                shown(record.client_address.unwrap_or(connection.remote).ip())
            }
            Operator::DownstreamDirectRemoteAddress => shown(connection.remote),
            Operator::DownstreamDirectRemoteAddressWithoutPort => shown(connection.remote.ip()),
            Operator::RequestedServerName => untrusted(&connection.server_name),
            Operator::RouteName => record.route_name.as_deref().map_or(LogValue::Missing, untrusted),
            Operator::VirtualHostName => record.virtual_host.as_deref().map_or(LogValue::Missing, untrusted),
            Operator::DownstreamPeerUriSan => untrusted(&connection.peer_uri_sans),
            Operator::DownstreamLocalUriSan => untrusted(&connection.local_uri_sans),
            Operator::DownstreamPeerSubject => untrusted(&connection.peer_subject),
            Operator::DownstreamTlsVersion => text(connection.tls_version),
            Operator::UpstreamRequestAttemptCount => LogValue::Number(u64::from(record.attempts)),
            // Both are resolved to literals when the log is compiled.
            Operator::Environment(_) | Operator::Hostname => LogValue::Missing,
        }
    }
}

fn started(at: SystemTime, format: Option<&str>) -> LogValue<'static> {
    let mut text = Vec::with_capacity(24);
    match format {
        None => start_time::write_default(&mut text, at),
        Some(format) => start_time::write_format(&mut text, at, format),
    }
    LogValue::Text(String::from_utf8_lossy(&text).into_owned())
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
        (_, None) => LogValue::Text(status.to_string()),
        (GrpcStatusForm::Camel, Some((camel, _))) => text(camel),
        (GrpcStatusForm::Snake, Some((_, snake))) => text(snake),
    }
}

fn text(value: &str) -> LogValue<'_> {
    untrusted(value)
}

fn shown(value: impl Display) -> LogValue<'static> {
    LogValue::Text(value.to_string())
}

fn untrusted(value: &str) -> LogValue<'_> {
    if value.is_empty() { LogValue::Missing } else { LogValue::Untrusted(value.as_bytes()) }
}

/// A part of an address; a host on a Unix socket has none.
fn of_address(address: Option<&str>, part: impl Fn(SocketAddr) -> LogValue<'static>) -> LogValue<'static> {
    address.and_then(|address| address.parse().ok()).map_or(LogValue::Missing, part)
}

fn captured(values: &Captured, slot: usize) -> LogValue<'_> {
    match values.get(slot).and_then(Option::as_ref) {
        Some(value) if !value.is_empty() => LogValue::Untrusted(value),
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
    pub fn write_text(&self, line: &mut Vec<u8>, max_length: Option<usize>) {
        let cut = |bytes: usize| max_length.unwrap_or(usize::MAX).min(bytes);
        match self {
            LogValue::Missing => line.push(b'-'),
            LogValue::Text(text) => line.extend_from_slice(&text.as_bytes()[..cut(text.len())]),
            LogValue::Number(number) => {
                // Writing to a Vec cannot fail.
                let _ = write!(line, "{number}");
            }
            LogValue::Untrusted(bytes) => escape(line, &bytes[..cut(bytes.len())]),
            LogValue::UntrustedText(text) => escape(line, &text.as_bytes()[..cut(text.len())]),
        }
    }

    /// Writes the value as JSON.
    pub fn write_json(&self, line: &mut Vec<u8>, max_length: Option<usize>) {
        match self {
            LogValue::Missing => line.extend_from_slice(b"null"),
            LogValue::Number(_) => self.write_text(line, None),
            LogValue::Text(_) | LogValue::Untrusted(_) | LogValue::UntrustedText(_) => {
                let mut text = Vec::new();
                match self {
                    LogValue::Untrusted(bytes) => {
                        text.extend_from_slice(&bytes[..max_length.unwrap_or(usize::MAX).min(bytes.len())]);
                    }
                    LogValue::UntrustedText(whole) => {
                        text.extend_from_slice(
                            &whole.as_bytes()[..max_length.unwrap_or(usize::MAX).min(whole.len())],
                        );
                    }
                    other => other.write_text(&mut text, max_length),
                }
                write_json_text(line, &text);
            }
        }
    }
}

/// Writes a JSON string; bytes that are not UTF-8 become U+FFFD.
pub fn write_json_text(line: &mut Vec<u8>, text: &[u8]) {
    // Serialising a string into a Vec cannot fail.
    let _ = serde_json::to_writer(line, &String::from_utf8_lossy(text));
}

/// A value from outside must neither end its line nor its quotes: control characters, quotes and bytes that are not
/// UTF-8 are written as `\xNN`.
fn escape(line: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || c == '"' {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    hex(line, byte);
                }
            } else {
                line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        for byte in chunk.invalid() {
            hex(line, *byte);
        }
    }
}

fn hex(line: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    line.extend_from_slice(&[b'\\', b'x', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_from_outside_cannot_end_its_line_or_its_quotes() {
        let mut line = Vec::new();
        LogValue::Untrusted(b"a\r\nb\" \x1b[2J \xff \xc2\x85 \xc3\xa9").write_text(&mut line, None);
        assert_eq!(String::from_utf8(line).unwrap(), "a\\x0d\\x0ab\\x22 \\x1b[2J \\xff \\xc2\\x85 é");
        let mut line = Vec::new();
        LogValue::Untrusted(b"a\r\n\"\xff").write_json(&mut line, None);
        assert_eq!(String::from_utf8(line).unwrap(), "\"a\\r\\n\\\"\u{fffd}\"");
    }

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
            grpc_status(status, form).write_text(&mut line, None);
            assert_eq!(line, expected.as_bytes());
        }
    }

    #[test]
    fn a_length_limit_cuts() {
        let mut line = Vec::new();
        LogValue::Untrusted(b"abcdef").write_text(&mut line, Some(3));
        LogValue::Missing.write_text(&mut line, Some(3));
        assert_eq!(line, b"abc-");
    }
}
