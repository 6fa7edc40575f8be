//! A map from the numbers that hosts and clusters get when they come up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Keys are numbers that this process counts up: nobody outside chooses them, so spreading them is enough.
pub type ById<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// Multiplies by 2^64 divided by the golden ratio (Knuth, volume 3, section 6.4).
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // The map looks at the highest bits as well as at the lowest.
        let spread = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn numbers_in_a_row_lie_apart() {
        let build = BuildHasherDefault::<IdHasher>::default();
        let hashes: Vec<u64> = (0..1_000u64).map(|id| build.hash_one(id)).collect();
        let low: HashSet<u64> = hashes.iter().map(|hash| hash & 1023).collect();
        let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(low.len() > 500 && high.len() == 128, "{} {}", low.len(), high.len());
    }
}
