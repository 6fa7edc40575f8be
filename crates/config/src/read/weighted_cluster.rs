//! `envoy.config.route.v3.WeightedCluster`.

use super::filter_config::read_filter_configs;
use super::header_operation::read_header_operations;
use super::name::required_name;
use super::route_action::read_host;
use crate::context::{Context, Result, number, refuse, report};
use crate::model::{WeightedCluster, WeightedClusters};
use protos::envoy::envoy::config::route::v3 as pb;

/// Most clusters of one route.
const LIMIT: usize = 1000;

/// Reads clusters by weight.
pub fn read_weighted_clusters(cx: &mut Context, message: &pb::WeightedCluster) -> Result<WeightedClusters> {
    use pb::weighted_cluster::RandomValueSpecifier;
    let pb::WeightedCluster { clusters, total_weight, runtime_key_prefix, random_value_specifier } = message;
    report!(cx, "there is no runtime: the weights stand"; runtime_key_prefix);
    match random_value_specifier {
        None => {}
        Some(RandomValueSpecifier::UseHashPolicy(hash)) if !hash.value => {}
        Some(RandomValueSpecifier::UseHashPolicy(_)) => {
            return Err(cx.refused_field("use_hash_policy", "hash policies do not act yet"));
        }
        Some(RandomValueSpecifier::HeaderName(_)) => {
            return Err(cx.refused_field("header_name", "a random value from a header is not supported"));
        }
    }
    if clusters.is_empty() {
        return Err(cx.refused_field("clusters", "is empty"));
    }
    let clusters = cx.list("clusters", clusters, LIMIT, read_cluster_weight)?;
    let total: u64 = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
    if total == 0 {
        return Err(cx.refused_field("clusters", "the weights sum to 0"));
    }
    if total > u64::from(u32::MAX) {
        return Err(
            cx.refused_field("clusters", format!("the weights sum to {total}, the limit is {}", u32::MAX))
        );
    }
    if let Some(said) = number(total_weight).filter(|said| u64::from(*said) != total) {
        return Err(cx.refused_field("total_weight", format!("says {said}, but the weights sum to {total}")));
    }
    Ok(WeightedClusters { clusters, total })
}

fn read_cluster_weight(
    cx: &mut Context,
    message: &pb::weighted_cluster::ClusterWeight,
) -> Result<WeightedCluster> {
    use pb::weighted_cluster::cluster_weight::HostRewriteSpecifier;
    let pb::weighted_cluster::ClusterWeight {
        name,
        cluster_header,
        weight,
        metadata_match,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        typed_per_filter_config,
        host_rewrite_specifier,
    } = message;
    refuse!(cx, "a cluster named by a header cannot have a weight: write its name"; cluster_header);
    refuse!(cx, "subsets by metadata are not supported: use clusters"; metadata_match);
    read_filter_configs(cx, typed_per_filter_config)?;
    let host_rewrite = match host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) => {
            Some(read_host(cx, "host_rewrite_literal", host)?)
        }
        None => None,
    };
    Ok(WeightedCluster {
        name: required_name(cx, "name", name)?,
        weight: number(weight).unwrap_or(0),
        request_headers: read_header_operations(
            cx,
            "request",
            request_headers_to_add,
            request_headers_to_remove,
        )?,
        response_headers: read_header_operations(
            cx,
            "response",
            response_headers_to_add,
            response_headers_to_remove,
        )?,
        host_rewrite,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::UInt32Value;

    fn read(weights: &[u32], total: Option<u32>) -> Result<crate::Read<WeightedClusters>> {
        let weight = |value: &u32| pb::weighted_cluster::ClusterWeight {
            name: format!("cluster-{value}"),
            weight: Some(UInt32Value { value: *value }),
            ..Default::default()
        };
        let message = pb::WeightedCluster {
            clusters: weights.iter().map(weight).collect(),
            total_weight: total.map(|value| UInt32Value { value }),
            runtime_key_prefix: "x".into(),
            random_value_specifier: None,
        };
        Context::read(|cx| read_weighted_clusters(cx, &message))
    }

    #[test]
    fn sums_weights_and_reports_the_runtime() {
        let read = read(&[95, 5], Some(100)).unwrap();
        assert_eq!((read.value.total, read.value.clusters[1].weight), (100, 5));
        assert_eq!(read.notes[0].path, "runtime_key_prefix");
    }

    #[test]
    fn refuses_sums_that_are_wrong() {
        assert_eq!(read(&[], None).unwrap_err().path, "clusters");
        assert_eq!(read(&[0, 0], None).unwrap_err().reason, "the weights sum to 0");
        assert_eq!(read(&[95, 5], Some(90)).unwrap_err().path, "total_weight");
        assert!(read(&[u32::MAX, 1], None).is_err());
    }
}
