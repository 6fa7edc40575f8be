//! A sample that a seed repeats.

/// Picks `count` items, in their order.
pub fn pick<T>(items: Vec<T>, count: usize, seed: u64) -> Vec<T> {
    // xorshift64*; its state must not be zero.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut keyed: Vec<(u64, usize, T)> =
        items.into_iter().enumerate().map(|(index, item)| (next(), index, item)).collect();
    keyed.sort_by_key(|(key, ..)| *key);
    keyed.truncate(count);
    keyed.sort_by_key(|(_, index, _)| *index);
    keyed.into_iter().map(|(_, _, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_and_another_differs() {
        let pick = |seed| pick((0..1000).collect(), 10, seed);
        assert_eq!(pick(1), pick(1));
        assert_ne!(pick(1), pick(2));
        assert!(pick(3).is_sorted() && pick(3).len() == 10);
    }
}
