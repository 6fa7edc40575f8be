//! HTTP filters.

use super::RbacFilter;
use super::expression::Expression;
use std::sync::Arc;
use std::time::Duration;

/// One HTTP filter of a connection manager.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpFilter {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What it does.
    pub kind: HttpFilterKind,
}

/// The filters that this proxy has.
#[derive(Debug, Clone, PartialEq)]
pub enum HttpFilterKind {
    /// `envoy.filters.http.rbac`.
    Rbac(Arc<RbacFilter>),
    /// `istio.metadata_exchange`.
    PeerMetadata(PeerMetadataFilter),
    /// `istio.stats`.
    Stats(StatsFilter),
    /// `envoy.filters.http.router`, always the last one.
    Router(RouterFilter),
}

/// Tells peers who we are and learns who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PeerMetadataFilter {
    /// Reads `x-envoy-peer-metadata` of requests.
    pub downstream_discovery: bool,
    /// Reads it of responses.
    pub upstream_discovery: bool,
    /// Writes it into responses.
    pub downstream_propagation: bool,
    /// Writes it into requests.
    pub upstream_propagation: bool,
    /// Writes nothing into requests to clusters outside the mesh.
    pub skip_external_clusters: bool,
}

/// Counts `istio_requests_total` and its companions.
#[derive(Debug, Clone, PartialEq)]
pub struct StatsFilter {
    /// `destination_service` is never taken from the Host header.
    pub disable_host_header_fallback: bool,
    /// How often an open TCP connection reports its bytes.
    pub tcp_reporting_duration: Duration,
    /// Changes, each of one metric or of all, in order: a later one wins.
    pub metrics: Vec<(Option<Arc<str>>, MetricChange)>,
}

/// What is changed in a metric.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetricChange {
    /// Whether it is not produced.
    pub drop: bool,
    /// Labels that are left out.
    pub tags_to_remove: Vec<Arc<str>>,
    /// Labels that are set, each with its value.
    pub dimensions: Vec<(Arc<str>, Dimension)>,
}

/// Where the value of a label comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dimension {
    /// A fixed text.
    Literal(Arc<str>),
    /// An expression's value; `unknown` where it has none.
    Expression(Arc<Expression>),
}

impl MetricChange {
    /// Whether the metric has the labels that it has without the change.
    pub fn keeps_labels(&self) -> bool {
        self.tags_to_remove.is_empty() && self.dimensions.is_empty()
    }
}

impl StatsFilter {
    /// All changes of a metric together; `None` when nothing changes it. The name is given with `istio_`.
    pub fn change(&self, name: &str) -> Option<MetricChange> {
        let name = name.strip_prefix("istio_").unwrap_or(name);
        let concerns = |wanted: &Option<Arc<str>>| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let all: Vec<_> = self.metrics.iter().filter(|(wanted, _)| concerns(wanted)).collect();
        let mut merged = MetricChange::default();
        for (_, change) in &all {
            merged.drop = change.drop;
            for (label, value) in &change.dimensions {
                merged.tags_to_remove.retain(|removed| removed != label);
                match merged.dimensions.iter_mut().find(|(known, _)| known == label) {
                    Some((_, old)) => *old = value.clone(),
                    None => merged.dimensions.push((label.clone(), value.clone())),
                }
            }
            for removed in &change.tags_to_remove {
                merged.dimensions.retain(|(known, _)| known != removed);
                if !merged.tags_to_remove.contains(removed) {
                    merged.tags_to_remove.push(removed.clone());
                }
            }
        }
        (!all.is_empty()).then_some(merged)
    }
}

/// Sends the request upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouterFilter {
    /// No `x-envoy-*` headers are added to requests and responses.
    pub suppress_envoy_headers: bool,
}
