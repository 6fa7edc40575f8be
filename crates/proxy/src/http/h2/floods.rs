//! Bounds of what costs this side work and the peer nothing.

use tokio::time::Instant;

use super::frame::{self, FrameHead};

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

impl FloodLimits {
    /// Of a host that was chosen: honest programs send empty frames, one for each message that they pass on.
    pub(crate) const OF_UPSTREAM: FloodLimits = FloodLimits {
        reset_burst: u64::MAX,
        reset_rate: 0,
        empty_frames: 100,
        priority_frames: 100,
        window_updates: 1_000,
    };
}

/// What a peer did too much of.
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

/// Counts what came.
#[derive(Debug)]
pub(crate) struct Floods {
    limits: FloodLimits,
    resets: Bucket,
    control: Bucket,
    streams: u64,
    data_sent: u64,
    priority: u64,
    window_updates: u64,
    empty: u32,
}

impl Floods {
    pub(crate) fn new(limits: FloodLimits) -> Self {
        Floods {
            limits,
            resets: Bucket::new(limits.reset_burst, limits.reset_rate),
            control: Bucket::new(CONTROL_BURST, CONTROL_RATE),
            streams: 0,
            data_sent: 0,
            priority: 0,
            window_updates: 0,
            empty: 0,
        }
    }

    /// A stream ended as it should.
    pub(crate) fn ended_well(&mut self) {
        self.resets.give(1);
    }

    /// A DATA frame was sent.
    pub(crate) fn data_sent(&mut self) {
        self.data_sent += 1;
        self.control.give(1);
    }

    /// A stream was reset, by the peer or for a rule that it broke.
    pub(crate) fn reset(&mut self) -> Option<Flood> {
        (!self.resets.take()).then_some(Flood::Resets)
    }

    /// A frame came; what there is too much of.
    pub(crate) fn received(&mut self, head: FrameHead) -> Option<Flood> {
        let limits = &self.limits;
        match head.kind {
            frame::HEADERS => {
                self.streams += 1;
                self.control.give(1);
            }
            frame::DATA => self.control.give(1),
            frame::CONTINUATION => {}
            frame::RST_STREAM => return self.reset(),
            frame::PRIORITY => {
                self.priority += 1;
                let allowed = limits.priority_frames.saturating_mul(1 + self.streams);
                return (self.priority > allowed).then_some(Flood::Priority);
            }
            frame::WINDOW_UPDATE => {
                self.window_updates += 1;
                let for_data = limits.window_updates.saturating_mul(self.data_sent);
                let allowed = 5 + for_data.saturating_add(self.streams).saturating_mul(2);
                return (self.window_updates > allowed).then_some(Flood::WindowUpdates);
            }
            frame::PING | frame::SETTINGS => {
                return (!self.control.take()).then_some(Flood::Control);
            }
            _ => return None,
        }
        let ends = head.kind != frame::CONTINUATION && head.has(frame::END_STREAM);
        if head.length == 0 && !ends {
            self.empty += 1;
            return (self.empty > limits.empty_frames).then_some(Flood::EmptyFrames);
        }
        self.empty = 0;
        None
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn head(kind: u8) -> FrameHead {
        FrameHead { length: 1, kind, flags: 0, stream: 1 }
    }

    fn frames_until(flood: Flood, limits: FloodLimits, frames: &[FrameHead]) -> usize {
        let mut floods = Floods::new(limits);
        for (index, frame) in frames.iter().enumerate() {
            if let Some(seen) = floods.received(*frame) {
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
            (Flood::Resets, frame::RST_STREAM, 4),
            (Flood::Priority, frame::PRIORITY, 101),
            (Flood::WindowUpdates, frame::WINDOW_UPDATE, 6),
            (Flood::Control, frame::PING, 1001),
            (Flood::Control, frame::SETTINGS, 1001),
        ] {
            assert_eq!(frames_until(flood, limits, &vec![head(kind); 2000]), at, "{flood:?}");
        }
        let empty = FrameHead { length: 0, ..head(frame::DATA) };
        assert_eq!(frames_until(Flood::EmptyFrames, limits, &[empty; 5]), 2);
        let full = [empty, head(frame::DATA)].repeat(1000);
        assert_eq!(frames_until(Flood::EmptyFrames, limits, &full), usize::MAX);
        let last = FrameHead { flags: frame::END_STREAM, ..empty };
        assert_eq!(frames_until(Flood::EmptyFrames, limits, &[last; 5]), usize::MAX);
    }

    #[test]
    fn streams_that_end_well_and_time_allow_more_resets() {
        let limits = FloodLimits { reset_burst: 2, reset_rate: 1, ..FloodLimits::default() };
        let mut floods = Floods::new(limits);
        for _ in 0..100 {
            assert_eq!(floods.received(head(frame::RST_STREAM)), None);
            floods.ended_well();
        }
        floods.resets.filled -= Duration::from_secs(10);
        for _ in 0..3 {
            assert_eq!(floods.reset(), None, "two of the burst, and one of the time since");
        }
        let mut floods = Floods::new(limits);
        let seen: Vec<_> = (0..3).map(|_| floods.reset()).collect();
        assert_eq!(seen, [None, None, Some(Flood::Resets)]);
    }

    #[test]
    fn data_that_is_sent_allows_window_updates_and_pings() {
        let mut floods = Floods::new(FloodLimits::default());
        for _ in 0..10_000 {
            floods.data_sent();
            for _ in 0..20 {
                assert_eq!(floods.received(head(frame::WINDOW_UPDATE)), None);
            }
            assert_eq!(floods.received(head(frame::PING)), None);
        }
    }
}
