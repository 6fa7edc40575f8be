//! `LEAST_REQUEST`: of a few random hosts, the one with the fewest active requests (power of two choices).
//!
//! As Envoy: with equal weights the candidates are uniform and the counts decide. With different weights the candidates
//! come in proportion to their weight and the count in relation to the weight decides, which leads to the same shares
//! as Envoy's schedule of `weight / (active + 1)`.

use super::balance_random;
use super::host_set::HostGroup;
use crate::telemetry::Random;

/// Position of a host in the group.
pub fn pick(group: &HostGroup, random: &Random, choices: u32) -> usize {
    let mut best = balance_random::pick(group, random);
    if group.hosts.len() == 1 {
        return best;
    }
    for _ in 1..choices.max(2) {
        let other = balance_random::pick(group, random);
        if let (Some(a), Some(b)) = (group.hosts.get(best), group.hosts.get(other)) {
            let load = |active: u32, weight: u32| u64::from(active) * u64::from(weight);
            if load(b.runtime.active_requests(), a.weight()) < load(a.runtime.active_requests(), b.weight()) {
                best = other;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::host::ActiveRequest;
    use crate::upstream::testing::hosts;

    #[test]
    fn a_busy_host_gets_less() {
        let (hosts, random) = (hosts(&[1, 1]), Random::seeded(1));
        let _busy: Vec<_> = (0..5).map(|_| ActiveRequest::begin(&hosts.groups[0].hosts[0].runtime)).collect();
        let busy = (0..10_000).filter(|_| pick(&hosts.groups[0], &random, 2) == 0).count();
        // It wins only when both choices fall on it: a quarter, within five standard deviations (43 each).
        assert!(busy.abs_diff(2_500) < 217, "{busy}");
    }

    #[test]
    fn running_requests_settle_at_the_shares_of_the_weights() {
        let (hosts, random) = (hosts(&[1, 2]), Random::seeded(3));
        let active: Vec<_> = (0..3_000)
            .map(|_| ActiveRequest::begin(&hosts.groups[0].hosts[pick(&hosts.groups[0], &random, 2)].runtime))
            .collect();
        let second = hosts.groups[0].hosts[1].runtime.active_requests();
        assert!(second.abs_diff(2_000) < 20, "{second}");
        drop(active);
        assert_eq!(hosts.groups[0].hosts[1].runtime.active_requests(), 0);
    }
}
