//! One worker's side of the clusters: pools, the balancers' places, and the counters.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::balance::Balancer;
use super::cluster::{Cluster, ClusterIdentity};
use super::host::Host;
use super::pool::{HostPool, PoolRules};
use crate::telemetry::cells::{Counter, Gauge};
use crate::telemetry::{Registry, families};

/// How often pools are swept.
const SWEEP: Duration = Duration::from_secs(1);

/// A worker's counters of one cluster.
#[derive(Debug)]
pub struct ClusterCells {
    /// Requests sent.
    pub requests: Arc<Counter>,
    /// Requests that the route's timeout ended.
    pub timeouts: Arc<Counter>,
    /// Requests that were tried again.
    pub retries: Arc<Counter>,
    /// Connections opened.
    pub connections: Arc<Counter>,
    /// Connections that could not be made.
    pub connect_failures: Arc<Counter>,
    /// Connections open now.
    pub connections_active: Arc<Gauge>,
}

/// A worker's state of one cluster.
#[derive(Debug)]
pub struct ClusterWorker {
    of: Weak<ClusterIdentity>,
    /// Its place in the turns.
    pub balancer: Balancer,
    /// Its counters.
    pub cells: ClusterCells,
}

/// All of a worker's clusters and hosts.
pub struct UpstreamWorker {
    registry: Arc<Registry>,
    clusters: RefCell<HashMap<u64, Rc<ClusterWorker>>>,
    pools: RefCell<HashMap<u64, Rc<HostPool>>>,
}

impl UpstreamWorker {
    /// A worker without connections.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, clusters: RefCell::default(), pools: RefCell::default() }
    }

    /// Where label values are interned.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The worker's state of a cluster, made at its first request.
    pub fn cluster(&self, cluster: &Cluster) -> Rc<ClusterWorker> {
        let mut clusters = self.clusters.borrow_mut();
        let identity = &cluster.identity;
        clusters
            .entry(identity.id)
            .or_insert_with(|| {
                Rc::new(ClusterWorker {
                    of: Arc::downgrade(identity),
                    balancer: Balancer::default(),
                    cells: cells(&self.registry, &identity.name),
                })
            })
            .clone()
    }

    /// The pool of a host, made at its first request.
    pub fn pool(&self, host: &Host, rules: PoolRules) -> Rc<HostPool> {
        let mut pools = self.pools.borrow_mut();
        pools.entry(host.runtime.id).or_insert_with(|| HostPool::new(&host.runtime, rules)).clone()
    }

    /// Closes connections that are too old or closed by their host, and forgets what left the configuration.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.pools.borrow_mut().retain(|_, pool| pool.sweep(now));
        self.clusters.borrow_mut().retain(|_, cluster| cluster.of.strong_count() > 0);
    }

    /// Sweeps for ever: one task per worker.
    pub async fn maintain(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.sweep();
        }
    }

    /// Connections that wait for a request, over all hosts.
    pub fn idle_connections(&self) -> usize {
        self.pools.borrow().values().map(|pool| pool.idle_count()).sum()
    }
}

fn cells(registry: &Registry, name: &str) -> ClusterCells {
    let labels = || vec![("envoy_cluster_name", name.to_owned())];
    ClusterCells {
        requests: registry.counter(&families::CLUSTER_REQUESTS, labels()),
        timeouts: registry.counter(&families::CLUSTER_REQUEST_TIMEOUTS, labels()),
        retries: registry.counter(&families::CLUSTER_REQUEST_RETRIES, labels()),
        connections: registry.counter(&families::CLUSTER_CONNECTIONS, labels()),
        connect_failures: registry.counter(&families::CLUSTER_CONNECT_FAILURES, labels()),
        connections_active: registry.gauge(&families::CLUSTER_CONNECTIONS_ACTIVE, labels()),
    }
}
