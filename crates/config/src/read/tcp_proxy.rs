//! `envoy.filters.network.tcp_proxy`.

use super::access_log::read_access_logs;
use super::name::{name, required_name};
use crate::context::{Context, Result, number, refuse, report};
use crate::model::{TcpCluster, TcpProxy};
use pb::tcp_proxy::weighted_cluster::ClusterWeight;
use pb::tcp_proxy::{ClusterSpecifier, WeightedCluster};
use protos::envoy::envoy::extensions::filters::network::tcp_proxy::v3 as pb;
use std::time::Duration;

/// Envoy's default of `idle_timeout`.
const IDLE: Duration = Duration::from_secs(3600);

/// Reads the forwarding of bytes.
pub fn read_tcp_proxy(cx: &mut Context, message: &pb::TcpProxy) -> Result<TcpProxy> {
    let pb::TcpProxy {
        stat_prefix,
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log,
        max_connect_attempts,
        backoff_options,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        access_log_flush_interval,
        flush_access_log_on_connected,
        access_log_options,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier,
    } = message;
    refuse!(cx, "subsets by metadata are not supported: use clusters"; metadata_match);
    refuse!(cx, "tunnels over HTTP are not supported"; tunneling_config);
    refuse!(cx, "clusters on demand are not supported"; on_demand);
    refuse!(cx, "PROXY protocol is not supported"; proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy);
    refuse!(cx, "the upstream is dialled at once"; upstream_connect_mode, max_early_data_bytes);
    report!(cx, "idle_timeout stands for both sides"; downstream_idle_timeout, upstream_idle_timeout);
    report!(cx, "attempts follow each other at once"; backoff_options);
    report!(cx, "no policy of a cluster uses a hash yet"; hash_policy);
    report!(cx, "a log line is written when its connection ends";
        access_log_flush_interval, flush_access_log_on_connected, access_log_options);
    report!(cx, "a draining proxy lets connections end by themselves"; check_drain_close);
    let cluster = match cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => TcpCluster::One(required_name(cx, "cluster", cluster)?),
        Some(ClusterSpecifier::WeightedClusters(weighted)) => {
            cx.field("weighted_clusters", |cx| read_weighted(cx, weighted))?
        }
        None => {
            return Err(cx.refused_field("cluster_specifier", "has neither cluster nor weighted_clusters"));
        }
    };
    let attempts = number(max_connect_attempts).unwrap_or(1);
    if attempts == 0 || attempts > 100 {
        return Err(cx.refused_field("max_connect_attempts", format!("{attempts} is not between 1 and 100")));
    }
    let jitter = max_downstream_connection_duration_jitter_percentage.as_ref();
    let jitter = jitter.map_or(0.0, |percent| percent.value);
    if !(0.0..=100.0).contains(&jitter) {
        let field = "max_downstream_connection_duration_jitter_percentage";
        return Err(cx.refused_field(field, format!("{jitter} is not between 0 and 100")));
    }
    let duration =
        cx.limit("max_downstream_connection_duration", max_downstream_connection_duration, None)?;
    Ok(TcpProxy {
        stat_prefix: name(cx, "stat_prefix", stat_prefix)?,
        cluster,
        idle_timeout: cx.limit("idle_timeout", idle_timeout, Some(IDLE))?,
        max_connection_duration: duration,
        duration_jitter_percent: jitter,
        max_connect_attempts: attempts,
        access_log: read_access_logs(cx, access_log)?,
    })
}

fn read_weighted(cx: &mut Context, message: &WeightedCluster) -> Result<TcpCluster> {
    let WeightedCluster { clusters } = message;
    let clusters = cx.list("clusters", clusters, 1000, |cx, message| {
        let ClusterWeight { name, weight, metadata_match } = message;
        refuse!(cx, "subsets by metadata are not supported: use clusters"; metadata_match);
        Ok((required_name(cx, "name", name)?, *weight))
    })?;
    let total = clusters.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if total == 0 {
        return Err(cx.refused_field("clusters", "the weights sum to 0"));
    }
    Ok(TcpCluster::Weighted { clusters, total })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A proxy to one cluster.
    pub fn proxy(cluster: &str) -> pb::TcpProxy {
        let cluster_specifier = Some(ClusterSpecifier::Cluster(cluster.into()));
        pb::TcpProxy { stat_prefix: "tcp".into(), cluster_specifier, ..Default::default() }
    }

    #[test]
    fn accepts_refuses_and_reports() {
        let read = |message: &pb::TcpProxy| Context::read(|cx| read_tcp_proxy(cx, message));
        let mut message = proxy("a");
        assert_eq!(read(&message).unwrap().value.cluster, TcpCluster::One("a".into()));
        message.hash_policy = vec![Default::default()];
        assert_eq!(read(&message).unwrap().notes[0].path, "hash_policy");
        message.tunneling_config = Some(Default::default());
        assert_eq!(read(&message).unwrap_err().path, "tunneling_config");
        let clusters = vec![ClusterWeight { name: "a".into(), weight: 0, metadata_match: None }];
        let weighted = ClusterSpecifier::WeightedClusters(WeightedCluster { clusters });
        let message = pb::TcpProxy { cluster_specifier: Some(weighted), ..Default::default() };
        assert_eq!(read(&message).unwrap_err().path, "weighted_clusters.clusters");
    }
}
