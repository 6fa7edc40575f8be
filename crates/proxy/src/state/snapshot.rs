//! The configuration that is in use: immutable, whole, behind one pointer.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use config::model::{Cluster, Listener, LoadAssignment, RouteConfiguration};

/// By resource name.
pub type Named<T> = BTreeMap<Arc<str>, Arc<T>>;

/// One version of the configuration. What did not change is shared with the version before (`Arc::ptr_eq`).
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Grows by one with every swap.
    pub version: u64,
    /// Listeners whose routes and clusters are there.
    pub listeners: Named<Listener>,
    /// Route configurations whose clusters are there, by RDS name.
    pub routes: Named<RouteConfiguration>,
    /// Clusters whose endpoints are there, or known not to exist.
    pub clusters: Named<Cluster>,
    /// Endpoints by EDS service name.
    pub assignments: Named<LoadAssignment>,
}

/// The current [`Snapshot`]. A request loads it once.
#[derive(Debug, Default)]
pub struct Live {
    current: ArcSwap<Snapshot>,
}

impl Live {
    /// Nothing configured.
    pub fn new() -> Arc<Live> {
        Arc::new(Live::default())
    }

    /// The current version: one atomic load.
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// The current version, to be kept.
    pub fn load_full(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Makes a snapshot the current one; requests that run go on with the one they loaded.
    pub fn store(&self, snapshot: Arc<Snapshot>) {
        self.current.store(snapshot);
    }
}
