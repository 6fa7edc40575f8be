//! Writes heads and bodies.

use bytes::{BufMut, Bytes, BytesMut};

use super::h1_buffers::COPY_BELOW;
use super::head::{BodyLength, RequestHead, ResponseHead, Version};
use super::headers::Headers;
use super::hop;

/// The interim response that asks the client for the body.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// How the body that follows a head is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Not at all.
    None,
    /// So many bytes are missing.
    Known(u64),
    /// Chunked.
    Chunked,
    /// Bytes until the connection closes.
    UntilClose,
}

/// What the connection adds to a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResponseRules {
    /// What the client speaks.
    pub client: Version,
    /// The request was HEAD.
    pub to_head: bool,
    /// The connection ends after this response.
    pub close: bool,
    /// What follows the head is no HTTP: a 101 that accepts an upgrade, or a 2xx that accepts a CONNECT.
    pub tunnel: bool,
}

/// Writes the head of a request as HTTP/1.1; `host` and the length fields come from the head's own values.
pub(crate) fn request_head(out: &mut BytesMut, head: &RequestHead) -> Framing {
    out.reserve(head.headers.byte_size() + head.target.len() + head.authority.len() + 96);
    out.put_slice(head.method.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(if head.is_connect() { &head.authority } else { &head.target });
    out.put_slice(b" HTTP/1.1\r\n");
    if !head.headers.contains("host") {
        field(out, b"host", &head.authority);
    }
    let framing = match head.length {
        _ if head.is_tunnel() => Framing::UntilClose,
        BodyLength::None if expects_body(&head.method) => Framing::Known(0),
        BodyLength::None => Framing::None,
        BodyLength::Known(bytes) => Framing::Known(bytes),
        BodyLength::Unknown => Framing::Chunked,
    };
    fields(out, &head.headers, Some(&head.authority), Length::Write(framing));
    if head.upgrade.is_some() {
        out.put_slice(b"connection: Upgrade\r\n");
    }
    out.put_slice(b"\r\n");
    framing
}

/// Methods whose requests say so when they have no body (RFC 9110, section 8.6), as Envoy reads it.
fn expects_body(method: &http::Method) -> bool {
    use http::Method;
    ![Method::GET, Method::HEAD, Method::DELETE, Method::TRACE, Method::CONNECT].contains(method)
}

/// Writes the head of a response.
pub(crate) fn response_head(out: &mut BytesMut, head: &ResponseHead, rules: ResponseRules) -> Framing {
    // A small body is copied behind its head: room for both at once.
    let body = match head.length {
        BodyLength::Known(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX).min(COPY_BELOW),
        BodyLength::None | BodyLength::Unknown => 0,
    };
    out.reserve(head.headers.byte_size() + body + 128);
    status_line(out, head.status, rules.client);
    if rules.tunnel {
        fields(out, &head.headers, None, Length::Omit);
        out.put_slice(if head.status == 101 { b"connection: Upgrade\r\n\r\n" } else { b"\r\n" });
        return Framing::UntilClose;
    }
    let bodiless = rules.to_head || matches!(head.status, 204 | 304) || head.status < 200;
    let framing = match head.length {
        _ if bodiless => Framing::None,
        BodyLength::None => Framing::Known(0),
        BodyLength::Known(bytes) => Framing::Known(bytes),
        BodyLength::Unknown if rules.client == Version::Http10 => Framing::UntilClose,
        BodyLength::Unknown => Framing::Chunked,
    };
    // HEAD and 304 describe a body that is not sent; 1xx and 204 cannot have one.
    let length = match (bodiless, head.length) {
        (true, _) if head.status == 204 || head.status < 200 => Length::Omit,
        (true, BodyLength::Known(bytes)) => Length::Write(Framing::Known(bytes)),
        (true, _) => Length::AsReceived,
        (false, _) => Length::Write(framing),
    };
    fields(out, &head.headers, None, length);
    if rules.close || framing == Framing::UntilClose {
        out.put_slice(b"connection: close\r\n");
    } else if rules.client == Version::Http10 {
        out.put_slice(b"connection: keep-alive\r\n");
    }
    out.put_slice(b"\r\n");
    framing
}

/// Writes an interim response.
pub(crate) fn informational(out: &mut BytesMut, status: u16, headers: &Headers) {
    status_line(out, status, Version::Http11);
    fields(out, headers, None, Length::Omit);
    out.put_slice(b"\r\n");
}

/// Writes the end of a chunked body.
pub(crate) fn last_chunk(out: &mut BytesMut, trailers: &Headers) {
    out.put_slice(b"0\r\n");
    for (name, value) in trailers.iter().filter(|(name, _)| hop::is_allowed_in_trailers(name)) {
        field(out, name, value);
    }
    out.put_slice(b"\r\n");
}

/// Writes the line before a chunk of `length` bytes; the data and CR LF follow it.
pub(crate) fn chunk_line(out: &mut BytesMut, length: usize) {
    let mut digits = [0; 16];
    let mut at = digits.len();
    let mut rest = length;
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
    out.put_slice(b"\r\n");
}

fn status_line(out: &mut BytesMut, status: u16, client: Version) {
    out.put_slice(if client == Version::Http10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    decimal(out, u64::from(status));
    out.put_u8(b' ');
    let reason = http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    out.put_slice(reason.unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
}

/// What becomes of the fields that say how long the body is.
#[derive(Clone, Copy)]
enum Length {
    /// One field that says this, in the place of the first one that is there, else at the end.
    Write(Framing),
    /// `content-length` as it stands.
    AsReceived,
    /// None.
    Omit,
}

fn fields(out: &mut BytesMut, headers: &Headers, host: Option<&Bytes>, length: Length) {
    let mut pending = match length {
        Length::Write(framing @ (Framing::Known(_) | Framing::Chunked)) => Some(framing),
        _ => None,
    };
    let mut host = host;
    for (name, value, line) in headers.lines() {
        let is = |have: &str| name.eq_ignore_ascii_case(have.as_bytes());
        match name.len() {
            4 if host.is_some() && is("host") => {
                if let Some(authority) = host.take() {
                    field(out, name, authority);
                }
            }
            14 if is("content-length") => match (pending, length) {
                (Some(Framing::Known(bytes)), _) => {
                    number_field(out, name, bytes);
                    pending = None;
                }
                (_, Length::AsReceived) => field(out, name, value),
                _ => {}
            },
            17 if is("transfer-encoding") => {
                if pending == Some(Framing::Chunked) {
                    field(out, name, b"chunked");
                    pending = None;
                }
            }
            10 | 16 if hop::is_hop_by_hop(name) => {}
            _ => match line {
                Some(line) => out.put_slice(line),
                None => field(out, name, value),
            },
        }
    }
    match pending {
        Some(Framing::Known(bytes)) => number_field(out, b"content-length", bytes),
        Some(Framing::Chunked) => field(out, b"transfer-encoding", b"chunked"),
        _ => {}
    }
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn number_field(out: &mut BytesMut, name: &[u8], number: u64) {
    out.put_slice(name);
    out.put_slice(b": ");
    decimal(out, number);
    out.put_slice(b"\r\n");
}

fn decimal(out: &mut BytesMut, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Scheme;

    fn request(fields: &[(&'static str, &'static str)], length: BodyLength) -> String {
        let head = RequestHead {
            method: http::Method::POST,
            scheme: Scheme::Http,
            authority: Bytes::from_static(b"real:80"),
            target: Bytes::from_static(b"/p?q"),
            version: Version::Http11,
            headers: fields.iter().copied().collect(),
            length,
            upgrade: None,
        };
        let mut out = BytesMut::new();
        request_head(&mut out, &head);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn the_length_and_the_host_are_written_once_and_in_place() {
        let fields =
            [("A", "1"), ("HOST", "other"), ("Content-LENGTH", "9"), ("content-length", "8"), ("B", "2")];
        assert_eq!(
            request(&fields, BodyLength::Known(3)),
            "POST /p?q HTTP/1.1\r\nA: 1\r\nHOST: real:80\r\nContent-LENGTH: 3\r\nB: 2\r\n\r\n"
        );
        assert_eq!(
            request(&fields, BodyLength::Unknown),
            "POST /p?q HTTP/1.1\r\nA: 1\r\nHOST: real:80\r\nB: 2\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            request(&[("Transfer-Encoding", "x"), ("Connection", "close")], BodyLength::None),
            "POST /p?q HTTP/1.1\r\nhost: real:80\r\ncontent-length: 0\r\n\r\n"
        );
        assert!(expects_body(&http::Method::PATCH) && !expects_body(&http::Method::DELETE));
    }

    fn response(status: u16, length: BodyLength, rules: ResponseRules) -> (String, Framing) {
        let mut head = ResponseHead::new(status, length);
        head.headers.append("Content-Length", "7");
        let mut out = BytesMut::new();
        let framing = response_head(&mut out, &head, rules);
        (String::from_utf8(out.to_vec()).unwrap(), framing)
    }

    #[test]
    fn responses_follow_the_request_and_the_version() {
        let plain = ResponseRules { client: Version::Http11, to_head: false, close: false, tunnel: false };
        let old = ResponseRules { client: Version::Http10, ..plain };
        let head = ResponseRules { to_head: true, ..plain };
        for (status, length, rules, text, framing) in [
            (200, BodyLength::None, plain, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Framing::Known(0)),
            (
                200,
                BodyLength::Unknown,
                plain,
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
                Framing::Chunked,
            ),
            (
                200,
                BodyLength::Unknown,
                old,
                "HTTP/1.0 200 OK\r\nconnection: close\r\n\r\n",
                Framing::UntilClose,
            ),
            (
                200,
                BodyLength::Known(1),
                old,
                "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nconnection: keep-alive\r\n\r\n",
                Framing::Known(1),
            ),
            (200, BodyLength::None, head, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", Framing::None),
            (200, BodyLength::Known(5), head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Framing::None),
            (
                304,
                BodyLength::None,
                plain,
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
                Framing::None,
            ),
            (204, BodyLength::None, plain, "HTTP/1.1 204 No Content\r\n\r\n", Framing::None),
            (
                599,
                BodyLength::None,
                ResponseRules { close: true, ..plain },
                "HTTP/1.1 599 \r\nContent-Length: 0\r\nconnection: close\r\n\r\n",
                Framing::Known(0),
            ),
        ] {
            assert_eq!(response(status, length, rules), (text.to_owned(), framing));
        }
    }

    #[test]
    fn chunk_lines_are_hexadecimal() {
        let mut out = BytesMut::new();
        for length in [1, 15, 16, 255, 65536] {
            chunk_line(&mut out, length);
        }
        let trailers: Headers = [("X-Sum", "1"), ("Content-Length", "5")].into_iter().collect();
        last_chunk(&mut out, &trailers);
        assert_eq!(&out[..], b"1\r\nf\r\n10\r\nff\r\n10000\r\n0\r\nX-Sum: 1\r\n\r\n");
    }
}
