//! A fast random number generator per worker: request ids and picks among hosts. Not for keys or secrets.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// SplitMix64 seeded from the operating system. Stays on its thread.
#[derive(Debug)]
pub struct Random(Cell<u64>);

impl Random {
    /// A generator that nobody outside can predict the start of.
    pub fn from_system() -> Self {
        let mut seed = [0; 8];
        if SystemRandom::new().fill(&mut seed).is_err() {
            // The system has no randomness left to give: ids stay unique enough, and nothing secret hangs on them.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            seed = now.as_nanos().to_le_bytes()[..8].try_into().unwrap_or(seed);
        }
        Self::seeded(u64::from_le_bytes(seed))
    }

    /// A generator with a known sequence.
    pub fn seeded(seed: u64) -> Self {
        Self(Cell::new(seed))
    }

    /// The next number.
    pub fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.0.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, without the bias of a remainder; 0 for a limit of 0.
    pub fn below(&self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_spread_evenly_and_stays_below_its_limit() {
        let random = Random::seeded(7);
        let mut counts = [0u32; 10];
        for _ in 0..100_000 {
            counts[random.below(10) as usize] += 1;
        }
        // Five standard deviations of a binomial distribution: sqrt(100,000 * 0.1 * 0.9) = 95.
        assert!(counts.iter().all(|count| count.abs_diff(10_000) < 475), "{counts:?}");
        assert_eq!(random.below(0), 0);
        assert_ne!(Random::from_system().next(), Random::from_system().next());
    }
}
