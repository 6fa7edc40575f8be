//! One request to a cluster: pick a host, take or open a connection, send, and try again where that is provably safe.
//!
//! Tried again: a connection that could not be made (on another host, at most twice, every method), and a pooled
//! connection that turned out closed before a byte of the response came (once, on a new connection; when bytes of the
//! request were sent already only for idempotent methods). Never once something was taken from the request's body.

use std::rc::Rc;
use std::sync::Arc;

use base::{Blame, Reason};
use config::model::Priority;
use http::Method;
use smallvec::SmallVec;

use super::checkout::Checkout;
use super::cluster::Cluster;
use super::connect::{ConnectFailure, ConnectionInfo};
use super::host::{ActiveRequest, Host};
use super::pool::{HostPool, Unavailable, Wanted};
use super::worker::UpstreamWorker;
use crate::http::h1::client::SendError;
use crate::http::{Body, BodyLength, Informational, RequestHead, ResponseHead};
use crate::telemetry::Random;

/// Connect failures that are answered by trying another host.
const MAX_CONNECT_RETRIES: u32 = 2;

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
}

/// Where a response came from.
pub struct Answer {
    /// The response.
    pub head: ResponseHead,
    /// Its body; polling it moves the rest of the upload.
    pub body: Body,
    /// The pool of the host that answered.
    pub pool: Rc<HostPool>,
}

/// A call without a response.
#[derive(Debug)]
pub struct Failed {
    /// What the last try failed with.
    pub failure: CallFailure,
    /// Tries made, including those that got no connection.
    pub attempts: u32,
}

/// Why there is no response.
#[derive(Debug)]
pub enum CallFailure {
    /// The cluster has no usable host.
    NoHealthyUpstream,
    /// A limit of the circuit breaker is reached; its name.
    Overflow(&'static str),
    /// No connection could be made.
    Connect(ConnectFailure),
    /// The request was sent, at least in part.
    Send {
        /// Who caused it.
        blame: Blame,
        /// The stable code.
        reason: Reason,
        /// What happened.
        detail: String,
    },
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
}

enum Next {
    Done(Result<Answer, CallFailure>),
    /// Again, with the body that was given back.
    Again(Body),
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
        on_attempt: &mut dyn FnMut(&mut RequestHead, &Attempt<'_>),
    ) -> Result<Answer, Failed> {
        let mut attempts = 0;
        self.attempts(head, body, on_attempt, &mut attempts)
            .await
            .map_err(|failure| Failed { failure, attempts })
    }

    async fn attempts(
        &self,
        head: &mut RequestHead,
        mut body: Body,
        on_attempt: &mut dyn FnMut(&mut RequestHead, &Attempt<'_>),
        number: &mut u32,
    ) -> Result<Answer, CallFailure> {
        let state = self.worker.cluster(self.cluster);
        let mut tried: SmallVec<[u64; 4]> = SmallVec::new();
        let mut replace_stale = true;
        loop {
            let hosts = self.cluster.hosts();
            let Some(host) = state.balancer.pick(self.cluster.config.lb_policy, &hosts, self.random, &tried)
            else {
                return Err(CallFailure::NoHealthyUpstream);
            };
            *number += 1;
            if *number > 1 {
                state.cells.retries.increment();
            }
            let active = ActiveRequest::begin(&host.runtime);
            let pool = self.worker.pool(&host, &state);
            let wanted = Wanted {
                worker: self.worker,
                state: &state,
                cluster: self.cluster,
                host: &host,
                priority: self.priority,
                version: head.version,
                fresh: !replace_stale,
            };
            let checkout = match pool.acquire(&wanted).await {
                Ok(checkout) => checkout,
                Err(Unavailable::Overflow(limit)) => return Err(CallFailure::Overflow(limit)),
                Err(Unavailable::Connect(failure)) => {
                    tried.push(host.runtime.id);
                    let another = hosts.usable.iter().any(|other| !tried.contains(&other.runtime.id));
                    if another && tried.len() as u32 <= MAX_CONNECT_RETRIES {
                        continue;
                    }
                    return Err(CallFailure::Connect(failure));
                }
            };
            let attempt =
                Attempt { cluster: self.cluster, host: &host, connection: checkout.info(), number: *number };
            on_attempt(head, &attempt);
            state.cells.requests.increment();
            match self.send(head, body, checkout, pool, active, replace_stale).await {
                Next::Done(result) => return result,
                Next::Again(again) => {
                    body = again;
                    replace_stale = false;
                }
            }
        }
    }

    async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        checkout: Checkout,
        pool: Rc<HostPool>,
        active: ActiveRequest,
        may_repeat: bool,
    ) -> Next {
        match checkout.send(head, body, self.informational, move || drop(active)).await {
            Ok((head, body)) => Next::Done(Ok(Answer { head, body, pool })),
            Err(mut error) => match unused_body(head, &mut error) {
                Some(body) if may_repeat && repeatable(&head.method, &error) => Next::Again(body),
                _ => Next::Done(Err(CallFailure::Send {
                    blame: error.blame,
                    reason: error.reason,
                    detail: error.detail.into_owned(),
                })),
            },
        }
    }
}

/// The request's body, when nothing was taken from it.
fn unused_body(head: &RequestHead, error: &mut SendError) -> Option<Body> {
    error.body.take().or_else(|| (head.length == BodyLength::None).then(Body::empty))
}

/// Whether sending again cannot do the work twice: nothing was sent, or the connection had been idle and the method is
/// idempotent (RFC 9110, section 9.2.2).
fn repeatable(method: &Method, error: &SendError) -> bool {
    error.safe_to_retry || (error.stale_connection && method.is_idempotent())
}

#[cfg(test)]
#[path = "call_tests.rs"]
mod tests;
