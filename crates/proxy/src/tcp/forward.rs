//! One forwarded connection: upstream, copy, bounds in time, access log.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Reason;
use config::model::{TcpCluster, TcpProxy};
use tokio::io::{AsyncRead, AsyncWrite};

use super::chain::TcpChain;
use super::copy::{Copied, CopyError, Scratch, both_ways};
use super::dial::{self, Dialled, Failure};
use super::metrics::{Called, Counted, OpenConnections, Parties};
use super::prefixed::Prefixed;
use crate::filter::{Downstream, Worker};
use crate::telemetry::RequestRecord;
use crate::telemetry::log_value::LogContext;
use crate::upstream::Cluster;
use crate::upstream::balance::Balancer;

/// What forwarded connections of one worker share.
pub struct Forwarder {
    pub(super) worker: Rc<Worker>,
    balancers: RefCell<HashMap<u64, Rc<Balancer>>>,
    scratch: Scratch,
    open: OpenConnections,
}

/// The most balancers that are kept; beyond, places are forgotten, which costs a turn of round robin.
const MAX_BALANCERS: usize = 1024;

impl Forwarder {
    /// A worker's forwarder.
    pub fn new(worker: Rc<Worker>) -> Self {
        Forwarder {
            worker,
            balancers: RefCell::default(),
            scratch: Scratch::default(),
            open: OpenConnections::default(),
        }
    }

    pub(super) fn balancer(&self, cluster: &Cluster) -> Rc<Balancer> {
        let mut balancers = self.balancers.borrow_mut();
        if balancers.len() >= MAX_BALANCERS {
            balancers.clear();
        }
        balancers.entry(cluster.identity.id).or_default().clone()
    }

    pub(super) fn cluster_name<'a>(&self, choice: &'a TcpCluster) -> Option<&'a Arc<str>> {
        match choice {
            TcpCluster::One(name) => Some(name),
            TcpCluster::Weighted { clusters, total } => {
                let mut point = self.worker.random.below(*total);
                clusters.iter().find_map(|(name, weight)| match point.checked_sub(u64::from(*weight)) {
                    Some(rest) => {
                        point = rest;
                        None
                    }
                    None => Some(name),
                })
            }
        }
    }

    /// Counts open connections up, for ever: one task per worker.
    pub async fn report(&self) {
        self.open.report(&self.worker).await;
    }

    /// The longest life of a connection, drawn anew for each one.
    fn longest(&self, proxy: &TcpProxy) -> Option<Duration> {
        let longest = proxy.max_connection_duration?;
        // In millionths, so that the random number stays whole.
        let share = self.worker.random.below(1_000_000) as f64 / 1_000_000.0;
        Some(longest.mul_f64(1.0 + share * proxy.duration_jitter_percent / 100.0))
    }
}

/// Counts the connection and writes its log line when it has ended, also when it is cut (by a drain, by the end of the
/// process).
struct Logged<'a> {
    forwarder: &'a Forwarder,
    chain: &'a TcpChain,
    downstream: &'a Downstream,
    record: RequestRecord,
    copied: Rc<Cell<Copied>>,
    /// Its numbers, once it is known between whom it is.
    counted: Option<Rc<Counted>>,
    /// Why it is cut, if it does not come to its end.
    cut: &'a Cell<Reason>,
    ended: bool,
}

impl Logged<'_> {
    /// The upstream is known, or that there is none.
    fn begin(&mut self, called: Option<&Called>) {
        let Some(counting) = self.chain.counting.as_ref().filter(|it| !it.shapes.is_empty()) else { return };
        let worker = &self.forwarder.worker;
        let parties = Parties::new(worker, counting.reporter, self.downstream, called);
        let connection = &self.downstream.facts();
        let context = LogContext {
            called: called.map(|called| &*called.workload),
            ..worker.log_context(&self.record, connection)
        };
        self.counted = Some(self.forwarder.open.begin(worker, counting, parties, &context, &self.copied));
    }
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        let copied = self.copied.get();
        if !self.ended && self.record.reason.is_none() {
            self.record.reason = Some(self.cut.get());
        }
        if let Some(counted) = &self.counted {
            counted.end(&self.forwarder.worker, self.record.flags);
        }
        if self.chain.logs.is_empty() {
            return;
        }
        self.record.request_body_bytes = copied.sent;
        self.record.response_body_bytes = copied.received;
        self.record.end = Some(Instant::now());
        let worker = &self.forwarder.worker;
        let connection = &self.downstream.facts();
        self.chain.logs.write(&worker.log_context(&self.record, connection), worker.number);
    }
}

/// Forwards one connection to its end. `dialled`: an upstream connection that was made before; it is used if the chain
/// would have made the same. `cut` says why when the future is dropped. Returns why it ended other than well.
pub async fn forward<IO>(
    forwarder: &Forwarder,
    chain: &TcpChain,
    stream: IO,
    downstream: &Downstream,
    dialled: Option<Dialled>,
    cut: &Cell<Reason>,
) -> Option<Reason>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let proxy = &*chain.config;
    let peer = downstream.remote;
    // Before anything is waited for: a connection that is cut while it dials has a line as well.
    let record = dial::record();
    let copied = Rc::default();
    let mut logged =
        Logged { forwarder, chain, downstream, record, copied, counted: None, cut, ended: false };
    let dialled = match dialled.filter(|dialled| dialled.choice == proxy.cluster) {
        Some(dialled) => Ok(dialled),
        None => dial::dial(forwarder, proxy, dial::record()).await,
    };
    let mut dialled = match dialled {
        Ok(dialled) => dialled,
        Err((failure, record)) => {
            logged.record = *record;
            logged.begin(None);
            match failure {
                Failure::NoCluster(name) => {
                    let cluster = name.as_deref().unwrap_or("-");
                    tracing::debug!(%peer, cluster, "closed: the cluster is not there");
                }
                Failure::NoHost(_) => tracing::debug!(%peer, "closed: no usable host"),
                Failure::Overflow => {
                    tracing::debug!(%peer, "closed: the circuit breaker's max_connections is reached")
                }
                Failure::Connect(failure) => tracing::debug!(%peer, "closed: {failure}"),
            }
            return logged.record.reason;
        }
    };
    let greeting = dialled.take_greeting();
    let Dialled { stream: upstream, record, called, places: _places, .. } = dialled;
    logged.record = record;
    logged.begin(Some(&called));
    let upstream = Prefixed::new(greeting, upstream);
    let copying = both_ways(stream, upstream, proxy.idle_timeout, &logged.copied, &forwarder.scratch);
    let over = async {
        match forwarder.longest(proxy) {
            Some(longest) => tokio::time::sleep(longest).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        result = copying => Some(result),
        () = over => None,
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            logged.record.reason = Some(error.reason());
            match error {
                CopyError::Idle(_) => logged.record.details = Cow::Borrowed("idle_timeout"),
                error => tracing::debug!(%peer, "forwarding ended: {error}"),
            }
        }
        None => logged.record.fail(Reason::MaxDuration),
    }
    logged.ended = true;
    logged.record.reason
}
