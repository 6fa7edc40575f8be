//! `istio.stats`: the metrics that Telemetry asks of a proxy, on one side of calls.

use api::kinds::telemetry::{TagOperation, WorkloadMode};
use protos::istio::{MetricConfig, StatsConfig};

use crate::merge::telemetry::{self, MergedMetrics};
use crate::scope::Scope;
use crate::values;

/// The filter's configuration; `None` where no metrics are produced. Only `tulle-proxy` has that filter built in.
pub fn stats(scope: &Scope<'_>, side: WorkloadMode) -> Option<StatsConfig> {
    if !scope.is_tulle() {
        return None;
    }
    let mesh = scope.world.mesh();
    let in_force = telemetry::telemetries(scope.world, scope.namespace(), &scope.labels);
    let merged = telemetry::metrics(mesh, &in_force, side);
    // Of several providers of Prometheus' kind the first by name counts: there is one page of metrics.
    let prometheus = merged.into_iter().find(|(name, _)| telemetry::is_prometheus(mesh, name));
    let (_, merged) = prometheus.filter(|(_, merged)| !merged.disabled)?;
    Some(config(&merged))
}

fn config(merged: &MergedMetrics<'_>) -> StatsConfig {
    let metrics = merged.overrides.iter().map(|(name, change)| {
        let mut metric = MetricConfig { name: name.clone(), drop: change.disabled, ..Default::default() };
        for (label, tag) in &change.tags {
            match tag.operation {
                TagOperation::Remove => metric.tags_to_remove.push((*label).to_owned()),
                TagOperation::Upsert => {
                    metric.dimensions.insert((*label).to_owned(), tag.value.clone());
                }
            }
        }
        metric
    });
    StatsConfig {
        tcp_reporting_duration: merged.reporting_interval.map(values::duration),
        metrics: metrics.collect(),
        ..Default::default()
    }
}
