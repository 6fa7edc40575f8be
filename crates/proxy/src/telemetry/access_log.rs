//! The access logs of a connection manager, compiled: which values to take from a request as it passes, and how a line
//! is put together at its end. Nothing is formatted when no log is configured.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use config::model::{AccessLog, AccessLogFormat, Format, HeaderSource, Operator, Token};

use super::log_filter::LogFilter;
use super::log_sink::{LogSink, LogSinks};
use super::log_value::{LogContext, LogValue, write_json_text};
use super::raised::Raised;
use super::random::Random;
use super::record::{Captured, RequestRecord};
use super::request_id;
use crate::http::{Headers, RequestHead, ResponseHead};

/// One piece of a compiled line.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(Arc<str>),
    Value { operator: Operator, slot: usize, max_length: Option<usize> },
}

#[derive(Debug, Clone, PartialEq)]
enum Layout {
    Text(Vec<Piece>),
    Json(Vec<(Arc<str>, Vec<Piece>)>),
}

/// The access logs of one connection manager.
#[derive(Debug, Default)]
pub struct AccessLogs {
    logs: Vec<Log>,
    /// What is written whatever the filters say, and where the request's id was put.
    raised: Option<(Arc<Raised>, usize)>,
    sources: Sources,
}

#[derive(Debug)]
struct Log {
    sink: Arc<LogSink>,
    layout: Layout,
    filter: Option<LogFilter>,
}

/// Which header values a line needs, each once.
#[derive(Debug, Default, Clone, PartialEq)]
struct Sources {
    request: Vec<HeaderSource>,
    response: Vec<HeaderSource>,
    trailers: Vec<HeaderSource>,
}

impl AccessLogs {
    /// Compiles the configured logs and opens their sinks.
    ///
    /// # Errors
    /// A sink cannot be opened; the error names it.
    pub fn compile(configured: &[AccessLog], sinks: &LogSinks) -> io::Result<Self> {
        let mut compiled = Self::default();
        for log in configured {
            let sink = sinks.get(&log.sink).map_err(|error| {
                io::Error::new(error.kind(), format!("access log {:?}: {error}", log.sink))
            })?;
            let layout = compiled.sources.layout(&log.format);
            let filter = log.filter.as_ref();
            let filter =
                filter.map(|filter| LogFilter::compile(filter, &mut |it| compiled.sources.request(it)));
            if filter.is_some() {
                let id = compiled.sources.request(&request_id::HEADER.into());
                compiled.raised = Some((sinks.raised.clone(), id));
            }
            compiled.logs.push(Log { sink, layout, filter });
        }
        Ok(compiled)
    }

    /// Whether nothing is logged.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    /// Takes the values that a line needs from the request's head, in the form in which it goes upstream.
    pub fn capture_request(&self, head: &RequestHead, record: &mut RequestRecord) {
        record.request_values =
            self.sources.request.iter().map(|source| pick(source, |name| request(head, name))).collect();
    }

    /// Takes the values that a line needs from the response's head, in the form in which it goes downstream.
    pub fn capture_response(&self, head: &ResponseHead, record: &mut RequestRecord) {
        record.response_values = capture(&self.sources.response, &head.headers);
    }

    /// Takes the values that a line needs from the response's trailers.
    pub fn capture_trailers(&self, trailers: &Headers, record: &mut RequestRecord) {
        record.trailer_values = capture(&self.sources.trailers, trailers);
    }

    fn is_raised(&self, record: &RequestRecord) -> bool {
        self.raised.as_ref().is_some_and(|(raised, slot)| {
            raised.takes(record.start_time, record.request_values.get(*slot).and_then(Option::as_deref))
        })
    }

    /// Queues one line per log whose filter takes the request.
    pub fn write(&self, context: &LogContext<'_>, random: &Random) {
        for log in &self.logs {
            let taken = log.filter.as_ref().is_none_or(|filter| filter.takes(context.record, random));
            if taken || self.is_raised(context.record) {
                log.sink.write(log.layout.line(context));
            }
        }
    }
}

fn capture(sources: &[HeaderSource], headers: &Headers) -> Captured {
    sources.iter().map(|source| pick(source, |name| headers.get_bytes(name))).collect()
}

fn pick(source: &HeaderSource, find: impl Fn(&str) -> Option<Bytes>) -> Option<Bytes> {
    find(&source.name).or_else(|| source.alternative.as_deref().and_then(find))
}

fn request(head: &RequestHead, name: &str) -> Option<Bytes> {
    match name {
        ":method" => Some(Bytes::copy_from_slice(head.method.as_str().as_bytes())),
        ":path" => Some(head.target.clone()),
        ":authority" | "host" => Some(head.authority.clone()),
        ":scheme" => Some(Bytes::from_static(head.scheme.as_str().as_bytes())),
        name => head.headers.get_bytes(name),
    }
}

impl Sources {
    /// The position of a header of the request among the captured values.
    fn request(&mut self, name: &Arc<str>) -> usize {
        slot(&mut self.request, &HeaderSource { name: name.clone(), alternative: None })
    }

    fn layout(&mut self, format: &AccessLogFormat) -> Layout {
        match format {
            AccessLogFormat::Text(format) => Layout::Text(self.pieces(format)),
            AccessLogFormat::Json(fields) => Layout::Json(
                fields.iter().map(|(name, format)| (name.clone(), self.pieces(format))).collect(),
            ),
        }
    }

    fn pieces(&mut self, format: &Format) -> Vec<Piece> {
        format.tokens.iter().map(|token| self.piece(token)).collect()
    }

    fn piece(&mut self, token: &Token) -> Piece {
        let (operator, max_length) = match token {
            Token::Literal(text) => return Piece::Literal(text.clone()),
            Token::Operator { operator, max_length } => (operator, *max_length),
        };
        let slot = match operator {
            Operator::Request(source) => slot(&mut self.request, source),
            Operator::Response(source) => slot(&mut self.response, source),
            Operator::Trailer(source) => slot(&mut self.trailers, source),
            Operator::Environment(name) => {
                return Piece::Literal(
                    std::env::var(&**name).map_or("-".into(), |value| clean(&value).into()),
                );
            }
            Operator::Hostname => {
                let name =
                    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "-".to_owned());
                return Piece::Literal(clean(&name).into());
            }
            _ => 0,
        };
        Piece::Value { operator: operator.clone(), slot, max_length }
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

fn slot(sources: &mut Vec<HeaderSource>, source: &HeaderSource) -> usize {
    sources.iter().position(|there| there == source).unwrap_or_else(|| {
        sources.push(source.clone());
        sources.len() - 1
    })
}

impl Layout {
    fn line(&self, context: &LogContext<'_>) -> Vec<u8> {
        let mut line = Vec::with_capacity(512);
        match self {
            Layout::Text(pieces) => text(&mut line, pieces, context),
            Layout::Json(fields) => {
                for (index, (name, pieces)) in fields.iter().enumerate() {
                    line.push(if index == 0 { b'{' } else { b',' });
                    write_json_text(&mut line, name.as_bytes());
                    line.push(b':');
                    if let [Piece::Value { operator, slot, max_length }] = pieces.as_slice() {
                        context.value(operator, *slot).write_json(&mut line, *max_length);
                    } else {
                        let mut value = Vec::new();
                        text(&mut value, pieces, context);
                        write_json_text(&mut line, &value);
                    }
                }
                line.extend_from_slice(if fields.is_empty() { b"{}\n" } else { b"}\n" });
            }
        }
        line
    }
}

fn text(line: &mut Vec<u8>, pieces: &[Piece], context: &LogContext<'_>) {
    for piece in pieces {
        match piece {
            Piece::Literal(text) => line.extend_from_slice(text.as_bytes()),
            Piece::Value { operator, slot, max_length } => {
                let value: LogValue<'_> = context.value(operator, *slot);
                value.write_text(line, *max_length);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BodyLength, Scheme, Version};
    use crate::telemetry::flags::ResponseFlags;
    use crate::telemetry::record::ConnectionFacts;
    use std::time::{Duration, Instant, UNIX_EPOCH};

    fn operator(operator: Operator) -> Token {
        Token::Operator { operator, max_length: None }
    }

    fn header(name: &str, alternative: Option<&str>) -> HeaderSource {
        HeaderSource { name: name.into(), alternative: alternative.map(Into::into) }
    }

    /// Istio's default format, as the reader of the configuration parses it.
    fn istio() -> Format {
        let mut tokens = Vec::new();
        let mut add = |before: &str, value| {
            tokens.push(Token::Literal(before.into()));
            tokens.push(operator(value));
        };
        add("[", Operator::StartTime(None));
        add("] \"", Operator::Request(header(":method", None)));
        add(" ", Operator::Request(header("x-envoy-original-path", Some(":path"))));
        add(" ", Operator::Protocol);
        add("\" ", Operator::ResponseCode);
        add(" ", Operator::ResponseFlags);
        add(" ", Operator::ResponseCodeDetails);
        add(" ", Operator::ConnectionTerminationDetails);
        add(" \"", Operator::UpstreamTransportFailureReason);
        add("\" ", Operator::BytesReceived);
        add(" ", Operator::BytesSent);
        add(" ", Operator::Duration);
        add(" ", Operator::Response(header("x-envoy-upstream-service-time", None)));
        add(" \"", Operator::Request(header("x-forwarded-for", None)));
        add("\" \"", Operator::Request(header("user-agent", None)));
        add("\" \"", Operator::Request(header("x-request-id", None)));
        add("\" \"", Operator::Request(header(":authority", None)));
        add("\" \"", Operator::UpstreamHost);
        add("\" ", Operator::UpstreamCluster);
        add(" ", Operator::UpstreamLocalAddress);
        add(" ", Operator::DownstreamLocalAddress);
        add(" ", Operator::DownstreamRemoteAddress);
        add(" ", Operator::RequestedServerName);
        add(" ", Operator::RouteName);
        tokens.push(Token::Literal("\n".into()));
        Format { tokens }
    }

    fn facts() -> ConnectionFacts {
        ConnectionFacts {
            local: "127.0.1.1:8080".parse().unwrap(),
            remote: "127.0.2.1:40000".parse().unwrap(),
            server_name: "outbound_.8080_.stable_.payment".into(),
            peer_uri_sans: "spiffe://cluster.local/ns/a/sa/b".into(),
            peer_subject: "".into(),
            local_uri_sans: "".into(),
            tls_version: "TLSv1.3",
        }
    }

    fn record() -> RequestRecord {
        let begun = Instant::now();
        let mut record =
            RequestRecord::new(UNIX_EPOCH + Duration::from_millis(1_700_000_000_007), begun, "HTTP/1.1");
        record.end = Some(begun + Duration::from_millis(12));
        record
    }

    fn request_head() -> RequestHead {
        RequestHead {
            method: http::Method::GET,
            scheme: Scheme::Http,
            authority: "payment:8080".into(),
            target: "/pay?a=1".into(),
            version: Version::Http11,
            headers: [("User-Agent", "curl/8"), ("x-request-id", "11-22")].into_iter().collect(),
            length: BodyLength::None,
            upgrade: None,
        }
    }

    fn line(format: AccessLogFormat, edit: impl FnOnce(&AccessLogs, &mut RequestRecord)) -> String {
        let mut logs = AccessLogs::default();
        let layout = logs.sources.layout(&format);
        let mut record = record();
        edit(&logs, &mut record);
        String::from_utf8(layout.line(&LogContext { record: &record, connection: &facts(), own_name: "n/w" }))
            .unwrap()
    }

    #[test]
    fn istios_line_of_a_success() {
        let text = line(AccessLogFormat::Text(istio()), |logs, record| {
            logs.capture_request(&request_head(), record);
            let mut response = ResponseHead::new(200, BodyLength::Known(5));
            response.headers.append("x-envoy-upstream-service-time", "11");
            logs.capture_response(&response, record);
            record.status = 200;
            record.details = "via_upstream".into();
            record.response_body_bytes = 5;
            record.upstream_host = Some("127.0.0.1:8080".into());
            record.upstream_cluster = Some("inbound|8080||".into());
            record.upstream_local = Some("127.0.0.1:50000".parse().unwrap());
            record.route_name = Some("default".into());
        });
        assert_eq!(
            text,
            "[2023-11-14T22:13:20.007Z] \"GET /pay?a=1 HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 12 11 \"-\" \"curl/8\" \
             \"11-22\" \"payment:8080\" \"127.0.0.1:8080\" inbound|8080|| 127.0.0.1:50000 127.0.1.1:8080 \
             127.0.2.1:40000 outbound_.8080_.stable_.payment default\n"
        );
    }

    #[test]
    fn istios_line_of_a_denied_request() {
        let text = line(AccessLogFormat::Text(istio()), |logs, record| {
            let mut head = request_head();
            head.headers.set("user-agent", bytes::Bytes::from_static(b"evil\" 200\x1b"));
            logs.capture_request(&head, record);
            record.status = 403;
            record.flags = ResponseFlags::NONE;
            record.details = "rbac_access_denied_matched_policy[none]".into();
            record.response_body_bytes = 19;
        });
        assert_eq!(
            text,
            "[2023-11-14T22:13:20.007Z] \"GET /pay?a=1 HTTP/1.1\" 403 - rbac_access_denied_matched_policy[none] - \"-\" \
             0 19 12 - \"-\" \"evil\\x22 200\\x1b\" \"11-22\" \"payment:8080\" \"-\" - - 127.0.1.1:8080 127.0.2.1:40000 \
             outbound_.8080_.stable_.payment -\n"
        );
    }

    #[test]
    fn json_keeps_the_type_of_a_lone_operator() {
        let lone = |value| Format { tokens: vec![operator(value)] };
        let both = Format { tokens: vec![operator(Operator::Protocol), Token::Literal("!".into())] };
        let fields = vec![
            ("code".into(), lone(Operator::ResponseCode)),
            ("host".into(), lone(Operator::UpstreamHost)),
            ("path".into(), lone(Operator::Request(header(":path", None)))),
            ("both".into(), both),
        ];
        let text = line(AccessLogFormat::Json(fields), |logs, record| {
            let mut head = request_head();
            head.target = "/\"x\"".into();
            logs.capture_request(&head, record);
            record.status = 204;
        });
        assert_eq!(text, "{\"code\":204,\"host\":null,\"path\":\"/\\\"x\\\"\",\"both\":\"HTTP/1.1!\"}\n");
    }
}
