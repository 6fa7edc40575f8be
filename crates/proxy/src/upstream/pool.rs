//! One worker's idle connections to one host: the last one used is used first, so that surplus ones grow old and go.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use config::model::UpstreamHttpOptions;

use super::connect::ConnectionInfo;
use super::host::HostRuntime;
use super::stream::UpstreamStream;
use crate::http::h1::Limits;
use crate::http::h1::client::{ClientOptions, Connection};
use crate::telemetry::cells::Gauge;
use crate::telemetry::peer_metadata::PeerCache;

/// The most idle connections that are kept per host and worker.
pub const MAX_IDLE: usize = 512;

/// An open connection beside its codec: what is known about it, and its place in the gauge.
#[derive(Debug)]
pub struct OpenConnection {
    /// Addresses and identities.
    pub info: ConnectionInfo,
    opened: Instant,
    active: Arc<Gauge>,
}

impl OpenConnection {
    /// Counts as open from now until it is dropped.
    pub fn new(info: ConnectionInfo, active: Arc<Gauge>) -> Self {
        active.add(1);
        Self { info, opened: Instant::now(), active }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.active.add(-1);
    }
}

/// A connection taken from a pool, or a new one.
#[derive(Debug)]
pub struct Pooled {
    /// The codec.
    pub connection: Connection<UpstreamStream>,
    /// What is known about it.
    pub open: Rc<OpenConnection>,
}

struct Idle {
    pooled: Pooled,
    since: Instant,
}

/// When a connection is too old for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRules {
    /// Idle for longer.
    pub idle_timeout: Option<Duration>,
    /// Open for longer.
    pub max_duration: Option<Duration>,
    /// Requests on one connection.
    pub max_requests: Option<u32>,
}

impl PoolRules {
    /// What a cluster's configuration says.
    pub fn of(options: &UpstreamHttpOptions) -> Self {
        Self {
            idle_timeout: options.idle_timeout,
            max_duration: options.max_connection_duration,
            max_requests: options.max_requests_per_connection,
        }
    }

    fn allow(&self, idle: &Idle, now: Instant) -> bool {
        let open = &idle.pooled.open;
        self.idle_timeout.is_none_or(|limit| now.saturating_duration_since(idle.since) < limit)
            && self.max_duration.is_none_or(|limit| now.saturating_duration_since(open.opened) < limit)
            && self.max_requests.is_none_or(|limit| idle.pooled.connection.requests() < u64::from(limit))
    }
}

/// The codec's limits for responses of a cluster.
pub fn client_options(options: &UpstreamHttpOptions) -> ClientOptions {
    let limits = Limits {
        max_headers_bytes: options.max_response_headers_bytes,
        max_headers_count: options.max_headers_count,
    };
    ClientOptions { limits, ..ClientOptions::default() }
}

/// The idle connections to one host.
pub struct HostPool {
    runtime: Weak<HostRuntime>,
    rules: RefCell<PoolRules>,
    idle: RefCell<Vec<Idle>>,
    /// The workload that the host last said it is.
    pub peer: PeerCache,
}

impl HostPool {
    /// An empty pool for a host.
    pub fn new(runtime: &Arc<HostRuntime>, rules: PoolRules) -> Rc<Self> {
        Rc::new(Self {
            runtime: Arc::downgrade(runtime),
            rules: RefCell::new(rules),
            idle: RefCell::default(),
            peer: PeerCache::default(),
        })
    }

    /// The connection used last, if one is young enough. The rules are those of the current configuration.
    pub fn take(&self, rules: PoolRules, now: Instant) -> Option<Pooled> {
        *self.rules.borrow_mut() = rules;
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if rules.allow(&idle, now) {
                return Some(idle.pooled);
            }
        }
    }

    /// Keeps a connection for the next request, unless the host is gone from the configuration.
    pub fn give_back(&self, pooled: Pooled) {
        let idle = Idle { pooled, since: Instant::now() };
        let mut all = self.idle.borrow_mut();
        if self.runtime.strong_count() > 0
            && all.len() < MAX_IDLE
            && self.rules.borrow().allow(&idle, idle.since)
        {
            all.push(idle);
        }
    }

    /// Closes what is too old or was closed by the host; `false` when the host is gone and the pool with it.
    pub fn sweep(&self, now: Instant) -> bool {
        let rules = *self.rules.borrow();
        let alive = self.runtime.strong_count() > 0;
        self.idle
            .borrow_mut()
            .retain_mut(|idle| alive && rules.allow(idle, now) && idle.pooled.connection.is_reusable());
        alive
    }

    /// Connections that wait.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }
}
