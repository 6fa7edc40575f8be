//! Finds the frame heads in a stream of HTTP/2 bytes (RFC 9113, section 4.1) without keeping the frames.

/// Length of a frame's head.
const HEAD: usize = 9;
/// Length of the preface (section 3.4).
const PREFACE: usize = 24;
/// Flag of DATA and HEADERS.
const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 0x4;

/// Kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    Ping,
    WindowUpdate,
    Continuation,
    /// GOAWAY, PUSH_PROMISE, and what nobody knows.
    Other,
}

/// What a frame's head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub kind: Kind,
    pub stream: u32,
    /// END_HEADERS on HEADERS and CONTINUATION.
    pub ends_head: bool,
    /// END_STREAM on DATA and HEADERS.
    pub ends_stream: bool,
    /// DATA, HEADERS or CONTINUATION without a payload.
    pub is_empty: bool,
}

impl FrameHead {
    fn read(head: &[u8; HEAD]) -> (FrameHead, usize) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let kind = match head[3] {
            0x0 => Kind::Data,
            0x1 => Kind::Headers,
            0x2 => Kind::Priority,
            0x3 => Kind::Reset,
            0x4 => Kind::Settings,
            0x6 => Kind::Ping,
            0x8 => Kind::WindowUpdate,
            0x9 => Kind::Continuation,
            _ => Kind::Other,
        };
        let flags = head[4];
        let carries = matches!(kind, Kind::Data | Kind::Headers | Kind::Continuation);
        let frame = FrameHead {
            kind,
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            ends_head: flags & END_HEADERS != 0,
            ends_stream: matches!(kind, Kind::Data | Kind::Headers) && flags & END_STREAM != 0,
            is_empty: carries && length == 0,
        };
        (frame, length)
    }
}

/// Walks over bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct FrameScanner {
    /// Bytes to pass over: of the preface, or of a payload.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    inside_head: bool,
}

impl FrameScanner {
    /// For a side that begins with the preface.
    pub(crate) fn behind_preface() -> Self {
        FrameScanner { skip: PREFACE, ..FrameScanner::default() }
    }

    /// Calls `seen` for every frame head that is complete with these bytes.
    pub(crate) fn scan(&mut self, mut bytes: &[u8], mut seen: impl FnMut(FrameHead)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (HEAD - self.filled).min(bytes.len());
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD {
                self.filled = 0;
                let (frame, length) = FrameHead::read(&self.head);
                self.skip = length;
                self.inside_head = matches!(frame.kind, Kind::Headers | Kind::Continuation);
                seen(frame);
            }
        }
    }

    /// Whether the last byte was in the middle of a frame that carries a part of a head.
    pub(crate) fn is_inside_head(&self) -> bool {
        self.inside_head && self.skip > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u8, flags: u8, stream: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0x80, 0, 0, stream];
        frame.resize(HEAD + payload, 0xff);
        frame
    }

    #[test]
    fn finds_the_same_frames_however_the_bytes_are_cut() {
        let mut wire = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        wire.extend(bytes(4, 0, 0, 12));
        wire.extend(bytes(1, END_HEADERS | END_STREAM, 1, 300));
        wire.extend(bytes(0, 0, 3, 0));
        wire.extend(bytes(3, 0, 3, 4));
        for cut in [1, 2, 7, 9, 10, 64, wire.len()] {
            let (mut scanner, mut frames) = (FrameScanner::behind_preface(), Vec::new());
            for piece in wire.chunks(cut) {
                scanner.scan(piece, |frame| frames.push(frame));
            }
            let kinds: Vec<_> = frames.iter().map(|frame| (frame.kind, frame.stream)).collect();
            let expected = [(Kind::Settings, 0), (Kind::Headers, 1), (Kind::Data, 3), (Kind::Reset, 3)];
            assert_eq!(kinds, expected, "pieces of {cut}");
            assert!(frames[1].ends_head && frames[1].ends_stream && !frames[1].is_empty);
            assert!(frames[2].is_empty && !frames[2].ends_stream && !frames[3].is_empty);
        }
    }

    #[test]
    fn knows_that_it_is_inside_a_head() {
        let mut scanner = FrameScanner::default();
        let head = bytes(1, END_HEADERS, 1, 10);
        scanner.scan(&head[..12], |_| ());
        assert!(scanner.is_inside_head());
        scanner.scan(&head[12..], |_| ());
        assert!(!scanner.is_inside_head());
    }
}
