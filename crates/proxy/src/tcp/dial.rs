//! The upstream connection of a forwarded one: cluster, host, connect with attempts. It can be made before it is known
//! whether it is wanted; then its first bytes are held.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use base::Reason;
use bytes::{Bytes, BytesMut};
use config::model::{Priority, TcpCluster, TcpProxy};
use tokio::io::{AsyncRead, ReadBuf};

use super::forward::Forwarder;
use super::metrics::Called;
use crate::telemetry::cells::Gauge;
use crate::telemetry::{RequestRecord, ResponseFlags};
use crate::upstream::balance::Tried;
use crate::upstream::checkout::Slots;
use crate::upstream::connect::{ConnectFailure, connect};
use crate::upstream::outlier::{Outcome, report};
use crate::upstream::stream::UpstreamStream;

/// The most bytes of a server that speaks first that are held; more are not read.
const GREETING: usize = 1024;

/// An upstream connection that nobody uses yet.
#[derive(Debug)]
pub struct Dialled {
    /// The clusters that it was chosen from.
    pub choice: TcpCluster,
    pub(super) stream: UpstreamStream,
    pub(super) record: RequestRecord,
    pub(super) called: Called,
    /// Its places in the limits of connections and in the gauge.
    pub(super) places: (Slots, Open),
    greeting: BytesMut,
}

impl Dialled {
    /// Ready when the server has said something or ended; it is held, and nothing more is read.
    pub fn poll_greeting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.greeting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut bytes = [0; GREETING];
        let mut buffer = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        self.greeting.extend_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    /// Whether the server began as one of HTTP/2 does, with its settings (RFC 9113, section 3.4). Its clients need not wait
    /// for them, so that they say nothing about who speaks first.
    pub fn greets_in_http2(&self) -> bool {
        matches!(&self.greeting[..], [0, _, length, 4, 0, 0, 0, 0, 0, ..] if length % 6 == 0)
    }

    /// What the server said.
    pub(super) fn take_greeting(&mut self) -> Bytes {
        self.greeting.split().freeze()
    }
}

/// Counts as open while it lives.
#[derive(Debug)]
pub(super) struct Open(Arc<Gauge>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// Why no upstream connection was made.
#[derive(Debug)]
pub enum Failure {
    /// The configuration names a cluster that is not there.
    NoCluster(Option<Arc<str>>),
    /// The cluster has no usable host, and why.
    NoHost(Reason),
    /// A limit of the circuit breaker is reached.
    Overflow,
    /// No host could be connected to.
    Connect(ConnectFailure),
}

impl Failure {
    /// The row of the table.
    pub fn reason(&self) -> Reason {
        match self {
            Failure::NoCluster(_) => Reason::NoCluster,
            Failure::NoHost(reason) => *reason,
            Failure::Overflow => Reason::Overflow,
            Failure::Connect(failure) => failure.reason,
        }
    }
}

/// The record of a connection that begins now.
pub fn record() -> RequestRecord {
    RequestRecord::new(SystemTime::now(), Instant::now(), "-")
}

/// Makes the upstream connection of a TCP proxy. What is found out stands in the record, also when it fails.
///
/// # Errors
/// Nothing was sent to anybody.
pub async fn dial(
    forwarder: &Forwarder,
    proxy: &TcpProxy,
    mut record: RequestRecord,
) -> Result<Dialled, (Failure, Box<RequestRecord>)> {
    match open(forwarder, proxy, &mut record).await {
        Ok(opened) => {
            let Opened { stream, local, called, places } = opened;
            record.upstream_local = local;
            let choice = proxy.cluster.clone();
            Ok(Dialled { choice, stream, record, called, places, greeting: BytesMut::new() })
        }
        Err(failure) => {
            record.fail(failure.reason());
            if let Failure::Connect(failure) = &failure {
                record.flags.set(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
                record.transport_failure = Cow::Owned(failure.detail.clone());
            }
            Err((failure, Box::new(record)))
        }
    }
}

fn tried_hosts(hosts: &[u64]) -> Tried<'_> {
    Tried { hosts, attempts: u32::MAX }
}

/// An open connection with what is known about it.
struct Opened {
    stream: UpstreamStream,
    local: Option<SocketAddr>,
    called: Called,
    places: (Slots, Open),
}

async fn open(
    forwarder: &Forwarder,
    proxy: &TcpProxy,
    record: &mut RequestRecord,
) -> Result<Opened, Failure> {
    let name = forwarder.cluster_name(&proxy.cluster).ok_or(Failure::NoCluster(None))?;
    let cluster = forwarder.worker.shared.routing.load().clusters.get(name).cloned();
    let cluster = cluster.ok_or_else(|| Failure::NoCluster(Some(name.clone())))?;
    record.upstream_cluster = Some(name.clone());
    let balancer = forwarder.balancer(&cluster);
    let state = forwarder.worker.upstream.cluster(&cluster);
    let mut tried = Vec::new();
    let mut last = Failure::NoHost(cluster.why_no_host());
    for _ in 0..proxy.max_connect_attempts.max(1) {
        let hosts = cluster.hosts();
        let random = &forwarder.worker.random;
        let Some(host) = balancer.pick(cluster.config.lb_policy, &hosts, random, tried_hosts(&tried)) else {
            return Err(last);
        };
        let breakers = &cluster.config.circuit_breakers;
        let Some(places) = state.places(&host, breakers, Priority::Default) else {
            state.cells.connection_overflow.increment();
            return Err(Failure::Overflow);
        };
        record.attempts += 1;
        record.upstream_host = Some(host.address_text.clone());
        record.timeline.begin(&host.address_text, Instant::now());
        match connect(&host, &cluster.config, None, &forwarder.worker.shared.registry).await {
            Ok((stream, info)) => {
                host.runtime.reach.worked();
                report(&cluster, &host, Outcome::Reached, random);
                state.cells.connections.increment();
                state.cells.connections_active.add(1);
                record.timeline.opening(Some(info.opening));
                record.timeline.sent(info.local, Instant::now());
                let called = Called {
                    workload: host.workload.clone(),
                    principal: info.peer_principal,
                    own_principal: info.own_principal,
                    service: cluster.service.clone(),
                };
                let places = (places, Open(state.cells.connections_active.clone()));
                return Ok(Opened { stream, local: info.local, called, places });
            }
            Err(failure) => {
                host.runtime.reach.failed();
                record.timeline.opening(failure.opening);
                record.timeline.failed(failure.reason, Instant::now());
                let outcome = if failure.timed_out { Outcome::TimedOut } else { Outcome::Failed };
                report(&cluster, &host, outcome, random);
                state.cells.connect_failures.increment();
                if failure.timed_out {
                    state.cells.connect_timeouts.increment();
                }
                last = Failure::Connect(failure);
            }
        }
        tried.push(host.runtime.id);
    }
    Err(last)
}
