//! `RANDOM`: any usable host, in proportion to its weight.

use super::host_set::HostGroup;
use crate::telemetry::Random;

/// Position of a host in the group.
pub fn pick(group: &HostGroup, random: &Random) -> usize {
    match group.total_weight() {
        None => random.below(group.hosts.len() as u64) as usize,
        Some(total) => group.by_weight(random.below(total)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::hosts;

    #[test]
    fn follows_the_weights() {
        let (hosts, random) = (hosts(&[1, 3]), Random::seeded(1));
        let second = (0..20_000).filter(|_| pick(&hosts.groups[0], &random) == 1).count();
        // Five standard deviations of a binomial distribution: sqrt(20,000 * 0.75 * 0.25) = 61.
        assert!(second.abs_diff(15_000) < 306, "{second}");
    }
}
