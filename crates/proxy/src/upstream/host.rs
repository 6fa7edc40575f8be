//! One endpoint of a cluster with what must hold across workers and pushes.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use config::model::{Endpoint, TransportSocket};

use super::idle_limit::IdleLimit;
use super::outlier::{HostMonitor, Outliers};
use super::reach::Reach;
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
    /// Its failures, and whether it is ejected.
    pub monitor: HostMonitor,
    /// Whether it is passed over for a moment because it could not be reached.
    pub reach: Reach,
    active: AtomicU32,
    /// How long the host keeps idle connections.
    pub idle_limit: IdleLimit,
    /// Places for connections; made when the cluster limits them for each host.
    connections: OnceLock<Arc<Slots>>,
}

impl HostRuntime {
    /// A host that nobody uses yet; `pass_over` while it cannot be reached.
    pub fn new(id: u64, outliers: &Arc<Outliers>, pass_over: bool) -> Self {
        Self {
            id,
            monitor: HostMonitor::new(outliers.clone()),
            reach: Reach::new(outliers.epoch, pass_over),
            active: AtomicU32::new(0),
            idle_limit: IdleLimit::default(),
            connections: OnceLock::new(),
        }
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
