//! Judges header blocks on their way to the `h2` crate: what it and the `http` crate drop without a word is told to whoever
//! reads the message (RFC 9113, sections 8.1 and 8.3).
//!
//! A fragment in `:path` is cut off there, pseudo-headers in trailers and those of requests in responses are left out: the
//! message would be another one than what came.

use std::collections::HashMap;

use super::h2_frames::{FrameHead, Kind, Piece};
use super::h2_hpack::{Block, Decoder, Malformed};

/// Bytes of a block that are kept while its end has not come, beside those of the largest head.
const SLACK: usize = 256 * 1024;
/// Capacity that a connection keeps for its next block.
const KEPT: usize = 1024;
/// Faults of streams that nobody has asked about.
const MAX_FAULTS: usize = 256;

/// What is wrong with a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A request's `:path` has a fragment.
    Fragment,
    /// A response's head has a pseudo-header of requests.
    PseudoOfRequest,
    /// Trailers have a pseudo-header.
    PseudoInTrailers,
}

/// One whole header block, with what its frames say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Whole {
    stream: u32,
    block: Block,
}

/// Puts header blocks together and reads them.
#[derive(Debug)]
struct Blocks {
    decoder: Decoder,
    limit: usize,
    /// The block that has begun.
    open: Option<FrameHead>,
    /// What has come of it in earlier frames or reads.
    kept: Vec<u8>,
    /// Nothing more can be read, and what the peer is told.
    broken: Option<h2::Reason>,
}

impl Blocks {
    fn new(table: u32, head_bytes: usize) -> Self {
        let limit = head_bytes.saturating_mul(4).saturating_add(SLACK);
        Blocks { decoder: Decoder::new(table), limit, open: None, kept: Vec::new(), broken: None }
    }

    /// Takes what the scanner found; a block that is whole comes back.
    fn take(&mut self, piece: Piece<'_>) -> Option<Whole> {
        if self.broken.is_some() {
            return None;
        }
        match piece {
            Piece::Head(frame) => {
                self.begin(frame);
                None
            }
            Piece::Block(bytes) => {
                if self.kept.len() + bytes.len() > self.limit {
                    self.broken = Some(h2::Reason::ENHANCE_YOUR_CALM);
                }
                self.kept.extend_from_slice(bytes);
                None
            }
            Piece::BlockEnd => self.end(),
            Piece::BadPadding => {
                self.broken = Some(h2::Reason::PROTOCOL_ERROR);
                None
            }
        }
    }

    fn begin(&mut self, frame: FrameHead) {
        match (frame.kind, self.open) {
            (Kind::Headers, None) => self.open = Some(frame),
            (Kind::Continuation, Some(open)) if open.stream == frame.stream => {
                self.open = Some(FrameHead { ends_head: frame.ends_head, ..open });
            }
            // Nothing may stand between the frames of a block (section 6.10); promises were never allowed.
            (Kind::Headers | Kind::Continuation | Kind::PushPromise, _) | (_, Some(_)) => {
                self.broken = Some(h2::Reason::PROTOCOL_ERROR);
            }
            (_, None) => {}
        }
    }

    fn end(&mut self) -> Option<Whole> {
        let open = self.open.filter(|open| open.ends_head)?;
        self.open = None;
        let read = self.decoder.read(&self.kept);
        self.kept.clear();
        if self.kept.capacity() > KEPT {
            self.kept = Vec::new();
        }
        match read {
            Ok(block) => Some(Whole { stream: open.stream, block }),
            Err(Malformed) => {
                self.broken = Some(h2::Reason::COMPRESSION_ERROR);
                None
            }
        }
    }
}

/// Of a server: requests and their trailers.
#[derive(Debug)]
pub(crate) struct Requests {
    blocks: Blocks,
    newest: u32,
    faults: Vec<(u32, Fault)>,
}

impl Requests {
    /// `table`: what the client is told of the size of its table; `head_bytes`: the largest head.
    pub(crate) fn new(table: u32, head_bytes: usize) -> Self {
        Requests { blocks: Blocks::new(table, head_bytes), newest: 0, faults: Vec::new() }
    }

    /// Takes what the scanner found.
    pub(crate) fn take(&mut self, piece: Piece<'_>) {
        let Some(Whole { stream, block }) = self.blocks.take(piece) else { return };
        let fault = if stream > self.newest {
            self.newest = stream;
            block.fragment.then_some(Fault::Fragment)
        } else {
            block.has_pseudo().then_some(Fault::PseudoInTrailers)
        };
        if let Some(fault) = fault {
            self.faults.push((stream, fault));
        }
    }

    /// The blocks cannot be followed any more, or nobody asks about their faults: the connection must end with that.
    pub(crate) fn broken(&self) -> Option<h2::Reason> {
        let ignored = (self.faults.len() > MAX_FAULTS).then_some(h2::Reason::ENHANCE_YOUR_CALM);
        self.blocks.broken.or(ignored)
    }

    /// All that is wrong with streams that nobody has forgotten.
    pub(crate) fn faults(&self) -> Vec<(u32, Fault)> {
        self.faults.clone()
    }

    /// Whether that is wrong with a stream.
    pub(crate) fn has(&self, stream: u32, fault: Fault) -> bool {
        self.faults.contains(&(stream, fault))
    }

    /// The stream has ended.
    pub(crate) fn forget(&mut self, stream: u32) {
        if !self.faults.is_empty() {
            self.faults.retain(|(of, _)| *of != stream);
        }
    }
}

/// Of a client: responses to the requests that somebody waits for.
#[derive(Debug)]
pub(crate) struct Responses {
    blocks: Blocks,
    waiting: HashMap<u32, Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The final head has come.
    answered: bool,
    fault: Option<Fault>,
}

impl Responses {
    /// `table`: what the server is told of the size of its table; `head_bytes`: the largest head.
    pub(crate) fn new(table: u32, head_bytes: usize) -> Self {
        Responses { blocks: Blocks::new(table, head_bytes), waiting: HashMap::new() }
    }

    /// Takes what the scanner found.
    pub(crate) fn take(&mut self, piece: Piece<'_>) {
        let Some(Whole { stream, block }) = self.blocks.take(piece) else { return };
        let Some(waiting) = self.waiting.get_mut(&stream) else { return };
        let fault = if waiting.answered {
            block.has_pseudo().then_some(Fault::PseudoInTrailers)
        } else {
            waiting.answered = block.status == Some(false);
            block.of_request.then_some(Fault::PseudoOfRequest)
        };
        waiting.fault = waiting.fault.or(fault);
    }

    /// The blocks cannot be followed any more: the connection must end.
    pub(crate) fn is_broken(&self) -> bool {
        self.blocks.broken.is_some()
    }

    /// A request was sent on that stream.
    pub(crate) fn wait(&mut self, stream: u32) {
        self.waiting.insert(stream, Waiting::default());
    }

    /// What is wrong with its response so far; of a head and trailers the head.
    pub(crate) fn fault(&self, stream: u32) -> Option<Fault> {
        self.waiting.get(&stream).and_then(|waiting| waiting.fault)
    }

    /// Nobody waits for it any more.
    pub(crate) fn forget(&mut self, stream: u32) {
        self.waiting.remove(&stream);
    }
}

#[cfg(test)]
#[path = "h2_heads_tests.rs"]
mod tests;
