//! Telemetry: which resources hold for a workload, and what they come to together.
//!
//! The mesh (root namespace), the namespace, the workload: what is named below replaces providers of the level above as
//! a set, and changes single metrics deeply. Of several resources of one level without selector the oldest counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::Resource;
use api::kinds::mesh_config::{MeshConfig, Provider};
use api::kinds::telemetry::{
    AccessLoggingFilter, IstioMetric, MetricSelector, Metrics, ProviderRef, TagOverride, Telemetry,
    WorkloadMode,
};

use super::{Labels, age};
use crate::world::World;

/// The Telemetries that hold for a workload, the most general first. One with `targetRefs` never holds for a sidecar.
pub fn telemetries<'w>(
    world: &'w World,
    namespace: &str,
    labels: &Labels,
) -> Vec<&'w Arc<Resource<Telemetry>>> {
    let root = world.mesh().root_namespace();
    let mut found: Vec<_> = wide(world, root).into_iter().collect();
    if namespace != root {
        found.extend(wide(world, namespace));
    }
    let all = world.namespace(namespace).into_iter().flat_map(|objects| objects.telemetries.values());
    let mut own: Vec<_> = all
        .filter(|it| !is_attached(&it.spec))
        .filter(|it| {
            let selector = it.spec.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
            selector.is_some_and(|selector| selector.selects(labels))
        })
        .collect();
    own.sort_by(|a, b| age(&a.meta).cmp(&age(&b.meta)));
    found.extend(own);
    found
}

/// The Telemetry without selector that counts in a namespace.
pub fn wide<'w>(world: &'w World, namespace: &str) -> Option<&'w Arc<Resource<Telemetry>>> {
    let all = world.namespace(namespace).into_iter().flat_map(|objects| objects.telemetries.values());
    all.filter(|it| !is_attached(&it.spec) && super::selects_all(it.spec.selector.as_ref()))
        .min_by(|a, b| age(&a.meta).cmp(&age(&b.meta)))
}

/// Whether it is attached to gateways or services by name.
pub fn is_attached(spec: &Telemetry) -> bool {
    spec.target_ref.is_some() || !spec.target_refs.is_empty()
}

/// What all blocks come to for one provider and one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedMetrics<'w> {
    /// Whether nothing is produced on this side.
    pub disabled: bool,
    /// Changes by name of the metric (Istio's, or a custom one).
    pub overrides: BTreeMap<String, MergedOverride<'w>>,
    /// How often metrics of open connections are counted up.
    pub reporting_interval: Option<api::Duration>,
}

/// What all overrides come to for one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MergedOverride<'w> {
    /// Whether it is not produced.
    pub disabled: bool,
    /// Labels that are set or removed.
    pub tags: BTreeMap<&'w str, &'w TagOverride>,
}

/// Every one of Istio's metrics with its name in Prometheus, without the prefix `istio_`.
pub const METRICS: [(IstioMetric, &str); 10] = [
    (IstioMetric::RequestCount, "requests_total"),
    (IstioMetric::RequestDuration, "request_duration_milliseconds"),
    (IstioMetric::RequestSize, "request_bytes"),
    (IstioMetric::ResponseSize, "response_bytes"),
    (IstioMetric::TcpOpenedConnections, "tcp_connections_opened_total"),
    (IstioMetric::TcpClosedConnections, "tcp_connections_closed_total"),
    (IstioMetric::TcpSentBytes, "tcp_sent_bytes_total"),
    (IstioMetric::TcpReceivedBytes, "tcp_received_bytes_total"),
    (IstioMetric::GrpcRequestMessages, "request_messages_total"),
    (IstioMetric::GrpcResponseMessages, "response_messages_total"),
];

/// The metrics of each provider on one side; `side` is `Client` or `Server`.
pub fn metrics<'w>(
    mesh: &'w MeshConfig,
    telemetries: &[&'w Arc<Resource<Telemetry>>],
    side: WorkloadMode,
) -> BTreeMap<&'w str, MergedMetrics<'w>> {
    let blocks: Vec<&'w Metrics> = telemetries.iter().flat_map(|it| &it.spec.metrics).collect();
    let defaults = mesh.default_metrics_providers();
    let last = blocks.iter().map(|block| names(&block.providers)).rfind(|names| !names.is_empty());
    let in_force: BTreeSet<&str> = last.unwrap_or_else(|| defaults.clone()).into_iter().collect();
    let mut merged: BTreeMap<&str, MergedMetrics<'_>> = BTreeMap::new();
    if blocks.is_empty() {
        merged.extend(defaults.iter().map(|name| (*name, MergedMetrics::default())));
    }
    let mut inherited = defaults;
    for block in blocks {
        let own = names(&block.providers);
        if !own.is_empty() {
            inherited = own;
        }
        for provider in inherited.iter().filter(|name| in_force.contains(*name)) {
            apply(block, side, merged.entry(provider).or_default());
        }
    }
    merged
}

/// One block on top of what was there before.
fn apply<'w>(block: &'w Metrics, side: WorkloadMode, merged: &mut MergedMetrics<'w>) {
    merged.reporting_interval = block.reporting_interval.or(merged.reporting_interval);
    for one in &block.overrides {
        let selector = one.selector.as_ref();
        if !selector.map(|it| it.mode).unwrap_or_default().includes(side) {
            continue;
        }
        if is_all(selector) && one.disabled == Some(true) {
            merged.disabled = true;
            continue;
        }
        merged.disabled = false;
        for name in selected(selector) {
            let change = merged.overrides.entry(name).or_default();
            change.disabled = one.disabled.unwrap_or(change.disabled);
            change.tags.extend(one.tag_overrides.iter().map(|(name, tag)| (name.as_str(), tag)));
        }
    }
}

fn is_all(selector: Option<&MetricSelector>) -> bool {
    selector.is_none_or(|it| {
        it.custom_metric.is_none() && it.metric.unwrap_or_default() == IstioMetric::AllMetrics
    })
}

fn selected(selector: Option<&MetricSelector>) -> Vec<String> {
    if let Some(custom) = selector.and_then(|it| it.custom_metric.as_ref()) {
        return vec![custom.clone()];
    }
    let wanted = selector.and_then(|it| it.metric).unwrap_or_default();
    let all = METRICS.iter().filter(|(metric, _)| wanted == IstioMetric::AllMetrics || wanted == *metric);
    all.map(|(_, name)| (*name).to_owned()).collect()
}

/// Whether a provider is Prometheus.
pub fn is_prometheus(mesh: &MeshConfig, name: &str) -> bool {
    match mesh.provider(name) {
        Some(Provider::Prometheus) => true,
        Some(Provider::Defined(provider)) => provider.prometheus.is_some(),
        Some(Provider::StandardOutput) | None => false,
    }
}

/// What is logged by one provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MergedLogging<'w> {
    /// Whether nothing is.
    pub disabled: bool,
    /// Which requests and connections are.
    pub filter: Option<&'w AccessLoggingFilter>,
}

/// The access logs of each provider on one side; `side` is `Client` or `Server`. `None` when neither a Telemetry nor
/// the mesh's default providers speak of access logs: then the older fields of MeshConfig decide.
pub fn access_logging<'w>(
    mesh: &'w MeshConfig,
    telemetries: &[&'w Arc<Resource<Telemetry>>],
    side: WorkloadMode,
) -> Option<BTreeMap<&'w str, MergedLogging<'w>>> {
    let defaults = mesh.default_access_logging_providers();
    let speaking: Vec<_> =
        telemetries.iter().map(|it| &it.spec.access_logging).filter(|it| !it.is_empty()).collect();
    if speaking.is_empty() {
        let none = defaults.is_empty();
        return (!none).then(|| defaults.into_iter().map(|name| (name, MergedLogging::default())).collect());
    }
    let mut in_force: BTreeSet<&str> = defaults.iter().copied().collect();
    let mut filters: BTreeMap<&str, Option<&AccessLoggingFilter>> = BTreeMap::new();
    for blocks in &speaking {
        let mut named = BTreeSet::new();
        for block in blocks.iter().filter(|it| it.selector.unwrap_or_default().mode.includes(side)) {
            for name in names(&block.providers) {
                named.insert(name);
                filters.insert(name, block.filter.as_ref());
            }
        }
        if !named.is_empty() {
            in_force = named;
        }
    }
    let mut merged = BTreeMap::new();
    let mut inherited = defaults;
    for block in speaking.into_iter().flatten() {
        let own = names(&block.providers);
        if !own.is_empty() {
            inherited = own;
        }
        if !block.selector.unwrap_or_default().mode.includes(side) {
            continue;
        }
        for provider in inherited.iter().filter(|name| in_force.contains(*name)) {
            let disabled = block.disabled == Some(true);
            // A block without providers filters those that it inherits.
            let filter = match block.filter.as_ref().filter(|_| block.providers.is_empty()) {
                Some(own) => Some(own),
                None => filters.get(provider).copied().flatten(),
            };
            let filter = filter.filter(|_| !disabled);
            merged.insert(*provider, MergedLogging { disabled, filter });
        }
    }
    Some(merged)
}

fn names(providers: &[ProviderRef]) -> Vec<&str> {
    providers.iter().map(|it| it.name.as_str()).collect()
}

#[cfg(test)]
mod tests;
