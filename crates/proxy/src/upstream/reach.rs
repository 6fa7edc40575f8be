//! A host that refuses connections, resets them or says that it goes away is passed over at once, without waiting for
//! the configuration: for a second, and twice as long each time it fails again, up to half a minute. Only while other
//! hosts are there: the last one is always tried. Envoy has nothing like it; a runtime setting turns it off.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The first time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether a host can be reached, as far as the last attempts say. Shared by all workers.
#[derive(Debug)]
pub struct Reach {
    /// Whether anything follows from a failure.
    acts: bool,
    epoch: Instant,
    failures: AtomicU32,
    /// Milliseconds since `epoch`; 0: it is not passed over.
    avoided_until: AtomicU64,
}

impl Reach {
    /// Nothing is known yet; times count from `epoch`.
    pub fn new(epoch: Instant, acts: bool) -> Self {
        Reach { acts, epoch, failures: AtomicU32::new(0), avoided_until: AtomicU64::new(0) }
    }

    /// It refused, reset, or goes away.
    pub fn failed(&self) {
        if self.acts {
            self.failed_at(self.now());
        }
    }

    fn failed_at(&self, now: u64) {
        let until = self.avoided_until.load(Ordering::Acquire);
        if until > now {
            // Many requests fail at one moment: that is one failure.
            return;
        }
        let doublings = self.failures.load(Ordering::Acquire).min(5);
        let wait = LONGEST.min(FIRST * (1 << doublings)).as_millis() as u64;
        if self.avoided_until.compare_exchange(until, now + wait, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            self.failures.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It answered.
    pub fn worked(&self) {
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Release);
            self.avoided_until.store(0, Ordering::Release);
        }
    }

    /// Whether it is to be passed over while there are others. Reads the clock only after a failure.
    pub fn is_avoided(&self) -> bool {
        let until = self.avoided_until.load(Ordering::Relaxed);
        until != 0 && until > self.now()
    }

    fn now(&self) -> u64 {
        // 0 stands for "never".
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_half_a_minute_and_a_success_ends_it() {
        let reach = Reach::new(Instant::now(), true);
        assert!(!reach.is_avoided());
        let mut now = 1;
        for wait in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            reach.failed_at(now);
            reach.failed_at(now + wait - 1);
            assert_eq!(reach.avoided_until.load(Ordering::Relaxed), now + wait);
            now += wait;
        }
        assert!(reach.is_avoided());
        reach.worked();
        assert!(!reach.is_avoided());
        reach.failed_at(now);
        assert_eq!(reach.avoided_until.load(Ordering::Relaxed), now + 1_000);
    }

    #[test]
    fn switched_off_a_host_that_fails_is_like_any_other() {
        let reach = Reach::new(Instant::now(), false);
        reach.failed();
        assert!(!reach.is_avoided());
    }
}
