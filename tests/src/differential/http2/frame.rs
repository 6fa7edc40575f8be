//! Frames (RFC 9113 §4) as bytes, and the names of their types, flags and codes.

use crate::differential::message::{End, Reader};

/// What a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types in the order of their numbers.
pub const TYPES: [&str; 10] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
];

/// Error codes in the order of their numbers.
pub const CODES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// Settings and their numbers.
pub const SETTINGS: [(&str, u16); 7] = [
    ("HEADER_TABLE_SIZE", 1),
    ("ENABLE_PUSH", 2),
    ("MAX_CONCURRENT_STREAMS", 3),
    ("INITIAL_WINDOW_SIZE", 4),
    ("MAX_FRAME_SIZE", 5),
    ("MAX_HEADER_LIST_SIZE", 6),
    ("ENABLE_CONNECT_PROTOCOL", 8),
];

/// The end of a stream, and the acknowledgement of settings and pings.
pub const END_STREAM: u8 = 0x1;
/// The end of a header block.
pub const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// A frame of a type by its name.
    pub fn new(kind: &str, flags: u8, stream: u32, payload: Vec<u8>) -> Frame {
        let kind = TYPES.iter().position(|name| *name == kind).expect("a type of frame");
        Frame { kind: u8::try_from(kind).unwrap(), flags, stream, payload }
    }

    /// Whether it has that type.
    pub fn is(&self, kind: &str) -> bool {
        TYPES.get(usize::from(self.kind)) == Some(&kind)
    }

    /// Header and payload; `length` is told instead of the true one.
    pub fn bytes(&self, length: Option<usize>) -> Vec<u8> {
        let length = u32::try_from(length.unwrap_or(self.payload.len())).unwrap();
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([self.kind, self.flags]);
        bytes.extend(self.stream.to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    /// The payload without padding and priority.
    pub fn content(&self) -> &[u8] {
        let mut content = self.payload.as_slice();
        if self.flags & PADDED != 0 && (self.is("DATA") || self.is("HEADERS")) {
            let padding = usize::from(content.first().copied().unwrap_or_default());
            content = content.get(1..content.len().saturating_sub(padding)).unwrap_or_default();
        }
        if self.flags & PRIORITY != 0 && self.is("HEADERS") {
            content = content.get(5..).unwrap_or_default();
        }
        content
    }

    /// Four bytes of the payload as a number.
    pub fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(bytes.unwrap_or_default())
    }

    /// Reads one.
    ///
    /// # Errors
    /// The connection ended before, or nothing came in time.
    pub fn read(reader: &mut Reader) -> Result<Frame, End> {
        loop {
            if let [a, b, c, kind, flags, s, t, u, v, rest @ ..] = reader.rest() {
                let length = usize::try_from(u32::from_be_bytes([0, *a, *b, *c])).unwrap();
                if let Some(payload) = rest.get(..length) {
                    let stream = u32::from_be_bytes([*s & 0x7f, *t, *u, *v]);
                    let frame = Frame { kind: *kind, flags: *flags, stream, payload: payload.to_vec() };
                    reader.take(9 + length);
                    return Ok(frame);
                }
            }
            match reader.more() {
                End::Whole => {}
                end => return Err(end),
            }
        }
    }
}

/// Name of an error code.
pub fn code_name(code: u32) -> String {
    let name = usize::try_from(code).ok().and_then(|code| CODES.get(code));
    name.map_or_else(|| format!("code {code}"), |name| (*name).to_owned())
}

/// Number of an error code.
pub fn code(name: &str) -> Option<u32> {
    CODES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok()).or(name.parse().ok())
}

/// Payload of SETTINGS, from `NAME=VALUE …`.
pub fn settings(text: &str) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    for pair in text.split_whitespace() {
        let (name, value) = pair.split_once('=')?;
        let known = SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        payload.extend(known.or(name.parse().ok())?.to_be_bytes());
        payload.extend(value.parse::<u32>().ok()?.to_be_bytes());
    }
    Some(payload)
}
