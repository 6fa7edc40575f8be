//! How long a host keeps a connection that nobody uses: learned from what it does, so that no request is sent on a
//! connection that the host is about to close.
//!
//! Learned when the host closes an idle connection, when a request on a reused one dies without a byte, and when it says
//! `keep-alive: timeout=N`. One connection beyond the safe age is kept, never used and watched: when it has lived twice as
//! long as was believed, the host keeps connections for so long. So the limit is found again after a restart that looked
//! like one, and no request is risked to find it; a host that is late with a close, because it is busy, raises nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The largest part of the limit that is left unused: clocks and the network of both sides are this far apart at most.
const MARGIN: Duration = Duration::from_secs(2);

/// So many times the limit a connection must live for the limit to be raised.
const SURVIVES: u64 = 2;

/// What is known of one host, over all workers.
#[derive(Debug)]
pub struct IdleLimit(AtomicU64);

impl Default for IdleLimit {
    /// Nothing is known: the configured limit stands alone.
    fn default() -> Self {
        IdleLimit(AtomicU64::new(u64::MAX))
    }
}

impl IdleLimit {
    /// The age up to which an idle connection may be used; `None`: no limit was seen.
    pub fn safe(&self) -> Option<Duration> {
        let limit = self.learned()?;
        Some(limit - (limit / 4).min(MARGIN))
    }

    /// The age at which the host closes connections.
    pub fn learned(&self) -> Option<Duration> {
        let limit = self.0.load(Ordering::Relaxed);
        (limit != u64::MAX).then(|| Duration::from_micros(limit))
    }

    /// The host closed a connection that had been idle for so long, or said that it would.
    pub fn closed_at(&self, age: Duration) {
        self.0.fetch_min(microseconds(age), Ordering::Relaxed);
    }

    /// A connection has been idle for so long and lives.
    pub fn alive_at(&self, age: Duration) {
        let (age, known) = (microseconds(age), self.0.load(Ordering::Relaxed));
        if known != u64::MAX && age >= known.saturating_mul(SURVIVES) {
            // Another worker that has just learned a shorter one is right.
            let _ = self.0.compare_exchange(known, age, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

fn microseconds(age: Duration) -> u64 {
    u64::try_from(age.as_micros()).unwrap_or(u64::MAX - 1).min(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_shortest_close_counts_and_a_survivor_raises_it() {
        let limit = IdleLimit::default();
        limit.alive_at(10 * SECOND);
        assert_eq!(limit.safe(), None, "nobody has closed anything yet");
        limit.closed_at(5 * SECOND);
        limit.closed_at(30 * SECOND);
        assert_eq!(limit.learned(), Some(5 * SECOND));
        limit.alive_at(4 * SECOND);
        assert_eq!(limit.learned(), Some(5 * SECOND));
        limit.alive_at(9 * SECOND);
        assert_eq!(limit.learned(), Some(5 * SECOND), "a close that is late is no other limit");
        limit.alive_at(10 * SECOND);
        assert_eq!(limit.learned(), Some(10 * SECOND));
    }

    #[test]
    fn a_part_is_left_unused() {
        for (limit, safe) in [(1_000, 750), (5_000, 3_750), (30_000, 28_000)] {
            let learned = IdleLimit::default();
            learned.closed_at(Duration::from_millis(limit));
            assert_eq!(learned.safe(), Some(Duration::from_millis(safe)));
        }
        let never = IdleLimit::default();
        never.closed_at(Duration::ZERO);
        assert_eq!(never.safe(), Some(Duration::ZERO));
    }
}
