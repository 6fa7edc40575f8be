//! `RANDOM`: any usable host, in proportion to its weight.

use super::host::HostSet;
use crate::telemetry::Random;

/// Position of a host among the usable ones, of which there is at least one.
pub fn pick(hosts: &HostSet, random: &Random) -> usize {
    match hosts.total_weight() {
        None => random.below(hosts.usable.len() as u64) as usize,
        Some(total) => hosts.by_weight(random.below(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::hosts;

    #[test]
    fn follows_the_weights() {
        let (hosts, random) = (hosts(&[1, 3]), Random::seeded(1));
        let second = (0..20_000).filter(|_| pick(&hosts, &random) == 1).count();
        // Five standard deviations of a binomial distribution: sqrt(20,000 * 0.75 * 0.25) = 61.
        assert!(second.abs_diff(15_000) < 306, "{second}");
    }
}
