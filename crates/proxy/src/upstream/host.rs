//! One endpoint of a cluster with what must hold across workers and pushes.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use config::model::{Endpoint, TransportSocket};

use super::idle_limit::IdleLimit;
use super::slots::{NO_LIMIT, Slots};
use super::transport::Transport;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::Workload;

/// Where a host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Pipe(PathBuf),
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostAddress::Tcp(address) => address.fmt(f),
            HostAddress::Pipe(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What lives as long as a host is in its cluster, whatever else a push changes.
#[derive(Debug)]
pub struct HostRuntime {
    /// Unique in the process; pools are found by it.
    pub id: u64,
    active: AtomicU32,
    /// How long the host keeps idle connections.
    pub idle_limit: IdleLimit,
    /// Places for connections; made when the cluster limits them for each host.
    connections: OnceLock<Arc<Slots>>,
}

impl HostRuntime {
    /// A host that nobody uses yet.
    pub fn new(id: u64) -> Self {
        Self { id, active: AtomicU32::new(0), idle_limit: IdleLimit::default(), connections: OnceLock::new() }
    }

    /// Places for connections to this host, where the cluster has a limit of them.
    pub fn connections(&self, limit: Option<u32>) -> Option<&Arc<Slots>> {
        match limit {
            Some(limit) => {
                let slots = self.connections.get_or_init(|| Slots::new(limit));
                slots.set_limit(limit);
                Some(slots)
            }
            // A limit that was taken back frees those who wait for it.
            None => self.connections.get().inspect(|slots| slots.set_limit(NO_LIMIT)),
        }
    }

    /// Requests that run now, over all workers.
    pub fn active_requests(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }
}

/// Counts as one active request of a host while it lives.
#[derive(Debug)]
pub struct ActiveRequest(Arc<HostRuntime>);

impl ActiveRequest {
    /// Reserves before it acts: other workers see the request from now on.
    pub fn begin(runtime: &Arc<HostRuntime>) -> Self {
        runtime.active.fetch_add(1, Ordering::Relaxed);
        Self(runtime.clone())
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A host as the current configuration describes it.
#[derive(Debug)]
pub struct Host {
    /// Where it is reached.
    pub address: HostAddress,
    /// The same as text, for logs.
    pub address_text: Arc<str>,
    /// What the configuration says.
    pub endpoint: Arc<Endpoint>,
    /// The transport socket that applies to it: two hosts with different ones share nothing.
    pub socket: TransportSocket,
    /// How its connections are made.
    pub transport: Arc<Transport>,
    /// The workload that the control plane says runs there.
    pub workload: Interned<Workload>,
    /// Survives pushes.
    pub runtime: Arc<HostRuntime>,
}

impl Host {
    /// Share of the requests, at least 1.
    pub fn weight(&self) -> u32 {
        self.endpoint.weight.max(1)
    }
}

/// The hosts of a cluster at one moment.
#[derive(Debug, Default)]
pub struct HostSet {
    /// All hosts.
    pub all: Vec<Arc<Host>>,
    /// Those that requests go to: the usable ones of the first priority that has any.
    pub usable: Vec<Arc<Host>>,
    /// Running sums of the weights of `usable`; empty when all weights are equal.
    pub cumulative: Vec<u64>,
}

impl HostSet {
    /// A set of hosts with their priorities.
    pub fn new(hosts: Vec<(u32, Arc<Host>)>) -> Self {
        let healthy = |host: &Host| host.endpoint.health.is_usable();
        let first = hosts.iter().filter(|(_, host)| healthy(host)).map(|(priority, _)| *priority).min();
        let usable: Vec<Arc<Host>> = hosts
            .iter()
            .filter(|(priority, host)| Some(*priority) == first && healthy(host))
            .map(|(_, host)| host.clone())
            .collect();
        let equal = usable.windows(2).all(|pair| pair[0].weight() == pair[1].weight());
        let mut sum = 0u64;
        let sums = usable.iter().map(|host| {
            sum += u64::from(host.weight());
            sum
        });
        let cumulative = if equal { Vec::new() } else { sums.collect() };
        Self { all: hosts.into_iter().map(|(_, host)| host).collect(), usable, cumulative }
    }

    /// Sum of the weights of the usable hosts, when they differ.
    pub fn total_weight(&self) -> Option<u64> {
        self.cumulative.last().copied()
    }

    /// The usable host at which the running sum of weights passes `point`.
    pub fn by_weight(&self, point: u64) -> usize {
        self.cumulative.partition_point(|sum| *sum <= point)
    }
}
