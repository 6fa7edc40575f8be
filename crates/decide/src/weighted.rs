//! Which of several clusters gets a request.

use config::model::WeightedClusters;

/// Position of the picked cluster for an evenly distributed random value; `None` when all weights are 0.
pub fn pick_weighted(clusters: &WeightedClusters, random: u64) -> Option<usize> {
    let mut point = random.checked_rem(clusters.total)?;
    for (position, cluster) in clusters.clusters.iter().enumerate() {
        match point.checked_sub(u64::from(cluster.weight)) {
            None => return Some(position),
            Some(rest) => point = rest,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::{HeaderOperations, WeightedCluster};

    fn clusters(weights: &[u32]) -> WeightedClusters {
        let cluster = |weight: &u32| WeightedCluster {
            name: "a".into(),
            weight: *weight,
            request_headers: HeaderOperations::default(),
            response_headers: HeaderOperations::default(),
            host_rewrite: None,
        };
        let total = weights.iter().map(|weight| u64::from(*weight)).sum();
        WeightedClusters { clusters: weights.iter().map(cluster).collect(), total }
    }

    #[test]
    fn shares_are_exact() {
        let clusters = clusters(&[95, 0, 5]);
        let mut counts = [0; 3];
        (0..1000).for_each(|random| counts[pick_weighted(&clusters, random).unwrap()] += 1);
        assert_eq!(counts, [950, 0, 50]);
        assert!(pick_weighted(&clusters, u64::MAX).is_some());
    }

    #[test]
    fn nothing_is_picked_from_nothing() {
        assert_eq!(pick_weighted(&clusters(&[]), 7), None);
        assert_eq!(pick_weighted(&clusters(&[0, 0]), 7), None);
    }
}
