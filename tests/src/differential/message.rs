//! HTTP/1 messages as a peer sees them: read from a socket without mercy, written down as JSON.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::text;
use super::tls::Stream;

/// How the reading of a piece ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is whole.
    Whole,
    /// The peer closed or reset the connection.
    Closed,
    /// Nothing came within the limit.
    Timeout,
}

/// A socket with what was read ahead.
pub struct Reader {
    stream: Stream,
    buffer: Vec<u8>,
}

/// First line and fields of a message.
#[derive(Debug, Clone)]
pub struct Head {
    /// Request or status line.
    pub line: String,
    /// Names (lower case) and values.
    pub fields: Vec<(String, String)>,
}

impl Head {
    fn parse(bytes: &[u8]) -> Head {
        let whole = text::text(bytes);
        let mut lines = whole.trim_end_matches("\r\n").split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines.map(|line| match line.split_once(':') {
            Some((name, value)) => (name.to_ascii_lowercase(), value.trim().to_owned()),
            None => (line.to_owned(), String::new()),
        });
        Head { line, fields: fields.collect() }
    }

    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// Status of a response.
    pub fn status(&self) -> u16 {
        self.line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    fn chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    /// The line and the sorted fields, with what differs from run to run masked. Repeated fields are one list, as in
    /// RFC 9110 §5.3 (`set-cookie` and `cookie` are not).
    pub fn to_json(&self) -> Value {
        let mut fields: Vec<(String, String)> = Vec::new();
        for (name, value) in &self.fields {
            let list = !matches!(name.as_str(), "set-cookie" | "cookie");
            match fields.iter_mut().find(|(known, _)| list && known == name) {
                Some((_, values)) => *values = format!("{values},{value}"),
                None => fields.push((name.clone(), value.clone())),
            }
        }
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        let mut lines = vec![text::brief(&self.line)];
        lines
            .extend(fields.iter().map(|(name, value)| text::brief(&masked(name, &value.replace(", ", ",")))));
        json!(lines)
    }
}

fn masked(name: &str, value: &str) -> String {
    let uuid = value.len() == 36 && value.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    match name {
        "date" => "date: <date>".to_owned(),
        "x-envoy-upstream-service-time" => format!("{name}: <ms>"),
        "x-request-id" if uuid => format!("{name}: <id>"),
        "x-forwarded-client-cert" => format!("{name}: {}", without_hash(value)),
        _ => format!("{name}: {value}"),
    }
}

/// Certificates differ from run to run, and so do their hashes.
fn without_hash(value: &str) -> String {
    let parts = value.split(';').map(|part| if part.starts_with("Hash=") { "Hash=<hash>" } else { part });
    parts.collect::<Vec<_>>().join(";")
}

/// How long a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// That many bytes.
    Length(usize),
    /// Chunks.
    Chunked,
    /// Until the connection ends.
    Close,
}

/// Framing of a request.
pub fn request_framing(head: &Head) -> Framing {
    match head.get("content-length").and_then(|value| value.parse().ok()) {
        _ if head.chunked() => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::Length(0),
    }
}

/// Framing of a response to a method.
pub fn response_framing(head: &Head, method: &str) -> Framing {
    let status = head.status();
    // What follows a successful CONNECT is no body (RFC 9112 §6.3).
    let tunnel = method == "CONNECT" && (200..300).contains(&status);
    if method == "HEAD" || tunnel || status < 200 || status == 204 || status == 304 {
        return Framing::Length(0);
    }
    match head.get("content-length").and_then(|value| value.parse().ok()) {
        _ if head.chunked() => Framing::Chunked,
        Some(length) => Framing::Length(length),
        None => Framing::Close,
    }
}

impl Reader {
    /// A reader of that socket, whose read timeout is the limit of every wait.
    pub fn new(stream: Stream) -> Reader {
        Reader { stream, buffer: Vec::new() }
    }

    /// What was read ahead.
    pub fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }

    /// Whether the peer showed a certificate, for a server with TLS.
    pub fn peer_has_certificate(&self) -> Option<bool> {
        self.stream.peer_has_certificate()
    }

    /// The protocol that was agreed on by ALPN.
    pub fn alpn(&mut self) -> Option<String> {
        self.stream.alpn()
    }

    /// Closes the writing half.
    pub fn half_close(&mut self) {
        self.stream.half_close();
    }

    /// Takes bytes that were read ahead.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        self.buffer.drain(..count).collect()
    }

    /// Sends bytes. The peer may have gone or refuse while we write; what it answered is what counts.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// Reads more bytes.
    pub fn more(&mut self) -> End {
        let mut chunk = [0; 16 * 1024];
        loop {
            return match self.stream.read(&mut chunk) {
                Ok(0) => End::Closed,
                Ok(count) => {
                    self.buffer.extend(&chunk[..count]);
                    End::Whole
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    End::Timeout
                }
                Err(_) => End::Closed,
            };
        }
    }

    /// Reads to the end of the connection; what came is in [`Reader::rest`].
    pub fn to_end(&mut self) -> End {
        loop {
            match self.more() {
                End::Whole => {}
                end => return end,
            }
        }
    }

    /// Reads up to and with a text.
    ///
    /// # Errors
    /// How the connection ended before.
    pub fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Ok(self.buffer.drain(..at + end.len()).collect());
            }
            match self.more() {
                End::Whole => {}
                end => return Err(end),
            }
        }
    }

    /// Reads that many bytes; fewer when it ends.
    pub fn exactly(&mut self, count: usize) -> (Vec<u8>, End) {
        while self.buffer.len() < count {
            match self.more() {
                End::Whole => {}
                end => return (self.buffer.drain(..).collect(), end),
            }
        }
        (self.buffer.drain(..count).collect(), End::Whole)
    }

    /// Reads a head.
    ///
    /// # Errors
    /// How the connection ended before the head did.
    pub fn head(&mut self) -> Result<Head, End> {
        self.until(b"\r\n\r\n").map(|bytes| Head::parse(&bytes))
    }

    /// Reads a body: its bytes, the trailers, and how it ended.
    pub fn body(&mut self, framing: Framing) -> (Vec<u8>, Vec<(String, String)>, End) {
        match framing {
            Framing::Length(count) => {
                let (body, end) = self.exactly(count);
                (body, Vec::new(), end)
            }
            Framing::Close => {
                let end = match self.to_end() {
                    End::Closed => End::Whole,
                    end => end,
                };
                (self.buffer.drain(..).collect(), Vec::new(), end)
            }
            Framing::Chunked => self.chunks(),
        }
    }

    fn chunks(&mut self) -> (Vec<u8>, Vec<(String, String)>, End) {
        let mut body = Vec::new();
        loop {
            let line = match self.until(b"\r\n") {
                Ok(line) => text::text(&line),
                Err(end) => return (body, Vec::new(), end),
            };
            let size = line.trim().split(';').next().unwrap_or_default().to_owned();
            let Ok(size) = usize::from_str_radix(&size, 16) else { return (body, Vec::new(), End::Closed) };
            if size == 0 {
                break;
            }
            let (piece, end) = self.exactly(size + 2);
            body.extend(&piece[..piece.len().min(size)]);
            if end != End::Whole {
                return (body, Vec::new(), end);
            }
        }
        let mut fields = b"trailers\r\n".to_vec();
        loop {
            match self.until(b"\r\n") {
                Ok(line) if line == b"\r\n" => return (body, Head::parse(&fields).fields, End::Whole),
                Ok(line) => fields.extend(line),
                Err(end) => return (body, Vec::new(), end),
            }
        }
    }
}

/// Trailers as JSON.
pub fn trailers_to_json(trailers: &[(String, String)]) -> Value {
    json!(trailers.iter().map(|(name, value)| masked(name, value)).collect::<Vec<_>>())
}
