//! Finds the frame heads in a stream of HTTP/2 bytes (RFC 9113, section 4.1), and the bytes of header blocks, without
//! keeping the frames.

/// Length of a frame's head.
const HEAD: usize = 9;
/// Length of the preface (section 3.4).
const PREFACE: usize = 24;
/// Flag of DATA and HEADERS.
const END_STREAM: u8 = 0x1;
/// Flag of HEADERS and CONTINUATION.
const END_HEADERS: u8 = 0x4;
/// Flag of HEADERS.
const PADDED: u8 = 0x8;
/// Flag of HEADERS: stream, dependency and weight stand before the block.
const PRIORITY: u8 = 0x20;
/// Bytes of what [`PRIORITY`] announces.
const PRIORITY_LENGTH: usize = 5;

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
    PushPromise,
    /// GOAWAY, and what nobody knows.
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
            0x5 => Kind::PushPromise,
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

/// What is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// The head of a frame.
    Head(FrameHead),
    /// The next bytes of a header block, without padding.
    Block(&'a [u8]),
    /// The payload of a frame with a part of a header block has ended.
    BlockEnd,
    /// The padding is longer than its frame.
    BadPadding,
}

/// Where the scanner is in the payload of a frame with a part of a header block.
#[derive(Debug, Default)]
struct BlockPart {
    /// The first byte says how long the padding is.
    padded: bool,
    /// Bytes before the block.
    before: usize,
    /// Padding behind it.
    behind: usize,
}

/// Walks over bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct FrameScanner {
    /// Bytes to pass over: of the preface, or of a payload.
    skip: usize,
    head: [u8; HEAD],
    filled: usize,
    block: Option<BlockPart>,
}

impl FrameScanner {
    /// For a side that begins with the preface.
    pub(crate) fn behind_preface() -> Self {
        FrameScanner { skip: PREFACE, ..FrameScanner::default() }
    }

    /// Calls `seen` for everything that these bytes complete.
    pub(crate) fn scan<'a>(&mut self, mut bytes: &'a [u8], mut seen: impl FnMut(Piece<'a>)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let (passed, rest) = bytes.split_at(self.skip.min(bytes.len()));
                bytes = rest;
                self.pass(passed, &mut seen);
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
                seen(Piece::Head(frame));
                self.block = matches!(frame.kind, Kind::Headers | Kind::Continuation).then(|| {
                    let flags = if frame.kind == Kind::Headers { self.head[4] } else { 0 };
                    let before = if flags & PRIORITY != 0 { PRIORITY_LENGTH } else { 0 };
                    BlockPart { padded: flags & PADDED != 0, before, behind: 0 }
                });
                if length == 0 {
                    self.end_block(&mut seen);
                }
            }
        }
    }

    /// Passes over bytes of a payload; those of a header block are shown.
    fn pass<'a>(&mut self, mut bytes: &'a [u8], seen: &mut impl FnMut(Piece<'a>)) {
        self.skip -= bytes.len();
        let Some(part) = &mut self.block else { return };
        // With what is behind these bytes in the frame.
        let mut left = bytes.len() + self.skip;
        if part.padded
            && let Some((padding, rest)) = bytes.split_first()
        {
            part.padded = false;
            part.behind = usize::from(*padding);
            (bytes, left) = (rest, left - 1);
            if left < part.behind + part.before {
                self.block = None;
                return seen(Piece::BadPadding);
            }
        }
        let before = part.before.min(bytes.len());
        part.before -= before;
        (bytes, left) = (&bytes[before..], left - before);
        let of_block = left.saturating_sub(part.behind);
        let shown = &bytes[..of_block.min(bytes.len())];
        if !shown.is_empty() {
            seen(Piece::Block(shown));
        }
        if self.skip == 0 {
            self.end_block(seen);
        }
    }

    fn end_block<'a>(&mut self, seen: &mut impl FnMut(Piece<'a>)) {
        if let Some(part) = self.block.take() {
            // A frame too short for what it announces.
            seen(if part.padded || part.before > 0 { Piece::BadPadding } else { Piece::BlockEnd });
        }
    }

    /// Whether the last byte was in the middle of a frame that carries a part of a head.
    pub(crate) fn is_inside_head(&self) -> bool {
        self.block.is_some() && self.skip > 0
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
                scanner.scan(piece, |piece| {
                    if let Piece::Head(frame) = piece {
                        frames.push(frame);
                    }
                });
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

    /// What a scanner shows of a wire, however it is cut.
    fn blocks(wire: &[u8], cut: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut scanner, mut all, mut now, mut bad) =
            (FrameScanner::default(), Vec::new(), Vec::new(), false);
        for piece in wire.chunks(cut) {
            scanner.scan(piece, |piece| match piece {
                Piece::Block(bytes) => now.extend_from_slice(bytes),
                Piece::BlockEnd => all.push(std::mem::take(&mut now)),
                Piece::BadPadding => bad = true,
                Piece::Head(_) => {}
            });
        }
        (all, bad)
    }

    #[test]
    fn header_blocks_are_shown_without_padding_and_priority() {
        let frame = |kind: u8, flags: u8, payload: &[u8]| {
            let mut frame = vec![0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1];
            frame.extend_from_slice(payload);
            frame
        };
        let padded_with_priority = [&[3, 9, 9, 9, 9, 9][..], b"block", &[0; 3]].concat();
        let wire = [
            frame(1, 0, b"first"),
            frame(9, 4, b"second"),
            frame(0, PADDED, b"\x01data."),
            frame(1, PADDED | PRIORITY | 4, &padded_with_priority),
            frame(1, PADDED | 4, &[0]),
            frame(1, 4, b""),
        ]
        .concat();
        for cut in [1, 2, 3, 7, 11, wire.len()] {
            let (all, bad) = blocks(&wire, cut);
            let all: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
            assert_eq!(all, [&b"first"[..], b"second", b"block", b"", b""], "pieces of {cut}");
            assert!(!bad);
        }
        for payload in [&[6, 9, 9, 9, 9, 9, 1, 2][..], &[9, 9, 9], &[]] {
            let wire = frame(1, PADDED | PRIORITY | 4, payload);
            for cut in [1, 4, wire.len()] {
                assert!(blocks(&wire, cut).1, "{payload:?} in pieces of {cut}");
            }
        }
    }
}
