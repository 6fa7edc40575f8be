//! A TLS ClientHello read from a connection's first bytes (RFC 8446, sections 4.1.2 and 5.1): which server and which
//! protocols the client asks for. Each byte is looked at once, however the bytes arrive; nothing is decided here about
//! what TLS versions or ciphers are good: the TLS library reads the same bytes again.

/// Content type of a record that holds handshake messages.
const HANDSHAKE: u8 = 22;
/// Length of a record's header.
const RECORD_HEADER: usize = 5;
/// The longest plaintext record.
const MAX_RECORD: usize = 16 * 1024;
/// Handshake type of a ClientHello.
const CLIENT_HELLO: u8 = 1;
/// Length of a handshake message's header.
const MESSAGE_HEADER: usize = 4;
/// Extension types.
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
/// The longest server name.
const MAX_NAME: usize = 255;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientHello {
    /// Server name (SNI), in lower case.
    pub server_name: Option<String>,
    /// Application protocols (ALPN), in the client's order. A malformed list counts as none: the TLS library refuses it.
    pub protocols: Vec<String>,
}

/// How far the reading has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// More bytes are needed.
    Partial,
    /// It is whole.
    Whole(ClientHello),
    /// These bytes are no ClientHello.
    NotOne,
    /// It is longer than the limit.
    TooLong,
}

/// Reads a ClientHello that may be spread over several records.
#[derive(Debug)]
pub struct Reader {
    /// Most bytes, record headers included.
    limit: usize,
    /// Where the next record begins.
    next: usize,
    /// Handshake bytes of the records before.
    message: Vec<u8>,
}

impl Reader {
    /// A reader for at most `limit` bytes, record headers included.
    pub fn new(limit: usize) -> Self {
        Reader { limit, next: 0, message: Vec::new() }
    }

    /// Looks at all bytes that have come so far; those of the call before must be among them.
    pub fn read(&mut self, bytes: &[u8]) -> Reading {
        loop {
            let rest = bytes.get(self.next..).unwrap_or_default();
            if !begins_like_a_record(rest) {
                return Reading::NotOne;
            }
            let [_, _, _, high, low, payload @ ..] = rest else { return self.partial() };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length == 0 || length > MAX_RECORD {
                return Reading::NotOne;
            }
            if self.next + RECORD_HEADER + length > self.limit {
                return Reading::TooLong;
            }
            if self.message.is_empty() && payload.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
                return Reading::NotOne;
            }
            let Some(payload) = payload.get(..length) else { return Reading::Partial };
            self.next += RECORD_HEADER + length;
            self.message.extend_from_slice(payload);
            let [_, a, b, c, body @ ..] = &*self.message else { continue };
            let wanted = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            if MESSAGE_HEADER + wanted > self.limit {
                return Reading::TooLong;
            }
            if let Some(body) = body.get(..wanted) {
                return client_hello(body).map_or(Reading::NotOne, Reading::Whole);
            }
        }
    }

    /// Only a part of a record's header is there.
    fn partial(&self) -> Reading {
        if self.next + RECORD_HEADER >= self.limit { Reading::TooLong } else { Reading::Partial }
    }
}

/// Content type, then a version of which only the first half is known (RFC 8446: the second one must be ignored).
fn begins_like_a_record(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|kind| *kind == HANDSHAKE) && bytes.get(1).is_none_or(|major| *major == 3)
}

/// Reads fields one after the other; `None` as soon as one is not whole.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// A field behind one byte of length.
    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A field behind two bytes of length.
    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }
}

fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut fields = Fields(body);
    fields.take(2 + 32)?;
    let session = fields.short()?;
    let ciphers = fields.long()?;
    let compressions = fields.short()?;
    if session.len() > 32 || ciphers.is_empty() || ciphers.len() % 2 != 0 || compressions.is_empty() {
        return None;
    }
    let mut hello = ClientHello::default();
    if fields.0.is_empty() {
        return Some(hello);
    }
    let mut extensions = Fields(fields.long()?);
    if !fields.0.is_empty() {
        return None;
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let content = extensions.long()?;
        match kind {
            // Whoever asks twice may be answered by one and routed by the other.
            SERVER_NAME if named => return None,
            PROTOCOLS if offered => return None,
            SERVER_NAME => {
                named = true;
                hello.server_name = Some(server_name(content)?);
            }
            PROTOCOLS => {
                offered = true;
                hello.protocols = protocols(content).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(hello)
}

/// RFC 6066, section 3: a list of exactly one host name.
fn server_name(content: &[u8]) -> Option<String> {
    let mut fields = Fields(content);
    let mut list = Fields(fields.long()?);
    let kind = list.u8()?;
    let name = list.long()?;
    let whole = fields.0.is_empty() && list.0.is_empty();
    let fits = kind == 0 && (1..=MAX_NAME).contains(&name.len()) && !name.contains(&0);
    (whole && fits).then(|| String::from_utf8_lossy(name).to_ascii_lowercase())
}

/// RFC 7301, section 3.1.
fn protocols(content: &[u8]) -> Option<Vec<String>> {
    let mut fields = Fields(content);
    let mut list = Fields(fields.long()?);
    let mut names = Vec::new();
    while !list.0.is_empty() {
        let name = list.short().filter(|name| !name.is_empty())?;
        names.push(String::from_utf8_lossy(name).into_owned());
    }
    (fields.0.is_empty() && !names.is_empty()).then_some(names)
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
