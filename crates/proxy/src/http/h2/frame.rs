//! Frames (RFC 9113, sections 4 and 6): their heads, kinds and flags.

use bytes::Bytes;

use super::code::Violation;

/// Length of a frame's head.
pub(crate) const HEAD: usize = 9;
/// Largest payload that either side sends: the smallest limit that a peer may have.
pub(crate) const MAX_PAYLOAD: usize = 16_384;
/// What a client's connection begins with.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const PRIORITY: u8 = 0x2;
pub(crate) const RST_STREAM: u8 = 0x3;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PUSH_PROMISE: u8 = 0x5;
pub(crate) const PING: u8 = 0x6;
pub(crate) const GOAWAY: u8 = 0x7;
pub(crate) const WINDOW_UPDATE: u8 = 0x8;
pub(crate) const CONTINUATION: u8 = 0x9;

/// Flag of SETTINGS and PING.
pub(crate) const ACK: u8 = 0x1;
/// Flag of DATA and HEADERS.
pub(crate) const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 0x4;
/// Flag of DATA and HEADERS.
pub(crate) const PADDED: u8 = 0x8;
/// Flag of HEADERS: a dependency and a weight stand before the block.
pub(crate) const PRIORITIZED: u8 = 0x20;

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    /// Bytes of the payload.
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    /// 0: the connection.
    pub stream: u32,
}

impl FrameHead {
    /// Reads the head that `bytes` begin with; `None`: it is not whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<FrameHead> {
        let (head, _) = bytes.split_first_chunk::<HEAD>()?;
        Some(FrameHead {
            length: usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]),
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
        })
    }

    /// Its bytes; `length` is less than 2^24.
    pub(crate) fn to_bytes(self) -> [u8; HEAD] {
        let [_, a, b, c] = (self.length as u32).to_be_bytes();
        let [s, t, u, v] = self.stream.to_be_bytes();
        [a, b, c, self.kind, self.flags, s, t, u, v]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The payload of a frame, in a buffer of the reader's or of its own.
#[derive(Debug)]
pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Payload<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }

    /// A part of it that outlives the reader's buffer.
    pub(crate) fn keep(&self, part: std::ops::Range<usize>) -> Bytes {
        match self {
            Payload::Borrowed(bytes) => Bytes::copy_from_slice(&bytes[part]),
            Payload::Owned(bytes) => bytes.slice(part),
        }
    }
}

/// Where the content of a padded frame is (section 6.1).
pub(crate) fn without_padding(head: FrameHead, payload: &[u8]) -> Result<std::ops::Range<usize>, Violation> {
    if !head.has(PADDED) {
        return Ok(0..payload.len());
    }
    let Some(padding) = payload.first() else {
        return Err(Violation::size("a padded frame without a payload"));
    };
    match payload.len().checked_sub(1 + usize::from(*padding)) {
        Some(length) => Ok(1..1 + length),
        None => Err(Violation::protocol("the padding is longer than its frame")),
    }
}

/// Four bytes as a number.
pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}
