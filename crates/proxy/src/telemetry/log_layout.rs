//! How the line of a log is put together, compiled: pieces that are written one behind the other into a buffer.

use std::sync::Arc;

use config::model::{
    AccessLogFormat, AccessLogLayout, Format, HeaderSource, JsonFormat, LogText, Operator, Token,
};

use super::captures::Captures;
use super::log_common::Common;
use super::log_text;
use super::log_value::{LogContext, LogValue, path_header};
use super::start_time::Seconds;

/// One piece of a compiled line.
#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Literal(Arc<str>),
    /// A literal of one byte, such as a blank.
    Byte(u8),
    /// A frequent operator.
    Common(Common),
    Value(Box<Rest>),
}

/// Any other operator.
#[derive(Debug, Clone, PartialEq)]
struct Rest {
    operator: Operator,
    slot: usize,
    max_length: Option<usize>,
}

/// A text with values.
#[derive(Debug, Clone, PartialEq)]
pub struct Text(Vec<Piece>);

/// A compiled line.
#[derive(Debug, Clone, PartialEq)]
pub struct Layout {
    parts: Parts,
    omit: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Parts {
    Text(Text),
    Json(Json),
}

#[derive(Debug, Clone, PartialEq)]
enum Json {
    Fixed(Arc<str>),
    Null,
    Text(Text),
    List(Vec<Json>),
    /// Each with its name in quotes and the colon behind it.
    Object(Vec<(Box<[u8]>, Json)>),
}

/// What is written into, and what helps.
pub struct Line<'a> {
    /// The buffer; what stands in it is left alone.
    pub bytes: &'a mut Vec<u8>,
    /// The last second that was written.
    pub seconds: &'a mut Seconds,
}

impl Layout {
    /// Compiles a format; the values that it needs are added to `captures`.
    pub fn compile(format: &AccessLogFormat, captures: &mut Captures) -> Layout {
        let parts = match &format.layout {
            AccessLogLayout::Text(format) => Parts::Text(Text::compile(format, captures)),
            AccessLogLayout::Json(format) => Parts::Json(json(format, captures)),
        };
        Layout { parts, omit: format.omit_empty_values }
    }

    /// Writes a line with its end.
    pub fn write(&self, line: &mut Line<'_>, context: &LogContext<'_>) {
        match &self.parts {
            Parts::Text(text) => text.write(line, context, self.omit),
            Parts::Json(json) => {
                if !write_json(json, line, context, self.omit) {
                    line.bytes.extend_from_slice(b"{}");
                }
                line.bytes.push(b'\n');
            }
        }
    }
}

fn json(format: &JsonFormat, captures: &mut Captures) -> Json {
    match format {
        JsonFormat::Fixed(text) => Json::Fixed(text.clone()),
        JsonFormat::Null => Json::Null,
        JsonFormat::Text(format) => Json::Text(Text::compile(format, captures)),
        JsonFormat::List(items) => Json::List(items.iter().map(|item| json(item, captures)).collect()),
        JsonFormat::Object(fields) => {
            let field = |(name, format): &(Arc<str>, JsonFormat)| {
                let mut key = Vec::new();
                log_text::json(&mut key, name.as_bytes());
                key.push(b':');
                (key.into_boxed_slice(), json(format, captures))
            };
            Json::Object(fields.iter().map(field).collect())
        }
    }
}

/// Writes a value, or nothing where it is left out: then the answer is `false`.
fn write_json(json: &Json, line: &mut Line<'_>, context: &LogContext<'_>, omit: bool) -> bool {
    match json {
        Json::Fixed(text) => line.bytes.extend_from_slice(text.as_bytes()),
        Json::Null if omit => return false,
        Json::Null => line.bytes.extend_from_slice(b"null"),
        Json::Text(text) => return text.write_json(line, context, omit),
        Json::List(items) => {
            line.bytes.push(b'[');
            let start = line.bytes.len();
            for item in items {
                let before = line.bytes.len();
                if before > start {
                    line.bytes.push(b',');
                }
                if !write_json(item, line, context, omit) {
                    line.bytes.truncate(before);
                }
            }
            line.bytes.push(b']');
        }
        Json::Object(fields) => {
            line.bytes.push(b'{');
            let start = line.bytes.len();
            for (name, value) in fields {
                let before = line.bytes.len();
                if before > start {
                    line.bytes.push(b',');
                }
                line.bytes.extend_from_slice(name);
                if !write_json(value, line, context, omit) {
                    line.bytes.truncate(before);
                }
            }
            if omit && line.bytes.len() == start {
                line.bytes.truncate(start - 1);
                return false;
            }
            line.bytes.push(b'}');
        }
    }
    true
}

impl Text {
    /// Compiles a format; the values that it needs are added to `captures`.
    pub fn compile(format: &Format, captures: &mut Captures) -> Text {
        let mut pieces: Vec<Piece> = format.tokens.iter().map(|token| piece(token, captures)).collect();
        // A lone operator keeps its type in JSON.
        if pieces.len() > 1 {
            pieces.iter_mut().for_each(shorten);
        }
        Text(pieces)
    }

    /// Writes the text.
    pub fn write(&self, line: &mut Line<'_>, context: &LogContext<'_>, omit: bool) {
        for piece in &self.0 {
            match piece {
                Piece::Byte(byte) => line.bytes.push(*byte),
                Piece::Literal(text) => line.bytes.extend_from_slice(text.as_bytes()),
                Piece::Common(common) => {
                    if !common.write(line, context) && !omit {
                        line.bytes.push(b'-');
                    }
                }
                Piece::Value(rest) => match context.value(&rest.operator, rest.slot) {
                    LogValue::Missing if omit => {}
                    value => value.write_text(line.bytes, rest.max_length, line.seconds),
                },
            }
        }
    }

    fn write_json(&self, line: &mut Line<'_>, context: &LogContext<'_>, omit: bool) -> bool {
        match &self.0[..] {
            [] => line.bytes.extend_from_slice(b"\"\""),
            [Piece::Byte(byte)] => log_text::json(line.bytes, &[*byte]),
            [Piece::Literal(text)] => log_text::json(line.bytes, text.as_bytes()),
            [Piece::Value(rest)] => match context.value(&rest.operator, rest.slot) {
                LogValue::Missing if omit => return false,
                value => value.write_json(line.bytes, rest.max_length, line.seconds),
            },
            _ => {
                let mut text = Vec::new();
                let mut inner = Line { bytes: &mut text, seconds: &mut *line.seconds };
                self.write(&mut inner, context, omit);
                log_text::json(line.bytes, &text);
            }
        }
        true
    }

    /// The text of a process, for which no request stands: what a request would say is missing.
    pub fn fixed(&self) -> String {
        let part = |piece: &Piece| match piece {
            Piece::Literal(text) => text.to_string(),
            Piece::Byte(byte) => char::from(*byte).to_string(),
            Piece::Common(_) | Piece::Value(_) => "-".to_owned(),
        };
        self.0.iter().map(part).collect()
    }

    /// The text by itself.
    pub fn made(&self, context: &LogContext<'_>) -> String {
        let mut text = Vec::new();
        self.write(&mut Line { bytes: &mut text, seconds: &mut Seconds::default() }, context, false);
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn piece(token: &Token, captures: &mut Captures) -> Piece {
    let (operator, max_length) = match token {
        Token::Literal(text) => {
            return match text.as_bytes() {
                [byte] => Piece::Byte(*byte),
                _ => Piece::Literal(text.clone()),
            };
        }
        Token::Operator { operator, max_length } => (operator, *max_length),
    };
    let slot = match operator {
        Operator::Request(source) => captures.request(source),
        Operator::Response(source) => captures.response(source),
        Operator::Trailer(source) => captures.trailer(source),
        Operator::Expression(expression) => {
            captures.expression(expression);
            0
        }
        Operator::Environment(name) => {
            return Piece::Literal(std::env::var(&**name).map_or("-".into(), |value| clean(&value).into()));
        }
        Operator::Hostname => {
            let name =
                std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_else(|_| "-".to_owned());
            return Piece::Literal(clean(&name).into());
        }
        other => path_header(other).map_or(0, |(name, alternative)| {
            captures.request(&HeaderSource { name: name.into(), alternative: alternative.map(Into::into) })
        }),
    };
    Piece::Value(Box::new(Rest { operator: operator.clone(), slot, max_length }))
}

/// Takes the short way where there is one.
fn shorten(piece: &mut Piece) {
    if let Piece::Value(rest) = piece
        && rest.max_length.is_none()
        && let Some(common) = Common::of(&rest.operator, rest.slot)
    {
        *piece = Piece::Common(common);
    }
}

fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// A value of a record of OpenTelemetry, compiled.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordValue {
    /// A text.
    Text(Text),
    /// Values in order.
    List(Vec<RecordValue>),
    /// Values by name.
    Fields(Vec<(Arc<str>, RecordValue)>),
}

impl RecordValue {
    /// Compiles a value; what it needs is added to `captures`.
    pub fn compile(value: &LogText, captures: &mut Captures) -> RecordValue {
        match value {
            LogText::Text(format) => RecordValue::Text(Text::compile(format, captures)),
            LogText::List(items) => {
                RecordValue::List(items.iter().map(|item| Self::compile(item, captures)).collect())
            }
            LogText::Fields(fields) => RecordValue::Fields(Self::fields(fields, captures)),
        }
    }

    /// The same of several.
    pub fn fields(fields: &[(Arc<str>, LogText)], captures: &mut Captures) -> Vec<(Arc<str>, RecordValue)> {
        fields.iter().map(|(name, value)| (name.clone(), Self::compile(value, captures))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BodyLength, RequestHead, ResponseHead, Scheme, Version};
    use crate::telemetry::flags::ResponseFlags;
    use crate::telemetry::record::RequestRecord;
    use crate::telemetry::testing::Ended;

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

    fn line(layout: AccessLogLayout, omit: bool, edit: impl FnOnce(&Captures, &mut RequestRecord)) -> String {
        let mut ended = Ended::default();
        let format = AccessLogFormat { layout, omit_empty_values: omit };
        let layout = Layout::compile(&format, &mut ended.captures);
        edit(&ended.captures, &mut ended.record);
        let mut bytes = Vec::new();
        layout.write(&mut Line { bytes: &mut bytes, seconds: &mut Seconds::default() }, &ended.context());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn istios_line_of_a_success() {
        let text = line(AccessLogLayout::Text(istio()), false, |logs, record| {
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
        let text = line(AccessLogLayout::Text(istio()), false, |logs, record| {
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
        let lone = |value| JsonFormat::Text(Format { tokens: vec![operator(value)] });
        let both = JsonFormat::Text(Format {
            tokens: vec![operator(Operator::Protocol), Token::Literal("!".into())],
        });
        let fields = vec![
            ("code".into(), lone(Operator::ResponseCode)),
            ("host".into(), lone(Operator::UpstreamHost)),
            ("path".into(), lone(Operator::Request(header(":path", None)))),
            ("both".into(), both),
        ];
        let text = line(AccessLogLayout::Json(JsonFormat::Object(fields)), false, |logs, record| {
            let mut head = request_head();
            head.target = "/\"x\"".into();
            logs.capture_request(&head, record);
            record.status = 204;
        });
        assert_eq!(text, "{\"code\":204,\"host\":null,\"path\":\"/\\\"x\\\"\",\"both\":\"HTTP/1.1!\"}\n");
    }

    #[test]
    fn objects_and_lists_may_stand_in_one_another_and_what_is_missing_is_left_out() {
        let value = |value| JsonFormat::Text(Format { tokens: vec![operator(value)] });
        let missing = || value(Operator::UpstreamHost);
        let object = |fields: Vec<(&str, JsonFormat)>| {
            JsonFormat::Object(fields.into_iter().map(|(name, value)| (name.into(), value)).collect())
        };
        let mixed = JsonFormat::Text(Format {
            tokens: vec![
                Token::Literal("a".into()),
                operator(Operator::UpstreamHost),
                Token::Literal("b".into()),
            ],
        });
        let layout = || {
            AccessLogLayout::Json(object(vec![
                ("e", object(vec![])),
                ("el", JsonFormat::List(vec![])),
                (
                    "l",
                    JsonFormat::List(vec![
                        missing(),
                        value(Operator::Protocol),
                        object(vec![("x", missing())]),
                    ]),
                ),
                ("mix", mixed.clone()),
                ("n", object(vec![("code", value(Operator::ResponseCode)), ("m", missing())])),
                ("nul", JsonFormat::Null),
                ("num", JsonFormat::Fixed("5".into())),
                ("only", object(vec![("x", missing())])),
            ]))
        };
        // As Envoy 1.40 writes them.
        assert_eq!(
            line(layout(), false, |_, _| {}),
            r#"{"e":{},"el":[],"l":[null,"HTTP/1.1",{"x":null}],"mix":"a-b","n":{"code":0,"m":null},"nul":null,"num":5,"only":{"x":null}}"#
                .to_owned()
                + "\n"
        );
        assert_eq!(
            line(layout(), true, |_, _| {}),
            r#"{"el":[],"l":["HTTP/1.1"],"mix":"ab","n":{"code":0},"num":5}"#.to_owned() + "\n"
        );
        let text =
            Format { tokens: vec![operator(Operator::UpstreamHost), operator(Operator::ResponseFlags)] };
        assert_eq!(line(AccessLogLayout::Text(text.clone()), true, |_, _| {}), "-");
        assert_eq!(line(AccessLogLayout::Text(text), false, |_, _| {}), "--");
    }
}
