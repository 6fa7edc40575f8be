//! Endpoints of a cluster.

use super::Address;
use std::collections::BTreeMap;
use std::sync::Arc;

/// `ClusterLoadAssignment`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadAssignment {
    /// Resource name: the cluster's, or its EDS service name.
    pub cluster_name: Arc<str>,
    /// Endpoints by locality; may be empty, which means that there are none.
    pub localities: Vec<LocalityEndpoints>,
    /// Hosts count as few below that share of healthy ones, in per cent (Envoy's default 140: priority failover).
    pub overprovisioning_factor: u32,
}

impl LoadAssignment {
    /// All endpoints in order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.localities.iter().flat_map(|locality| locality.endpoints.iter())
    }
}

/// Endpoints at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalityEndpoints {
    /// The place.
    pub locality: Locality,
    /// 0 is used first.
    pub priority: u32,
    /// Weight of the place; `None` when not said.
    pub weight: Option<u32>,
    /// Its endpoints.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// Region, zone and sub-zone; empty when not said.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Locality {
    /// Region.
    pub region: Arc<str>,
    /// Zone.
    pub zone: Arc<str>,
    /// Sub-zone.
    pub sub_zone: Arc<str>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Address,
    /// Name for metrics and TLS; empty when not said.
    pub hostname: Arc<str>,
    /// Share among its locality, at least 1.
    pub weight: u32,
    /// What the control plane knows of its health.
    pub health: Health,
    /// `envoy.transport_socket_match` labels, `tlsMode: istio`.
    pub transport_labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Istio's workload text `name;namespace;canonical-name;canonical-revision;cluster`; empty when not said.
    pub workload: Arc<str>,
}

/// `HealthStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// Not said; treated as healthy.
    Unknown,
    /// Healthy.
    Healthy,
    /// Not to be used.
    Unhealthy,
    /// Going away: no new connections.
    Draining,
    /// Health check timed out; not to be used.
    Timeout,
    /// Used when there are too few healthy ones.
    Degraded,
}

impl Health {
    /// Whether new requests may go there.
    pub fn is_usable(self) -> bool {
        matches!(self, Health::Unknown | Health::Healthy | Health::Degraded)
    }
}
