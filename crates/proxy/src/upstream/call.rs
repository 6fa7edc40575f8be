//! One request to a cluster: pick a host, get a connection, send, and try again as the retry policy says.
//!
//! Without any policy one thing is repeated: a request on a kept connection that turned out closed before a byte of the
//! response came, once, on a new connection; when bytes of the request were sent already only for idempotent methods.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::{Blame, Reason};
use config::model::{Priority, RetryPolicy};
use smallvec::SmallVec;
use tokio::time::Sleep;

use super::balance::Tried as TriedHosts;
use super::checkout::Checkout;
use super::cluster::Cluster;
use super::connect::{ConnectFailure, ConnectionInfo};
use super::failure::Said;
use super::host::{ActiveRequest, Host};
use super::limits::{Kind, Reserved};
use super::outlier::{self, Outcome};
use super::pool::{HostPool, Unavailable, Wanted};
use super::replay::Replay;
use super::retry::{self, Marks, Retries, Tried};
use super::retry_budget::ActiveRetry;
use super::worker::{ClusterWorker, UpstreamWorker};
use crate::http::h1::client::SendError;
use crate::http::{Body, Informational, RequestHead, ResponseHead};
use crate::telemetry::Random;
use crate::telemetry::attempts::Attempts;

/// One try, as filters see it before the request is sent.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The chosen host.
    pub host: &'a Arc<Host>,
    /// The connection.
    pub connection: &'a ConnectionInfo,
    /// 1 for the first.
    pub number: u32,
    /// When it is sent.
    pub now: Instant,
}

/// Where a response came from.
pub struct Answer {
    /// The response.
    pub head: ResponseHead,
    /// Its body; polling it moves the rest of the upload.
    pub body: Body,
    /// The pool of the host that answered.
    pub pool: Rc<HostPool>,
    /// A retry was wanted and not made.
    pub denied: Option<Denied>,
    /// What the proxies behind it say of the answer.
    pub said: Said,
    /// When its head had come.
    pub at: Instant,
}

/// A call without a response.
#[derive(Debug)]
pub struct Failed {
    /// What the last try failed with.
    pub failure: CallFailure,
    /// It was retried before.
    pub retried: bool,
    /// A further retry was wanted and not made.
    pub denied: Option<Denied>,
    /// The last try cannot have reached the application.
    pub unprocessed: bool,
}

/// Why a retry that was wanted was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// All were used up.
    LimitExceeded,
    /// The budget or the circuit breaker forbade it.
    Overflow,
}

/// Why there is no response.
#[derive(Debug)]
pub enum CallFailure {
    /// The cluster has no usable host, and why.
    NoHost(Reason),
    /// A limit of the circuit breaker is reached; its name.
    Overflow(&'static str),
    /// No connection could be made.
    Connect(ConnectFailure),
    /// The per-try timeout passed.
    PerTryTimeout,
    /// The try was silent for longer than its idle timeout.
    PerTryIdleTimeout,
    /// The request was sent, at least in part.
    Send {
        /// Who caused it.
        blame: Blame,
        /// The stable code.
        reason: Reason,
        /// What happened.
        detail: String,
        /// Nothing of it was processed: it was refused, or nothing was written.
        unprocessed: bool,
    },
}

/// What the route says about retries of a request.
#[derive(Debug, Clone, Copy)]
pub struct RetryRules<'a> {
    /// When; `None`: never.
    pub policy: Option<&'a RetryPolicy>,
    /// Limit of one try.
    pub per_try_timeout: Option<Duration>,
    /// Most bytes of the body that are kept for another try.
    pub body_limit: u64,
    /// The client speaks gRPC.
    pub grpc: bool,
}

/// What a call needs beside the request.
pub struct Call<'a> {
    /// The worker's pools and balancers.
    pub worker: &'a UpstreamWorker,
    /// The worker's random numbers.
    pub random: &'a Random,
    /// Where the request goes.
    pub cluster: &'a Arc<Cluster>,
    /// Which limits of the cluster it counts against.
    pub priority: Priority,
    /// Takes interim responses.
    pub informational: &'a Informational,
    /// Retries.
    pub rules: RetryRules<'a>,
    /// The bodies are the bytes of a connection of their own, without HTTP.
    pub raw: bool,
    /// The host whose answer is awaited, for whoever ends the call from outside.
    pub awaited: &'a RefCell<Option<Arc<Host>>>,
    /// Where the time goes.
    pub timeline: &'a RefCell<Attempts>,
}

/// Called before each try; may change the head.
pub type OnAttempt<'a> = &'a mut dyn FnMut(&mut RequestHead, &Attempt<'_>);

/// What a call knows from one try to the next.
pub(super) struct Progress<'a> {
    pub(super) state: Rc<ClusterWorker>,
    pub(super) body: Replay,
    retries: Option<Retries<'a>>,
    tried: SmallVec<[u64; 4]>,
    pub(super) number: u32,
    /// A kept connection that turned out closed has been replaced.
    replaced: bool,
    /// The next try needs a connection that was not used before.
    fresh: bool,
    slot: Option<(Option<ActiveRetry>, Reserved)>,
}

/// The host of a try.
pub(super) struct Chosen {
    pub(super) host: Arc<Host>,
    pub(super) pool: Rc<HostPool>,
    pub(super) active: ActiveRequest,
}

pub(super) enum Next {
    Answer(Box<Answer>),
    Failed(Failed),
    /// Again, after so long.
    Again(Duration),
}

impl Call<'_> {
    /// Sends a request; `on_attempt` is called before each try and may change the head.
    ///
    /// # Errors
    /// What the last try failed with.
    pub async fn run(
        &self,
        head: &mut RequestHead,
        body: Body,
        on_attempt: OnAttempt<'_>,
    ) -> Result<Answer, Failed> {
        let retries = self.rules.policy.and_then(|policy| Retries::of(policy, head));
        // What follows an upgrade or a CONNECT is a conversation, which nobody can repeat.
        let repeatable = retries.is_some() && head.upgrade.is_none() && head.method != http::Method::CONNECT;
        let limit = if repeatable { self.rules.body_limit } else { 0 };
        let mut progress = Progress {
            state: self.worker.cluster(self.cluster),
            body: Replay::new(body, head.length, limit),
            retries,
            tried: SmallVec::new(),
            number: 0,
            replaced: false,
            fresh: false,
            slot: None,
        };
        let _active = self.cluster.identity.retries.request();
        loop {
            match self.attempt(head, &mut progress, on_attempt).await {
                Next::Answer(answer) => return Ok(*answer),
                Next::Failed(failed) => return Err(failed),
                Next::Again(Duration::ZERO) => {}
                Next::Again(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    async fn attempt(
        &self,
        head: &mut RequestHead,
        progress: &mut Progress<'_>,
        on_attempt: OnAttempt<'_>,
    ) -> Next {
        let hosts = self.cluster.hosts();
        let others = progress.retries.as_ref().and_then(Retries::other_hosts);
        let tried = match others {
            Some(attempts) => TriedHosts { hosts: &progress.tried, attempts },
            None => TriedHosts::NONE,
        };
        let policy = self.cluster.config.lb_policy;
        let Some(host) = progress.state.balancer.pick(policy, &hosts, self.random, tried) else {
            return progress.fail(CallFailure::NoHost(self.cluster.why_no_host()), None);
        };
        progress.number += 1;
        let now = Instant::now();
        self.timeline.borrow_mut().begin(&host.address_text, now);
        progress.tried.push(host.runtime.id);
        let active = ActiveRequest::begin(&host.runtime);
        let pool = self.worker.pool(&host, &progress.state);
        if self.raw {
            return self.attempt_raw(head, progress, Chosen { host, pool, active }, on_attempt).await;
        }
        let wanted = Wanted {
            worker: self.worker,
            state: &progress.state,
            cluster: self.cluster,
            host: &host,
            priority: self.priority,
            version: head.version,
            fresh: std::mem::take(&mut progress.fresh),
            now,
            timeline: self.timeline,
        };
        let checkout = match pool.acquire(&wanted).await {
            Ok(checkout) => checkout,
            Err(Unavailable::Overflow(limit)) => {
                self.timeline.borrow_mut().failed(Reason::Overflow, Instant::now());
                return progress.fail(CallFailure::Overflow(limit), None);
            }
            Err(Unavailable::Connect(failure)) => {
                host.runtime.reach.failed();
                self.timeline.borrow_mut().opening(failure.opening);
                self.timeline.borrow_mut().failed(failure.reason, Instant::now());
                self.report(&host, Outcome::Failed);
                return self.after(progress, Tried::NotConnected, CallFailure::Connect(failure));
            }
        };
        self.report(&host, Outcome::Connected);
        let (connection, number, now) = (checkout.info(), progress.number, Instant::now());
        {
            let mut timeline = self.timeline.borrow_mut();
            timeline.opening(Some(checkout.opening()));
            timeline.sent(connection.local, now);
        }
        on_attempt(head, &Attempt { cluster: self.cluster, host: &host, connection, number, now });
        progress.state.cells.requests.increment();
        *self.awaited.borrow_mut() = Some(host.clone());
        let sent = self.send(head, &progress.body, checkout, active).await;
        self.awaited.borrow_mut().take();
        match sent {
            Ok((answer, body)) => self.answered(progress, &host, pool, answer, body),
            Err(Broken::Send(error)) => self.broken(progress, head, &host, error),
            Err(Broken::PerTryTimeout) => {
                self.timeline.borrow_mut().failed(Reason::Timeout, Instant::now());
                progress.state.cells.per_try_timeouts.increment();
                self.report(&host, Outcome::TimedOut);
                self.after(progress, Tried::TimedOut, CallFailure::PerTryTimeout)
            }
            Err(Broken::PerTryIdleTimeout) => {
                self.timeline.borrow_mut().failed(Reason::Timeout, Instant::now());
                progress.state.cells.per_try_idle_timeouts.increment();
                self.report(&host, Outcome::TimedOut);
                self.after(progress, Tried::TimedOut, CallFailure::PerTryIdleTimeout)
            }
        }
    }

    fn answered(
        &self,
        progress: &mut Progress<'_>,
        host: &Arc<Host>,
        pool: Rc<HostPool>,
        mut head: ResponseHead,
        body: Body,
    ) -> Next {
        let at = Instant::now();
        self.timeline.borrow_mut().answered(head.status, at);
        host.runtime.reach.worked();
        let grpc = if self.rules.grpc { retry::grpc_status(&head.headers) } else { None };
        let told = match &self.cluster.config.http.error_statuses {
            None => grpc.map_or(head.status, retry::http_of_grpc),
            // As in Envoy: an error is one, whatever its status (a gateway's stays one), and anything else is none.
            Some(errors) if errors.binary_search(&head.status).is_ok() => head.status.max(500),
            Some(_) => 200,
        };
        self.report(host, Outcome::Status(told));
        let mut said = Said::default();
        if head.headers.contains(Marks::HEADER) {
            // Only a verified peer of the mesh may say whether a request was processed, and why it failed.
            if host.transport.is_mesh() {
                said = Said::read(&head.headers);
            }
            head.headers.remove(Marks::HEADER);
        }
        let decision = progress.decide(Tried::Answer(&head, said.marks), Some(&head), self);
        match decision {
            Decision::Again(wait) => Next::Again(wait),
            Decision::No(denied) => {
                progress.body.stop_keeping();
                said.marks.retried |= denied.is_some();
                Next::Answer(Box::new(Answer { head, body, pool, denied, said, at }))
            }
        }
    }

    fn broken(
        &self,
        progress: &mut Progress<'_>,
        head: &RequestHead,
        host: &Arc<Host>,
        error: SendError,
    ) -> Next {
        self.timeline.borrow_mut().failed(error.reason, Instant::now());
        // The client's own body broke off: nobody else is to blame, and nothing is left to send.
        let upstream = error.blame == Blame::Upstream;
        let stale = error.safe_to_retry || (error.stale_connection && retry::is_idempotent(&head.method));
        let untouched = error.body.is_some() || progress.body.can_repeat();
        if upstream && stale && untouched && !progress.replaced {
            progress.replaced = true;
            progress.fresh = true;
            progress.tried.pop();
            return Next::Again(Duration::ZERO);
        }
        let tried = if error.safe_to_retry { Tried::Refused } else { Tried::Reset };
        let failure = CallFailure::Send {
            blame: error.blame,
            reason: error.reason,
            detail: error.detail.into_owned(),
            unprocessed: error.safe_to_retry,
        };
        if !upstream {
            return progress.fail(failure, None);
        }
        if !error.stale_connection {
            host.runtime.reach.failed();
        }
        self.report(host, Outcome::Failed);
        self.after(progress, tried, failure)
    }

    /// A try without an answer.
    pub(super) fn after(&self, progress: &mut Progress<'_>, tried: Tried<'_>, failure: CallFailure) -> Next {
        match progress.decide(tried, None, self) {
            Decision::Again(wait) => Next::Again(wait),
            Decision::No(denied) => progress.fail(failure, denied),
        }
    }

    pub(super) fn report(&self, host: &Host, outcome: Outcome) {
        outlier::report(self.cluster, host, outcome, self.random);
    }

    async fn send(
        &self,
        head: &RequestHead,
        body: &Replay,
        checkout: Checkout,
        active: ActiveRequest,
    ) -> Result<(ResponseHead, Body), Broken> {
        let limits = TryLimits {
            total: self.rules.per_try_timeout,
            idle: self.rules.policy.and_then(|policy| policy.per_try_idle_timeout),
        };
        let sending = checkout.send(head, body.reader(), self.informational, move || drop(active));
        if limits.total.is_none() && limits.idle.is_none() {
            return sending.await.map_err(Broken::Send);
        }
        let mut sending = pin!(sending);
        let (begun, mut sleep) = (Instant::now(), None);
        std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result.map_err(Broken::Send)),
            Poll::Pending => limits.poll_passed(begun, body.ended(), &mut sleep, cx).map(Err),
        })
        .await
    }
}

enum Broken {
    Send(SendError),
    PerTryTimeout,
    PerTryIdleTimeout,
}

/// Limits of one try; they count from the end of the request.
struct TryLimits {
    total: Option<Duration>,
    idle: Option<Duration>,
}

impl TryLimits {
    fn poll_passed(
        &self,
        begun: Instant,
        ended: Option<Instant>,
        sleep: &mut Option<Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Broken> {
        let Some(ended) = ended else { return Poll::Pending };
        let from = begun.max(ended);
        let (limit, broken) = match (self.total, self.idle) {
            (Some(total), Some(idle)) if idle < total => (idle, Broken::PerTryIdleTimeout),
            (Some(total), _) => (total, Broken::PerTryTimeout),
            (None, Some(idle)) => (idle, Broken::PerTryIdleTimeout),
            (None, None) => return Poll::Pending,
        };
        let at = tokio::time::Instant::from_std(from + limit);
        let sleep = sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        sleep.as_mut().poll(cx).map(|()| broken)
    }
}

enum Decision {
    Again(Duration),
    No(Option<Denied>),
}

impl Progress<'_> {
    /// Whether there is another try, with its place in the budget.
    fn decide(&mut self, tried: Tried<'_>, answer: Option<&ResponseHead>, call: &Call<'_>) -> Decision {
        self.slot = None;
        let Some(retries) = &mut self.retries else { return Decision::No(None) };
        let cells = &self.state.cells;
        if !retries.wants(tried) {
            if retries.done > 0 {
                cells.retry_successes.increment();
            }
            return Decision::No(None);
        }
        if !self.body.can_repeat() {
            return Decision::No(None);
        }
        if !retries.take() {
            cells.retry_limit_exceeded.increment();
            return Decision::No(Some(Denied::LimitExceeded));
        }
        let breaker = self.state.reserve(call.priority, Kind::Retries);
        // A try that got no connection has loaded no program: when a host goes, every request that meets it may go
        // elsewhere, however many they are.
        let budget = match tried {
            Tried::NotConnected => Some(None),
            // What somebody wrote stands in place of the default; the breaker holds it.
            _ if call.cluster.config.circuit_breakers.of(call.priority).retry_budget.is_some() => Some(None),
            _ => call.cluster.identity.retries.retry().map(Some),
        };
        let Some(slot) = budget.zip(breaker) else {
            cells.retry_overflow.increment();
            return Decision::No(Some(Denied::Overflow));
        };
        self.slot = Some(slot);
        cells.retries.increment();
        let wait = retries.wait(answer.map(|head| &head.headers), call.random);
        retries.done += 1;
        Decision::Again(wait)
    }

    pub(super) fn fail(&self, failure: CallFailure, denied: Option<Denied>) -> Next {
        let unprocessed = match &failure {
            CallFailure::NoHost(_) | CallFailure::Overflow(_) | CallFailure::Connect(_) => true,
            CallFailure::Send { unprocessed, .. } => *unprocessed,
            CallFailure::PerTryTimeout | CallFailure::PerTryIdleTimeout => false,
        };
        let retried = self.retries.as_ref().is_some_and(|retries| retries.done > 0);
        // An earlier try may have been processed.
        Next::Failed(Failed { failure, retried, denied, unprocessed: unprocessed && !retried })
    }
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
