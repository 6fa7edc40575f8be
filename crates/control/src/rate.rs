//! How often somebody may ask: one token bucket for each key, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use base::Clock;

/// The most keys that are remembered; beyond it the memory starts anew, so that nobody can fill it for others.
const MOST_KEYS: usize = 10_000;

/// Token buckets by key.
pub struct Limiter<K> {
    clock: Arc<dyn Clock>,
    burst: f64,
    per_second: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

struct Bucket {
    left: f64,
    at: SystemTime,
}

impl<K: Eq + Hash> Limiter<K> {
    /// `burst` at once, then `per_second`.
    pub fn new(clock: Arc<dyn Clock>, burst: u32, per_second: f64) -> Self {
        Limiter { clock, burst: f64::from(burst), per_second, buckets: Mutex::default() }
    }

    /// Takes one from the key's bucket; `false` when it is empty.
    pub fn take(&self, key: K) -> bool {
        let now = self.clock.now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST_KEYS && !buckets.contains_key(&key) {
            buckets.clear();
        }
        let bucket = buckets.entry(key).or_insert(Bucket { left: self.burst, at: now });
        let passed = now.duration_since(bucket.at).unwrap_or_default().as_secs_f64();
        bucket.left = (bucket.left + passed * self.per_second).min(self.burst);
        bucket.at = now;
        if bucket.left < 1.0 {
            return false;
        }
        bucket.left -= 1.0;
        true
    }
}

impl<K> std::fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("burst", &self.burst).field("per_second", &self.per_second).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;
    use std::time::Duration;

    #[test]
    fn each_key_has_its_own_bucket_and_it_refills() {
        let clock = TestClock::new();
        let limiter = Limiter::new(clock.clone(), 2, 0.5);
        assert!(limiter.take("a") && limiter.take("a") && !limiter.take("a"));
        assert!(limiter.take("b"));
        clock.advance(Duration::from_secs(2));
        assert!(limiter.take("a") && !limiter.take("a"));
        clock.advance(Duration::from_secs(1000));
        assert!(limiter.take("a") && limiter.take("a") && !limiter.take("a"));
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(TestClock::new(), 1, 1.0);
        for key in 0..3 * MOST_KEYS {
            limiter.take(key);
        }
        assert!(limiter.buckets.lock().unwrap().len() <= MOST_KEYS);
    }
}
