//! Waiting between attempts: exponential, bounded, with full jitter. Every client of a server that went away would else
//! come back at the same moment.

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
        Backoff::new(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl Backoff {
    /// The first wait is at most `base`, each further one at most twice as long, and none longer than `limit`.
    pub fn new(base: Duration, limit: Duration) -> Self {
        Backoff { base, limit, attempt: 0, random: RandomState::new() }
    }

    /// The longest wait.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// The attempt succeeded.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// How long to wait now: anything between nothing and the current bound, all equally likely.
    pub fn wait(&mut self) -> Duration {
        let mut hasher = self.random.build_hasher();
        hasher.write_u32(self.attempt);
        let random = hasher.finish();
        self.random = RandomState::new();
        let bound = self.base.saturating_mul(1 << self.attempt.min(20)).min(self.limit);
        self.attempt = self.attempt.saturating_add(1);
        let microseconds = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX - 1);
        Duration::from_micros(random % (microseconds + 1))
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
            assert!(wait <= Duration::from_secs(30), "{wait:?}");
            longest = longest.max(wait);
        }
        assert!(longest > Duration::from_secs(10), "{longest:?}");
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_secs(1));
    }

    /// When each of 200 clients that lost their server at the same moment tries again after it is back.
    fn return_of_the_fleet(away: Duration) -> Vec<Duration> {
        let returns = |_| {
            let mut backoff = Backoff::default();
            let mut now = Duration::ZERO;
            while now < away {
                now += backoff.wait();
            }
            now - away
        };
        (0..200).map(returns).collect()
    }

    fn most_in_one(width: Duration, times: &[Duration]) -> usize {
        let mut slots = std::collections::BTreeMap::<u128, usize>::new();
        for time in times {
            *slots.entry(time.as_micros() / width.as_micros()).or_default() += 1;
        }
        slots.into_values().max().unwrap_or_default()
    }

    #[test]
    fn a_fleet_comes_back_spread_over_the_window_and_not_at_once() {
        // A restart: the window is the first second.
        let quick = return_of_the_fleet(Duration::from_nanos(1));
        assert!(quick.iter().all(|time| *time <= Duration::from_secs(1)));
        let crowd = most_in_one(Duration::from_millis(100), &quick);
        assert!(crowd <= 50, "{crowd} of 200 within one tenth of the window");
        // An outage: the window is the longest wait.
        let late = return_of_the_fleet(Duration::from_secs(600));
        assert!(late.iter().all(|time| *time <= Duration::from_secs(30)), "{late:?}");
        let crowd = most_in_one(Duration::from_secs(3), &late);
        assert!(crowd <= 80, "{crowd} of 200 within one tenth of the window");
        let second_half = late.iter().filter(|time| **time > Duration::from_secs(10)).count();
        assert!(second_half >= 40, "only {second_half} of 200 after the first third of the window");
    }
}
