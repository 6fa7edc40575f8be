//! Request and response heads, neutral to the codec.

use bytes::Bytes;

use super::headers::Headers;

/// The protocol version that the peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// Whether it is HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Version::Http2)
    }

    /// The text that access logs and the wire use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// The scheme of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    Http,
    /// `https`
    Https,
}

impl Scheme {
    /// The lower-case text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// How long a body is, as far as the head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BodyLength {
    /// No body follows.
    None,
    /// Exactly this many bytes follow.
    Known(u64),
    /// The end is marked in the stream (chunked, END_STREAM, or the end of the connection).
    Unknown,
}

/// The head of a request.
///
/// `authority` and `length` are the truth: an encoder writes `host`, `content-length` and `transfer-encoding` from them
/// and uses fields of those names in `headers` only for their place and spelling. Fields that concern one hop
/// (`connection` and what it names, `keep-alive`, `te` other than `trailers`, `expect: 100-continue`) are gone before a
/// handler sees the head; `upgrade` is there only together with the field of this struct, and encoders write it from that.
///
/// An upgrade (`upgrade` is set) and a CONNECT have [`BodyLength::Unknown`]: the body is the raw bytes of the client after
/// the answer that accepts, until the client half-closes; the body of that answer is the raw bytes of the other side.
/// An upgrade is accepted by status 101, whatever the protocol on the wire, a CONNECT by any 2xx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method, in the case it was sent with.
    pub method: http::Method,
    /// Of an absolute-form target, or of the connection.
    pub scheme: Scheme,
    /// Host and optional port, without user information; never empty.
    pub authority: Bytes,
    /// Path and query: begins with `/`, or is `*` (OPTIONS); empty for CONNECT.
    pub target: Bytes,
    /// What the client speaks.
    pub version: Version,
    /// All other fields, in order.
    pub headers: Headers,
    /// The length of the body.
    pub length: BodyLength,
    /// The protocol that the client wants to go on with: `upgrade` of HTTP/1, `:protocol` of an extended CONNECT
    /// (RFC 8441). As the client wrote it.
    pub upgrade: Option<Bytes>,
}

impl RequestHead {
    /// Whether the bytes after the head belong to another protocol once the answer accepts.
    pub fn is_tunnel(&self) -> bool {
        self.upgrade.is_some() || self.is_connect()
    }

    /// Whether it is a CONNECT; an extended one has the form of an upgrade.
    pub fn is_connect(&self) -> bool {
        self.method == http::Method::CONNECT
    }

    /// The path without the query.
    pub fn path(&self) -> &[u8] {
        let end = memchr::memchr(b'?', &self.target).unwrap_or(self.target.len());
        &self.target[..end]
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&[u8]> {
        memchr::memchr(b'?', &self.target).map(|at| &self.target[at + 1..])
    }
}

/// The head of a response. `length` is the truth, as in [`RequestHead`]; for an answer to HEAD and for 304 it may be
/// [`BodyLength::None`] while `headers` keep the `content-length` of the body that is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: u16,
    /// What the server speaks.
    pub version: Version,
    /// All fields, in order.
    pub headers: Headers,
    /// The length of the body.
    pub length: BodyLength,
}

impl ResponseHead {
    /// A response without header fields; `length` must agree with the body that goes with it.
    pub const fn new(status: u16, length: BodyLength) -> Self {
        ResponseHead { status, version: Version::Http11, headers: Headers::new(), length }
    }
}
