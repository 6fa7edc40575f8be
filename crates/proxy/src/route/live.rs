//! Routes and clusters as requests see them: one pointer, so that a route and the clusters it names always come from
//! the same push.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use config::model::RouteConfiguration;

use crate::state::Snapshot;
use crate::upstream::outlier_events::OutlierEvents;
use crate::upstream::{Cluster, ClusterProblem, ClusterSet, Environment};

/// One version of routes and clusters.
#[derive(Debug, Default)]
pub struct Routing {
    /// Route configurations by RDS name.
    pub routes: BTreeMap<Arc<str>, Arc<RouteConfiguration>>,
    /// Clusters.
    pub clusters: ClusterSet,
    /// Addresses of the workloads of the mesh that this proxy knows.
    mesh_addresses: Arc<HashSet<IpAddr>>,
}

impl Routing {
    /// Whether a workload of the mesh is known to have that address.
    pub fn is_mesh_address(&self, address: &IpAddr) -> bool {
        self.mesh_addresses.contains(address)
    }
}

/// The current [`Routing`]. A request loads it once.
#[derive(Debug)]
pub struct LiveRouting {
    current: ArcSwap<Routing>,
    environment: Environment,
}

impl LiveRouting {
    /// No route and no cluster.
    pub fn new(environment: Environment) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::default(), environment })
    }

    /// The current version: one atomic load.
    pub fn load(&self) -> Guard<Arc<Routing>> {
        self.current.load()
    }

    /// Takes routes and clusters of a snapshot into use. Call it before listeners that need them start to accept. What
    /// is equal keeps its runtime state; what cannot be built is left out and returned. Called by one thread only.
    pub fn apply(&self, snapshot: &Snapshot) -> Vec<ClusterProblem> {
        let previous = self.current.load_full();
        let (clusters, problems) = ClusterSet::build(
            &previous.clusters,
            snapshot.clusters.values(),
            &snapshot.assignments,
            &self.environment,
        );
        let mesh_addresses = if clusters.same_clusters(&previous.clusters) {
            previous.mesh_addresses.clone()
        } else {
            Arc::new(clusters.iter().flat_map(|cluster| cluster.mesh_addresses()).collect())
        };
        let routes = snapshot.routes.clone();
        self.current.store(Arc::new(Routing { routes, clusters, mesh_addresses }));
        problems
    }

    /// What became of outliers.
    pub fn outlier_events(&self) -> &Arc<OutlierEvents> {
        &self.environment.events
    }

    /// All clusters now, for the resolver and the admin pages.
    pub fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.current.load().clusters.iter().cloned().collect()
    }
}
