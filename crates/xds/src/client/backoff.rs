//! Waiting between attempts: exponential, with jitter, bounded.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Waits between attempts to connect.
#[derive(Debug, Clone)]
pub struct Backoff {
    base: Duration,
    limit: Duration,
    attempt: u32,
    random: RandomState,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_millis(500), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Waits of at least `base` and at most `limit`.
    pub fn new(base: Duration, limit: Duration) -> Self {
        Backoff { base, limit, attempt: 0, random: RandomState::new() }
    }

    /// The attempt succeeded.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// How long to wait now: between the base and the base doubled with each attempt, at random.
    pub fn wait(&mut self) -> Duration {
        let mut hasher = self.random.build_hasher();
        hasher.write_u32(self.attempt);
        let random = hasher.finish();
        self.random = RandomState::new();
        let ceiling = self.base.saturating_mul(2 << self.attempt.min(20)).min(self.limit);
        self.attempt = self.attempt.saturating_add(1);
        let spread = u64::try_from(ceiling.saturating_sub(self.base).as_millis()).unwrap_or(u64::MAX);
        let extra = if spread == 0 { 0 } else { random % (spread + 1) };
        (self.base + Duration::from_millis(extra)).min(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_limit_and_no_further() {
        let mut backoff = Backoff::default();
        assert!(backoff.wait() <= Duration::from_secs(1));
        let mut longest = Duration::ZERO;
        for _ in 0..500 {
            let wait = backoff.wait();
            assert!(wait >= Duration::from_millis(500) && wait <= Duration::from_secs(30), "{wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest > Duration::from_secs(10), "{longest:?}");
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_secs(1));
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let waits = |mut backoff: Backoff| (0..20).map(|_| backoff.wait()).collect::<Vec<_>>();
        assert_ne!(waits(Backoff::default()), waits(Backoff::default()));
    }
}
