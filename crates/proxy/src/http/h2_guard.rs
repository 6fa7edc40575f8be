//! Counts the frames of an HTTP/2 connection as they pass, so that a client cannot make the proxy work for nothing.
//!
//! What the `h2` crate bounds itself: CONTINUATION frames of one head, the size of a decoded head, streams that are open,
//! resets of streams that nobody has looked at, streams that broke a rule, and one answer to a PING at a time. The rest is
//! here, with Envoy's names and defaults: resets, PRIORITY, WINDOW_UPDATE, empty frames, and PING and SETTINGS.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::deadline::Deadline;
use super::h2_frames::{FrameHead, FrameScanner, Kind, Piece};
use super::h2_heads::{Fault, Requests};

/// Bytes that are read and dropped after the last frame was written, so that the client sees it and not a reset.
const LINGER_BYTES: usize = 64 * 1024;
/// How long that may take.
const LINGER: Duration = Duration::from_secs(1);
/// PING and SETTINGS frames that are free; more of them come with streams and data, or with time.
const CONTROL_BURST: u64 = 1_000;
/// PING and SETTINGS frames that are free in every second.
const CONTROL_RATE: u64 = 100;

/// Bounds of what a client may send. Envoy's `http2_protocol_options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodLimits {
    /// Resets in a burst. `stream_reset_burst`.
    pub reset_burst: u64,
    /// Resets in a second beyond the burst. Every stream that ends well allows one more. `stream_reset_rate`.
    pub reset_rate: u64,
    /// Frames in a row that carry nothing. `max_consecutive_inbound_frames_with_empty_payload`.
    pub empty_frames: u32,
    /// PRIORITY frames for each stream. `max_inbound_priority_frames_per_stream`.
    pub priority_frames: u64,
    /// WINDOW_UPDATE frames for each DATA frame that was sent.
    /// `max_inbound_window_update_frames_per_data_frame_sent`.
    pub window_updates: u64,
}

impl Default for FloodLimits {
    fn default() -> Self {
        FloodLimits {
            reset_burst: 1_000,
            reset_rate: 33,
            empty_frames: 1,
            priority_frames: 100,
            window_updates: 10,
        }
    }
}

/// What a client did too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flood {
    /// Streams opened and reset.
    Resets,
    /// PRIORITY frames.
    Priority,
    /// WINDOW_UPDATE frames.
    WindowUpdates,
    /// Frames that carry nothing.
    EmptyFrames,
    /// PING and SETTINGS frames.
    Control,
}

impl Flood {
    /// For logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Flood::Resets => "stream resets (stream_reset_burst, stream_reset_rate)",
            Flood::Priority => "PRIORITY frames (max_inbound_priority_frames_per_stream)",
            Flood::WindowUpdates => {
                "WINDOW_UPDATE frames (max_inbound_window_update_frames_per_data_frame_sent)"
            }
            Flood::EmptyFrames => {
                "frames that carry nothing (max_consecutive_inbound_frames_with_empty_payload)"
            }
            Flood::Control => "PING and SETTINGS frames",
        }
    }
}

/// Frames in a burst, and so many in every second after it.
#[derive(Debug)]
struct Bucket {
    left: u64,
    burst: u64,
    rate: u64,
    filled: Instant,
}

impl Bucket {
    fn new(burst: u64, rate: u64) -> Self {
        Bucket { left: burst, burst, rate, filled: Instant::now() }
    }

    fn give(&mut self, count: u64) {
        self.left = self.left.saturating_add(count).min(self.burst);
    }

    /// Takes one; looks at the clock only when it is empty.
    fn take(&mut self) -> bool {
        if self.left == 0 {
            let seconds = self.filled.elapsed().as_secs();
            if seconds > 0 {
                self.filled = Instant::now();
                self.give(seconds.saturating_mul(self.rate));
            }
        }
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        true
    }
}

/// What the IO object has seen, and the connection asks for.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: FloodLimits,
    counts: RefCell<Counts>,
    requests: RefCell<Requests>,
    flood: Cell<Option<Flood>>,
    /// The client has begun a head and not ended it.
    in_head: Cell<bool>,
}

#[derive(Debug)]
struct Counts {
    resets: Bucket,
    control: Bucket,
    streams: u64,
    data_sent: u64,
    priority: u64,
    window_updates: u64,
    empty: u32,
    /// The stream whose head is still open.
    head: Option<u32>,
}

impl Guard {
    /// `table` and `head_bytes`: as for [`Requests::new`].
    pub(crate) fn new(limits: FloodLimits, table: u32, head_bytes: usize) -> Self {
        let requests = RefCell::new(Requests::new(table, head_bytes));
        let counts = Counts {
            resets: Bucket::new(limits.reset_burst, limits.reset_rate),
            control: Bucket::new(CONTROL_BURST, CONTROL_RATE),
            streams: 0,
            data_sent: 0,
            priority: 0,
            window_updates: 0,
            empty: 0,
            head: None,
        };
        Guard {
            limits,
            counts: RefCell::new(counts),
            requests,
            flood: Cell::new(None),
            in_head: Cell::new(false),
        }
    }

    /// What the client did too much of.
    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood.get()
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn is_in_head(&self) -> bool {
        self.in_head.get()
    }

    /// The header blocks of the connection cannot be followed any more, and what the client is told.
    pub(crate) fn unreadable(&self) -> Option<h2::Reason> {
        self.requests.borrow().broken()
    }

    /// Whether that is wrong with the request of a stream.
    pub(crate) fn has_fault(&self, stream: u32, fault: Fault) -> bool {
        self.requests.borrow().has(stream, fault)
    }

    /// A stream has ended in whatever way.
    pub(crate) fn forget(&self, stream: u32) {
        self.requests.borrow_mut().forget(stream);
    }

    /// A stream ended as it should.
    pub(crate) fn ended_well(&self) {
        self.counts.borrow_mut().resets.give(1);
    }

    fn read(&self, piece: Piece<'_>) {
        if let Piece::Head(frame) = piece {
            self.received(frame);
        }
        self.requests.borrow_mut().take(piece);
    }

    fn received(&self, frame: FrameHead) {
        if self.flood.get().is_none() {
            self.flood.set(self.count(frame));
        }
    }

    fn count(&self, frame: FrameHead) -> Option<Flood> {
        let counts = &mut *self.counts.borrow_mut();
        let limits = &self.limits;
        match frame.kind {
            Kind::Headers | Kind::Continuation => {
                if frame.kind == Kind::Headers {
                    counts.streams += 1;
                    counts.control.give(1);
                }
                counts.head = (!frame.ends_head).then_some(frame.stream);
            }
            Kind::Data => counts.control.give(1),
            Kind::Reset => return (!counts.resets.take()).then_some(Flood::Resets),
            Kind::Priority => {
                counts.priority += 1;
                let allowed = limits.priority_frames.saturating_mul(1 + counts.streams);
                return (counts.priority > allowed).then_some(Flood::Priority);
            }
            Kind::WindowUpdate => {
                counts.window_updates += 1;
                let for_data = limits.window_updates.saturating_mul(counts.data_sent);
                let allowed = 5 + for_data.saturating_add(counts.streams).saturating_mul(2);
                return (counts.window_updates > allowed).then_some(Flood::WindowUpdates);
            }
            Kind::Ping | Kind::Settings => return (!counts.control.take()).then_some(Flood::Control),
            Kind::PushPromise | Kind::Other => {}
        }
        if frame.is_empty && !frame.ends_stream {
            counts.empty += 1;
            return (counts.empty > limits.empty_frames).then_some(Flood::EmptyFrames);
        }
        counts.empty = 0;
        None
    }

    fn sent(&self, piece: Piece<'_>) {
        if let Piece::Head(FrameHead { kind: Kind::Data, .. }) = piece {
            let counts = &mut *self.counts.borrow_mut();
            counts.data_sent += 1;
            counts.control.give(1);
        }
    }
}

/// An IO object under guard.
pub(crate) struct Guarded<IO> {
    io: IO,
    guard: Rc<Guard>,
    reader: FrameScanner,
    writer: FrameScanner,
    lingering: Option<(Deadline, usize)>,
}

impl<IO> Guarded<IO> {
    /// For the server's side: the client begins with the preface.
    pub(crate) fn new(io: IO, guard: Rc<Guard>) -> Self {
        let (reader, writer) = (FrameScanner::behind_preface(), FrameScanner::default());
        Guarded { io, guard, reader, writer, lingering: None }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.guard.flood.get().is_some() || this.guard.unreadable().is_some() {
            // Nothing more is taken from it; the connection closes.
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buffer);
        let guard = &this.guard;
        this.reader.scan(&buffer.filled()[before..], |piece| guard.read(piece));
        guard.in_head.set(guard.counts.borrow().head.is_some() || this.reader.is_inside_head());
        polled
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &polled {
            this.writer.scan(&bytes[..*count], |piece| this.guard.sent(piece));
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(count)) = &polled {
            let mut left = *count;
            for slice in slices {
                let taken = left.min(slice.len());
                this.writer.scan(&slice[..taken], |piece| this.guard.sent(piece));
                left -= taken;
            }
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes the write side, and reads on for a moment: closing a socket with unread bytes makes the kernel reset it, and
    /// the client would not learn from the GOAWAY which of its requests were not looked at.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (deadline, left) = this.lingering.get_or_insert_with(|| {
            let mut deadline = Deadline::default();
            deadline.set(Some(LINGER));
            (deadline, LINGER_BYTES)
        });
        match Pin::new(&mut this.io).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return deadline.poll(cx).map(Ok),
        }
        let mut scratch = [0; 4096];
        loop {
            let mut piece = ReadBuf::new(&mut scratch);
            match Pin::new(&mut this.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if (1..*left).contains(&piece.filled().len()) => {
                    *left -= piece.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return deadline.poll(cx).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind) -> FrameHead {
        FrameHead { kind, stream: 1, ends_head: true, ends_stream: false, is_empty: false }
    }

    fn guarding(limits: FloodLimits) -> Guard {
        Guard::new(limits, 4096, 60 * 1024)
    }

    fn frames_until(flood: Flood, limits: FloodLimits, frames: &[FrameHead]) -> usize {
        let guard = guarding(limits);
        for (index, frame) in frames.iter().enumerate() {
            guard.received(*frame);
            if let Some(seen) = guard.flood() {
                assert_eq!(seen, flood);
                return index + 1;
            }
        }
        usize::MAX
    }

    #[test]
    fn each_flood_is_seen_at_its_limit_and_not_before() {
        let limits = FloodLimits { reset_burst: 3, ..FloodLimits::default() };
        for (flood, kind, at) in [
            (Flood::Resets, Kind::Reset, 4),
            (Flood::Priority, Kind::Priority, 101),
            (Flood::WindowUpdates, Kind::WindowUpdate, 6),
            (Flood::Control, Kind::Ping, 1001),
            (Flood::Control, Kind::Settings, 1001),
        ] {
            assert_eq!(frames_until(flood, limits, &vec![frame(kind); 2000]), at, "{flood:?}");
        }
        let empty = FrameHead { is_empty: true, ..frame(Kind::Data) };
        assert_eq!(frames_until(Flood::EmptyFrames, limits, &[empty; 5]), 2);
        let full = [empty, frame(Kind::Data)].repeat(1000);
        assert_eq!(frames_until(Flood::EmptyFrames, limits, &full), usize::MAX);
        let last = FrameHead { ends_stream: true, ..empty };
        assert_eq!(frames_until(Flood::EmptyFrames, limits, &[last; 5]), usize::MAX);
    }

    #[test]
    fn streams_that_end_well_and_time_allow_more_resets() {
        let limits = FloodLimits { reset_burst: 2, reset_rate: 1, ..FloodLimits::default() };
        let guard = guarding(limits);
        for _ in 0..100 {
            guard.received(frame(Kind::Headers));
            guard.received(frame(Kind::Reset));
            guard.ended_well();
        }
        assert_eq!(guard.flood(), None);
        let before = guard.counts.borrow().resets.filled - Duration::from_secs(10);
        guard.counts.borrow_mut().resets.filled = before;
        for _ in 0..3 {
            guard.received(frame(Kind::Reset));
        }
        assert_eq!(guard.flood(), None, "two of the burst, and one of the time since");
        let guard = guarding(limits);
        for _ in 0..3 {
            guard.received(frame(Kind::Reset));
        }
        assert_eq!(guard.flood(), Some(Flood::Resets));
    }

    #[test]
    fn data_that_is_sent_allows_window_updates_and_pings() {
        let guard = guarding(FloodLimits::default());
        for _ in 0..10_000 {
            guard.sent(Piece::Head(frame(Kind::Data)));
            for _ in 0..20 {
                guard.received(frame(Kind::WindowUpdate));
            }
            guard.received(frame(Kind::Ping));
        }
        assert_eq!(guard.flood(), None);
    }
}
