//! One worker's connections to one host. [`HostPool::acquire`] gives a connection that a request can be sent on, whatever
//! its protocol; the one used last is used first, so that surplus ones grow old and go.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use base::Reason;
use config::model::UpstreamHttpOptions;

use super::cluster::Cluster;
use super::connect::{self, ConnectFailure, ConnectionInfo};
use super::host::{Host, HostRuntime};
use super::stream::UpstreamStream;
use super::worker::{ClusterWorker, UpstreamWorker};
use crate::http::h1::Limits;
use crate::http::h1::client::{ClientOptions, Connection, Ended, SendError};
use crate::http::{Body, Informational, RequestHead, ResponseHead, Version};
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

/// What a request asks of a pool.
pub struct Wanted<'a> {
    /// The worker's pools.
    pub worker: &'a UpstreamWorker,
    /// The worker's state of the cluster.
    pub state: &'a Rc<ClusterWorker>,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The host that the balancer chose.
    pub host: &'a Host,
    /// What the client speaks: some clusters speak the same.
    pub version: Version,
    /// No connection that was used before: one of those has just failed.
    pub fresh: bool,
}

/// Why a pool gives no connection. Nothing was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A limit of the circuit breaker is reached; its name. The host is not to blame.
    #[error("the circuit breaker's {0} is reached")]
    Overflow(&'static str),
    /// The connection could not be made.
    #[error(transparent)]
    Connect(ConnectFailure),
}

/// A connection on which one request can be sent. Dropping it unused closes it.
#[derive(Debug)]
pub struct Checkout {
    pool: Rc<HostPool>,
    pooled: Pooled,
}

impl Checkout {
    /// What is known about the connection.
    pub fn info(&self) -> &ConnectionInfo {
        &self.pooled.open.info
    }

    /// Sends a request and waits for the head of its response; polling the response's body moves the rest of the
    /// upload. `on_end` is called once, when the exchange has ended in whatever way; the connection then goes back to
    /// its pool where that is possible.
    ///
    /// # Errors
    /// Whom to blame, and whether the request can be sent again.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        informational: &Informational,
        on_end: impl FnOnce() + 'static,
    ) -> Result<(ResponseHead, Body), SendError> {
        let Checkout { pool, pooled: Pooled { connection, open } } = self;
        let ended = Box::new(move |ended| {
            on_end();
            if let Ended::Reusable(connection) = ended {
                pool.give_back(Pooled { connection, open });
            }
        });
        connection.send(head, body, informational, ended).await
    }
}

#[derive(Debug)]
struct Pooled {
    connection: Connection<UpstreamStream>,
    open: Rc<OpenConnection>,
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
fn client_options(options: &UpstreamHttpOptions) -> ClientOptions {
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

    /// A connection for one request: the one used last if one is young enough, else a new one.
    ///
    /// # Errors
    /// A limit is reached, or the host cannot be reached.
    pub async fn acquire(self: &Rc<Self>, wanted: &Wanted<'_>) -> Result<Checkout, Unavailable> {
        let rules = PoolRules::of(&wanted.cluster.config.http);
        let kept = if wanted.fresh { None } else { self.take(rules, Instant::now()) };
        let pooled = match kept {
            Some(pooled) => pooled,
            None => Self::open(wanted).await.map_err(Unavailable::Connect)?,
        };
        Ok(Checkout { pool: self.clone(), pooled })
    }

    async fn open(wanted: &Wanted<'_>) -> Result<Pooled, ConnectFailure> {
        let (config, cells) = (&wanted.cluster.config, &wanted.state.cells);
        match connect::connect(wanted.host, config, wanted.worker.registry()).await {
            Ok((_, info)) if info.chose_http2 => {
                cells.connect_failures.increment();
                Err(ConnectFailure {
                    host: wanted.host.address_text.clone(),
                    reason: Reason::UpstreamTls,
                    detail:
                        "the host chose HTTP/2 (ALPN h2), which this proxy does not speak to upstreams yet"
                            .to_owned(),
                    timed_out: false,
                })
            }
            Ok((stream, info)) => {
                cells.connections.increment();
                let open = Rc::new(OpenConnection::new(info, cells.connections_active.clone()));
                Ok(Pooled { connection: Connection::new(stream, client_options(&config.http)), open })
            }
            Err(failure) => {
                cells.connect_failures.increment();
                Err(failure)
            }
        }
    }

    /// The connection used last, if one is young enough. The rules are those of the current configuration.
    fn take(&self, rules: PoolRules, now: Instant) -> Option<Pooled> {
        *self.rules.borrow_mut() = rules;
        loop {
            let idle = self.idle.borrow_mut().pop()?;
            if rules.allow(&idle, now) {
                return Some(idle.pooled);
            }
        }
    }

    /// Keeps a connection for the next request, unless the host is gone from the configuration.
    fn give_back(&self, pooled: Pooled) {
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

impl fmt::Debug for HostPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostPool").field("idle", &self.idle_count()).finish_non_exhaustive()
    }
}
