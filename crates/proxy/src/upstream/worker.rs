//! One worker's side of the clusters: pools, the balancers' places, and the counters.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use config::model::{CircuitBreakers, Priority};
use tokio::sync::Notify;

use super::balance::Balancer;
use super::bell::Bell;
use super::by_id::ById;
use super::checkout::Slots;
use super::cluster::{Cluster, ClusterIdentity};
use super::host::Host;
use super::limits::{Kind, Reserved, WorkerLimits};
use super::pool::HostPool;
use crate::telemetry::cells::{Counter, Gauge};
use crate::telemetry::{Registry, families};

/// How often pools are swept that have connections.
const SWEEP: Duration = Duration::from_secs(1);
/// The same without connections.
const REST: Duration = Duration::from_secs(60);
/// How soon a connection is watched that has become idle: those that are used all the time pay nothing.
const SOON: Duration = Duration::from_millis(100);

/// A worker's counters of one cluster.
#[derive(Debug)]
pub struct ClusterCells {
    /// Requests sent.
    pub requests: Arc<Counter>,
    /// Requests that the route's timeout ended.
    pub timeouts: Arc<Counter>,
    /// Requests that were tried again.
    pub retries: Arc<Counter>,
    /// Requests that a retry saved.
    pub retry_successes: Arc<Counter>,
    /// Retries that the budget forbade.
    pub retry_overflow: Arc<Counter>,
    /// Requests that used up their retries.
    pub retry_limit_exceeded: Arc<Counter>,
    /// Tries that took too long.
    pub per_try_timeouts: Arc<Counter>,
    /// Tries that were silent for too long.
    pub per_try_idle_timeouts: Arc<Counter>,
    /// Connections opened.
    pub connections: Arc<Counter>,
    /// Connections that could not be made.
    pub connect_failures: Arc<Counter>,
    /// Connections open now.
    pub connections_active: Arc<Gauge>,
    /// Requests beyond `max_pending_requests`.
    pub pending_overflow: Arc<Counter>,
    /// Requests beyond `max_requests`.
    pub active_overflow: Arc<Counter>,
    /// Requests that had to wait for a connection.
    pub pending_total: Arc<Counter>,
    /// Requests that wait now.
    pub pending_active: Arc<Gauge>,
    /// Connections that the circuit breaker held back.
    pub connection_overflow: Arc<Counter>,
    /// Connections opened that speak HTTP/1.
    pub http1_connections: Arc<Counter>,
    /// Connections opened that speak HTTP/2.
    pub http2_connections: Arc<Counter>,
    /// Connections that were not made in time.
    pub connect_timeouts: Arc<Counter>,
    /// Connections closed because nobody used them.
    pub idle_timeouts: Arc<Counter>,
    /// Connections closed at their longest duration.
    pub max_duration: Arc<Counter>,
    /// Connections closed after their last request.
    pub max_requests: Arc<Counter>,
}

/// Calls a worker's upkeep of its pools.
#[derive(Debug, Default)]
pub struct Upkeep {
    bell: Arc<Bell>,
    soon: Cell<bool>,
    changed: Notify,
}

impl Upkeep {
    /// Rung by connections that close and by workers that need places.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// A waker that rings the bell.
    pub fn waker(&self) -> Waker {
        self.bell.waker()
    }

    /// A connection has become idle.
    pub fn look_soon(&self) {
        if !self.soon.replace(true) {
            self.changed.notify_one();
        }
    }
}

/// A worker's state of one cluster.
#[derive(Debug)]
pub struct ClusterWorker {
    of: Weak<ClusterIdentity>,
    /// Its place in the turns.
    pub balancer: Balancer,
    /// Its counters.
    pub cells: ClusterCells,
    /// What holds over all workers.
    pub limits: Rc<WorkerLimits>,
    /// Of its worker.
    pub upkeep: Rc<Upkeep>,
}

impl ClusterWorker {
    /// Reserves one of `kind`; `None`: the limit is reached.
    pub fn reserve(&self, priority: Priority, kind: Kind) -> Option<Reserved> {
        self.limits.reserve(priority, kind)
    }

    /// Places for a connection to a host; `None`: a limit is reached, or others wait for places.
    pub fn places(&self, host: &Host, config: &CircuitBreakers, priority: Priority) -> Option<Slots> {
        let host = match host.runtime.connections(config.max_connections_per_host) {
            Some(slots) => Some(slots.take()?),
            None => None,
        };
        Some(Slots { host, cluster: self.limits.of(priority).connections.take()? })
    }
}

/// All of a worker's clusters and hosts.
pub struct UpstreamWorker {
    registry: Arc<Registry>,
    clusters: RefCell<ById<Rc<ClusterWorker>>>,
    pools: RefCell<ById<Rc<HostPool>>>,
    upkeep: Rc<Upkeep>,
}

impl UpstreamWorker {
    /// A worker without connections.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, clusters: RefCell::default(), pools: RefCell::default(), upkeep: Rc::default() }
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
                let limits = identity.limits(&cluster.config.circuit_breakers);
                limits.join(self.upkeep.bell(), &self.registry);
                Rc::new(ClusterWorker {
                    of: Arc::downgrade(identity),
                    balancer: Balancer::default(),
                    cells: cells(&self.registry, &identity.name),
                    limits: WorkerLimits::new(limits),
                    upkeep: self.upkeep.clone(),
                })
            })
            .clone()
    }

    /// The pool of a host of that cluster, made at its first request.
    pub fn pool(&self, host: &Host, state: &Rc<ClusterWorker>) -> Rc<HostPool> {
        let mut pools = self.pools.borrow_mut();
        pools.entry(host.runtime.id).or_insert_with(|| HostPool::new(&host.runtime, state)).clone()
    }

    /// Closes a connection of that cluster that no request uses; whether there was one.
    pub fn close_unused(&self, of: &Rc<ClusterWorker>) -> bool {
        let pools = self.pools.borrow();
        pools.values().any(|pool| Rc::ptr_eq(&pool.state, of) && pool.close_unused())
    }

    /// Closes connections that are too old or closed by their host, and forgets what left the configuration.
    pub fn sweep(&self) {
        let now = Instant::now();
        let all: Vec<(u64, Rc<HostPool>)> =
            self.pools.borrow().iter().map(|(id, pool)| (*id, pool.clone())).collect();
        for (id, pool) in all {
            if !pool.sweep(now) {
                self.pools.borrow_mut().remove(&id);
            }
        }
        self.clusters.borrow_mut().retain(|_, cluster| cluster.of.strong_count() > 0);
    }

    /// Keeps the pools in order for ever: one task per worker. It sleeps while nothing is pooled.
    pub async fn maintain(&self) {
        loop {
            let pause = if self.idle_connections() > 0 { SWEEP } else { REST };
            tokio::select! {
                () = poll_fn(|cx| self.upkeep.bell.poll_rung(cx)) => {}
                () = self.upkeep.changed.notified() => tokio::time::sleep(SOON).await,
                () = tokio::time::sleep(pause) => {}
            }
            self.upkeep.soon.set(false);
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
        retry_successes: registry.counter(&families::CLUSTER_RETRY_SUCCESSES, labels()),
        retry_overflow: registry.counter(&families::CLUSTER_RETRY_OVERFLOW, labels()),
        retry_limit_exceeded: registry.counter(&families::CLUSTER_RETRY_LIMIT_EXCEEDED, labels()),
        per_try_timeouts: registry.counter(&families::CLUSTER_PER_TRY_TIMEOUTS, labels()),
        per_try_idle_timeouts: registry.counter(&families::CLUSTER_PER_TRY_IDLE_TIMEOUTS, labels()),
        connections: registry.counter(&families::CLUSTER_CONNECTIONS, labels()),
        connect_failures: registry.counter(&families::CLUSTER_CONNECT_FAILURES, labels()),
        connections_active: registry.gauge(&families::CLUSTER_CONNECTIONS_ACTIVE, labels()),
        pending_overflow: registry.counter(&families::CLUSTER_PENDING_OVERFLOW, labels()),
        active_overflow: registry.counter(&families::CLUSTER_ACTIVE_OVERFLOW, labels()),
        pending_total: registry.counter(&families::CLUSTER_PENDING_TOTAL, labels()),
        pending_active: registry.gauge(&families::CLUSTER_PENDING_ACTIVE, labels()),
        connection_overflow: registry.counter(&families::CLUSTER_CONNECTION_OVERFLOW, labels()),
        http1_connections: registry.counter(&families::CLUSTER_HTTP1_CONNECTIONS, labels()),
        http2_connections: registry.counter(&families::CLUSTER_HTTP2_CONNECTIONS, labels()),
        connect_timeouts: registry.counter(&families::CLUSTER_CONNECT_TIMEOUTS, labels()),
        idle_timeouts: registry.counter(&families::CLUSTER_IDLE_TIMEOUTS, labels()),
        max_duration: registry.counter(&families::CLUSTER_MAX_DURATION, labels()),
        max_requests: registry.counter(&families::CLUSTER_MAX_REQUESTS, labels()),
    }
}
