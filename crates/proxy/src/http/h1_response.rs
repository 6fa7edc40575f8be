//! Reads the head of a response (RFC 9112, section 4).

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::h1_fields::{Fields, refusal, with_table};
use super::h1_scan::HeadEnd;
use super::head::{BodyLength, ResponseHead, Version};
use super::refusal::Refusal;

/// How the end of a response's body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// There is none.
    None,
    /// So many bytes.
    Known(u64),
    /// Chunked.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// A response head, and what it says about its connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParsedResponse {
    /// The head, without fields that concern one hop.
    pub head: ResponseHead,
    /// How the body ends.
    pub framing: ResponseFraming,
    /// Whether the server wants to go on with the connection.
    pub keep_alive: bool,
    /// How long the server says that it keeps the connection idle: `timeout` of `keep-alive`, in seconds.
    pub idle_timeout: Option<Duration>,
}

/// Reads a complete head, as long as the scanner found it, that answers a request with `method`.
pub(crate) fn parse(bytes: Bytes, end: HeadEnd, method: &Method) -> Result<ParsedResponse, Refusal> {
    let count = end.lines.saturating_sub(1);
    with_table(count, |table| {
        let mut response = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, &bytes, table)
            .map_err(refusal)?;
        if status != httparse::Status::Complete(bytes.len()) {
            return Err(Refusal::Malformed("an empty line inside the head"));
        }
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(Refusal::Malformed("the status line is not complete"));
        };
        if !(100..=599).contains(&status) {
            return Err(Refusal::Malformed("the status is not between 100 and 599"));
        }
        let version = if version == 0 { Version::Http10 } else { Version::Http11 };
        let fields = Fields::walk(&bytes, response.headers)?;
        assemble(status, version, method, fields)
    })
}

fn assemble(
    status: u16,
    version: Version,
    method: &Method,
    fields: Fields,
) -> Result<ParsedResponse, Refusal> {
    let keep_alive = match version {
        Version::Http10 => fields.connection.has("keep-alive") && !fields.connection.has("close"),
        _ => !fields.connection.has("close"),
    };
    let mut declared = fields.framing.length(version)?;
    let mut headers = fields.headers;
    let connected = *method == Method::CONNECT && (200..300).contains(&status);
    let switched = status == 101 || connected;
    if switched {
        // Whatever follows is no HTTP; what a 2xx says of a length is to be ignored (RFC 9110, section 9.3.6).
        declared = None;
        headers.remove("content-length");
    }
    if status == 101
        && let Some(protocol) = fields.upgrade.filter(|name| !name.is_empty())
    {
        headers.push(Bytes::from_static(b"upgrade"), protocol);
    }
    let bodiless = !switched && (*method == Method::HEAD || status < 200 || status == 204 || status == 304);
    let (framing, length) = match declared {
        _ if bodiless => (ResponseFraming::None, BodyLength::None),
        Some(BodyLength::Known(length)) => (ResponseFraming::Known(length), BodyLength::Known(length)),
        Some(BodyLength::Unknown) => (ResponseFraming::Chunked, BodyLength::Unknown),
        Some(BodyLength::None) | None => (ResponseFraming::UntilClose, BodyLength::Unknown),
    };
    let head = ResponseHead { status, version, headers, length };
    let keep_alive = keep_alive && framing != ResponseFraming::UntilClose;
    let idle_timeout = fields.keep_alive.as_deref().and_then(idle_timeout);
    Ok(ParsedResponse { head, framing, keep_alive, idle_timeout })
}

/// `timeout=5, max=100` says 5 seconds.
fn idle_timeout(keep_alive: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(keep_alive).ok()?;
    let mut parameters = text.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::h1::Limits;
    use crate::http::h1_scan::HeadScanner;

    fn read(text: &'static str, method: Method) -> Result<ParsedResponse, Refusal> {
        let end = HeadScanner::default().scan(text.as_bytes(), &Limits::default(), 1)?.unwrap();
        parse(Bytes::from_static(&text.as_bytes()[..end.length]), end, &method)
    }

    #[test]
    fn the_servers_idle_timeout_is_read_and_nothing_else_of_keep_alive() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("max=100, Timeout = 30", Some(30)),
            ("max=100", None),
            ("timeout=soon", None),
            ("timeout=-1", None),
        ] {
            let text = format!("HTTP/1.1 204 No Content\r\nKeep-Alive: {value}\r\n\r\n");
            let response = read(Box::leak(text.into_boxed_str()), Method::GET).unwrap();
            assert_eq!(response.idle_timeout, seconds.map(Duration::from_secs), "{value}");
            assert!(!response.head.headers.contains("keep-alive"));
        }
    }

    #[test]
    fn reads_the_length_in_all_forms() {
        for (text, method, framing, keep_alive) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Method::GET, ResponseFraming::Known(3), true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", Method::HEAD, ResponseFraming::None, true),
            (
                "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n",
                Method::GET,
                ResponseFraming::Chunked,
                true,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Method::GET, ResponseFraming::UntilClose, false),
            ("HTTP/1.1 204 No Content\r\n\r\n", Method::GET, ResponseFraming::None, true),
            (
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
                Method::GET,
                ResponseFraming::None,
                true,
            ),
            ("HTTP/1.1 103 Early Hints\r\n\r\n", Method::GET, ResponseFraming::None, true),
            (
                "HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
                Method::GET,
                ResponseFraming::Known(0),
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", Method::GET, ResponseFraming::Known(3), false),
            (
                "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
                Method::GET,
                ResponseFraming::Known(3),
                true,
            ),
        ] {
            let parsed = read(text, method).unwrap();
            assert_eq!((parsed.framing, parsed.keep_alive), (framing, keep_alive), "{text}");
        }
    }

    #[test]
    fn refuses_what_can_be_read_in_two_ways() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 600 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "HTTP/1.1 200 O\0K\r\n\r\n",
        ] {
            assert!(read(text, Method::GET).is_err(), "{text:?}");
        }
    }

    #[test]
    fn connection_fields_end_here() {
        let parsed = read(
            "HTTP/1.1 200 OK\r\nKeep-Alive: 5\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX: 2\r\n\r\n",
            Method::GET,
        )
        .unwrap();
        assert_eq!(parsed.head.headers.len(), 1);
        assert!(parsed.head.headers.contains("x"));
    }
}
