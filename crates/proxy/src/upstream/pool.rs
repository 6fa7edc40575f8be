//! One worker's connections to one host. [`HostPool::acquire`] gives a connection that a request can be sent on, whatever
//! its protocol. A request that finds none waits in line until one is opened or becomes free.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use config::model::Priority;
use tokio::sync::oneshot;

use super::alpn::Speak;
use super::checkout::{Checkout, Http1, Http2, Ready, StreamPlace};
use super::cluster::Cluster;
use super::connect::ConnectFailure;
use super::host::{Host, HostRuntime};
use super::limits::Kind;
use super::pool_idle::{IdleList, PoolRules};
use super::pool_open::Opening;
use super::worker::{ClusterWorker, UpstreamWorker};
use crate::http::Version;
use crate::telemetry::attempts::{self, Attempts};
use crate::telemetry::peer_metadata::PeerCache;

/// Whoever waits elsewhere for longer than those here by this much goes first: workers share a limit fairly.
const FAIR: Duration = Duration::from_millis(20);

/// What a request asks of a pool.
pub struct Wanted<'a> {
    /// The worker's pools.
    pub worker: &'a UpstreamWorker,
    /// The worker's state of the cluster.
    pub state: &'a Rc<ClusterWorker>,
    /// The cluster.
    pub cluster: &'a Arc<Cluster>,
    /// The host that the balancer chose.
    pub host: &'a Arc<Host>,
    /// Which limits the request counts against.
    pub priority: Priority,
    /// What the client speaks: some clusters speak the same.
    pub version: Version,
    /// No HTTP/1 connection that was used before: one of those has just failed.
    pub fresh: bool,
    /// When it is asked.
    pub now: Instant,
    /// Told when a connection is being opened for the request.
    pub timeline: &'a RefCell<Attempts>,
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

/// A request in line.
pub(super) struct Waiter {
    sender: oneshot::Sender<Result<Ready, ConnectFailure>>,
    /// How a connection for it is opened.
    pub(super) opening: Rc<Opening>,
    fresh: bool,
    since: Instant,
}

/// The connections to one host.
pub struct HostPool {
    pub(super) runtime: Weak<HostRuntime>,
    pub(super) state: Rc<ClusterWorker>,
    pub(super) rules: Cell<PoolRules>,
    idle: RefCell<IdleList>,
    pub(super) multiplexed: RefCell<Vec<Rc<Http2>>>,
    /// The configured streams at once on one connection.
    pub(super) max_streams: Cell<usize>,
    pub(super) line: RefCell<VecDeque<Waiter>>,
    /// Connections being opened: those for one request each, and HTTP/2.
    pub(super) opening: [Cell<usize>; 2],
    /// A job waits for places for such connections.
    pub(super) in_line: [Cell<bool>; 2],
    /// Connections open.
    pub(super) established: Rc<Cell<usize>>,
    /// The last connection spoke HTTP/2.
    pub(super) speaks_http2: Cell<bool>,
    /// The workload that the host last said it is.
    pub peer: PeerCache,
}

impl HostPool {
    /// An empty pool for a host.
    pub fn new(runtime: &Arc<HostRuntime>, state: &Rc<ClusterWorker>) -> Rc<Self> {
        let rules = PoolRules { idle_timeout: None, max_duration: None, max_requests: None };
        Rc::new(Self {
            runtime: Arc::downgrade(runtime),
            state: state.clone(),
            rules: Cell::new(rules),
            idle: RefCell::default(),
            multiplexed: RefCell::default(),
            max_streams: Cell::new(usize::MAX),
            line: RefCell::default(),
            opening: Default::default(),
            in_line: Default::default(),
            established: Rc::default(),
            speaks_http2: Cell::new(false),
            peer: PeerCache::default(),
        })
    }

    /// A connection for one request: one that is free, else one that becomes free or is opened, within the limits.
    ///
    /// # Errors
    /// A limit is reached, or the host cannot be reached.
    pub async fn acquire(self: &Rc<Self>, wanted: &Wanted<'_>) -> Result<Checkout, Unavailable> {
        let http = &wanted.cluster.config.http;
        self.rules.set(PoolRules::of(http));
        self.max_streams.set(http.http2.max_concurrent_streams as usize);
        let speak = Speak::of(http.protocol, wanted.version);
        if let Some(ready) = self.take(speak, wanted, wanted.now) {
            return self.check_out(ready, wanted);
        }
        let cells = &self.state.cells;
        let Some(pending) = self.state.reserve(wanted.priority, Kind::Pending) else {
            cells.pending_overflow.increment();
            return Err(Unavailable::Overflow("max_pending_requests"));
        };
        cells.pending_total.increment();
        cells.pending_active.add(1);
        let ready = self.wait(wanted, speak).await;
        cells.pending_active.add(-1);
        drop(pending);
        self.check_out(ready.map_err(Unavailable::Connect)?, wanted)
    }

    /// Counts the request that takes a connection.
    fn check_out(self: &Rc<Self>, ready: Ready, wanted: &Wanted<'_>) -> Result<Checkout, Unavailable> {
        match self.state.reserve(wanted.priority, Kind::Requests) {
            Some(request) => Ok(Checkout { pool: self.clone(), ready, request }),
            None => {
                self.put_back(ready);
                self.state.cells.active_overflow.increment();
                Err(Unavailable::Overflow("max_requests"))
            }
        }
    }

    async fn wait(self: &Rc<Self>, wanted: &Wanted<'_>, speak: Speak) -> Result<Ready, ConnectFailure> {
        let (sender, receiver) = oneshot::channel();
        let opening = Opening::new(wanted, speak);
        let waiter = Waiter { sender, opening: opening.clone(), fresh: wanted.fresh, since: wanted.now };
        self.line.borrow_mut().push_back(waiter);
        let mut place = PlaceInLine { pool: self.clone(), receiver, counted: true };
        self.open_more(&opening, || wanted.worker.close_unused(&self.state));
        if self.opening.iter().any(|count| count.get() > 0) {
            let begun = attempts::Opening { began: wanted.now, connected: None, ready: None };
            wanted.timeline.borrow_mut().opening(Some(begun));
        }
        let result = (&mut place.receiver).await;
        place.counted = false;
        // A sender is only dropped unsent together with the pool.
        result.unwrap_or_else(|_| Err(ConnectFailure::gone(&wanted.host.address_text)))
    }

    /// A connection that is free now.
    fn take(self: &Rc<Self>, speak: Speak, wanted: &Wanted<'_>, now: Instant) -> Option<Ready> {
        if speak != Speak::Http1
            && let Some(place) = self.take_stream()
        {
            return Some(Ready::Http2(place));
        }
        if speak == Speak::Http2 || wanted.fresh {
            return None;
        }
        let mut idle = self.idle.borrow_mut();
        let limit = &wanted.host.runtime.idle_limit;
        let (http1, since) = idle.take(&self.rules.get(), limit, &self.state.cells, now)?;
        Some(Ready::Http1(http1, Some(since)))
    }

    /// A place for a stream; connections that take none any more are let go.
    fn take_stream(self: &Rc<Self>) -> Option<StreamPlace> {
        let mut all = self.multiplexed.borrow_mut();
        let (own, rules, now) = (self.max_streams.get(), self.rules.get(), Instant::now());
        let cells = &self.state.cells;
        all.retain(|http2| {
            http2.connection.clone().is_open()
                && rules.allow(&http2.open, http2.requests.get(), idle_since(http2, now), now, cells)
        });
        let free = |http2: &&Rc<Http2>| http2.streams.get() < own.min(http2.connection.max_streams());
        let found = all.iter().find(free).cloned();
        drop(all);
        found.map(|http2| StreamPlace::take(self, &http2))
    }

    /// A connection whose request has ended well: for the next in line, for another host or worker that waits for a
    /// place, or kept.
    pub(super) fn give_back(self: &Rc<Self>, http1: Http1) {
        let now = Instant::now();
        let rules = self.rules.get();
        let requests = http1.connection.requests();
        if let (Some(said), Some(runtime)) = (http1.connection.idle_timeout(), self.runtime.upgrade()) {
            runtime.idle_limit.closed_at(said);
        }
        if self.runtime.strong_count() == 0
            || !rules.allow(&http1.open, requests, now, now, &self.state.cells)
        {
            return;
        }
        if self.others_go_first(now) {
            return;
        }
        if let Some(http1) = self.hand_over(http1, Some(now)) {
            self.keep(http1, now);
        }
    }

    /// Keeps a connection that nobody here needs now, unless its place is needed elsewhere.
    pub(super) fn keep(&self, http1: Http1, now: Instant) {
        if !self.state.limits.wants_place() && self.idle.borrow_mut().put(http1, now) {
            self.state.upkeep.look_soon();
        }
    }

    /// Whether somebody on another worker, or for another host, waits for a place for much longer than those here.
    fn others_go_first(&self, now: Instant) -> bool {
        if !self.state.limits.wants_place() {
            return false;
        }
        let here = self.line.borrow().front().map_or(now, |waiter| waiter.since);
        self.state.limits.first_since().is_some_and(|first| first + FAIR < here)
    }

    /// Gives a connection to the first in line that can use it; gives it back when there is none.
    pub(super) fn hand_over(&self, http1: Http1, idle_since: Option<Instant>) -> Option<Http1> {
        let mut ready = Ready::Http1(http1, idle_since);
        loop {
            let waiter = {
                let mut line = self.line.borrow_mut();
                let fits = |waiter: &Waiter| {
                    waiter.opening.speak != Speak::Http2 && !(waiter.fresh && idle_since.is_some())
                };
                let position = line.iter().position(fits);
                position.and_then(|position| line.remove(position))
            };
            match waiter {
                Some(waiter) => match waiter.sender.send(Ok(ready)) {
                    Ok(()) => return None,
                    Err(Ok(unsent)) => ready = unsent,
                    Err(Err(_)) => return None,
                },
                None => match ready {
                    Ready::Http1(http1, _) => return Some(http1),
                    Ready::Http2(_) => return None,
                },
            }
        }
    }

    /// Gives places on HTTP/2 connections to those in line.
    pub(super) fn serve_streams(self: &Rc<Self>) {
        loop {
            self.leave_out_the_gone();
            let position = self.line.borrow().iter().position(|waiter| waiter.opening.speak != Speak::Http1);
            let Some(position) = position else { return };
            let Some(place) = self.take_stream() else {
                let opening = self.line.borrow().get(position).map(|waiter| waiter.opening.clone());
                if let Some(opening) = opening {
                    self.open_more(&opening, || false);
                }
                return;
            };
            let waiter = self.line.borrow_mut().remove(position);
            if let Some(waiter) = waiter {
                drop(waiter.sender.send(Ok(Ready::Http2(place))));
            }
        }
    }

    /// Who does not wait any more leaves the line.
    pub(super) fn leave_out_the_gone(&self) {
        self.line.borrow_mut().retain(|waiter| !waiter.sender.is_closed());
    }

    /// Fails those in line: the first, or all when nothing is left that could serve them.
    pub(super) fn fail_line(&self, failure: &ConnectFailure) {
        self.leave_out_the_gone();
        let all = self.opening.iter().all(|count| count.get() == 0) && self.established.get() == 0;
        loop {
            let waiter = self.line.borrow_mut().pop_front();
            let Some(waiter) = waiter else { return };
            let _ = waiter.sender.send(Err(failure.clone()));
            if !all {
                return;
            }
        }
    }

    /// A stream has ended: its place is free.
    pub(super) fn stream_ended(self: &Rc<Self>) {
        if !self.line.borrow().is_empty() {
            self.serve_streams();
        } else if self.state.limits.wants_place() {
            self.close_unused();
        }
    }

    /// Something that was handed over is not used.
    fn put_back(self: &Rc<Self>, ready: Ready) {
        match ready {
            Ready::Http1(http1, _) => self.give_back(http1),
            Ready::Http2(place) => drop(place),
        }
    }

    /// The host has closed a connection that was idle since then.
    pub(super) fn closed_while_idle(&self, since: Instant) {
        if let Some(runtime) = self.runtime.upgrade() {
            runtime.idle_limit.closed_at(since.elapsed());
        }
    }

    /// The host reset a connection or refused one: what waits for requests is closed, most likely it is gone too.
    pub(super) fn host_failed(&self) {
        self.idle.borrow_mut().clear();
        self.multiplexed
            .borrow_mut()
            .retain(|http2| http2.streams.get() > 0 && http2.connection.clone().is_open());
    }

    /// Closes one connection that no request uses; whether there was one.
    pub(super) fn close_unused(&self) -> bool {
        if self.idle.borrow_mut().close_oldest() {
            return true;
        }
        let mut all = self.multiplexed.borrow_mut();
        let unused = all.iter().position(|http2| http2.streams.get() == 0);
        unused.map(|position| all.swap_remove(position)).is_some()
    }

    /// Closes what is too old or was closed by the host; `false` when the host is gone and the pool with it.
    pub fn sweep(self: &Rc<Self>, now: Instant) -> bool {
        self.leave_out_the_gone();
        let Some(runtime) = self.runtime.upgrade() else {
            self.idle.borrow_mut().clear();
            self.multiplexed.borrow_mut().clear();
            return !self.line.borrow().is_empty();
        };
        let (rules, cells, waker) = (self.rules.get(), &self.state.cells, self.state.upkeep.waker());
        self.idle.borrow_mut().sweep(&rules, &runtime.idle_limit, cells, now, &waker);
        self.multiplexed.borrow_mut().retain(|http2| {
            http2.connection.clone().is_open()
                && rules.allow(&http2.open, http2.requests.get(), idle_since(http2, now), now, cells)
        });
        while self.state.limits.wants_place() && self.line.borrow().is_empty() && self.close_unused() {}
        true
    }

    /// HTTP/1 connections that wait for a request, and HTTP/2 connections.
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len() + self.multiplexed.borrow().len()
    }
}

/// Since when an HTTP/2 connection has had no stream: with streams it is not idle.
fn idle_since(http2: &Http2, now: Instant) -> Instant {
    if http2.streams.get() == 0 { http2.idle_since.get() } else { now }
}

/// Leaves the line when the request goes away; what was handed over in that moment is not lost.
struct PlaceInLine {
    pool: Rc<HostPool>,
    receiver: oneshot::Receiver<Result<Ready, ConnectFailure>>,
    counted: bool,
}

impl Drop for PlaceInLine {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        self.pool.state.cells.pending_active.add(-1);
        self.receiver.close();
        if let Ok(Ok(ready)) = self.receiver.try_recv() {
            self.pool.put_back(ready);
        }
    }
}

impl fmt::Debug for HostPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostPool").field("idle", &self.idle_count()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
