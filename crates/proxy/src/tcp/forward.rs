//! One forwarded connection: cluster, host, connect with attempts, copy, access log.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use config::model::{TcpCluster, TcpProxy};
use tokio::io::{AsyncRead, AsyncWrite};

use super::copy::{Copied, CopyError, both_ways};
use crate::filter::{Downstream, Worker};
use crate::telemetry::access_log::AccessLogs;
use crate::telemetry::record::ConnectionFacts;
use crate::telemetry::{RequestRecord, ResponseFlags};
use crate::upstream::balance::Balancer;
use crate::upstream::connect::{ConnectFailure, ConnectionInfo, connect};
use crate::upstream::stream::UpstreamStream;
use crate::upstream::{Cluster, Host};

/// What forwarded connections of one worker share.
pub struct Forwarder {
    worker: Rc<Worker>,
    balancers: RefCell<HashMap<u64, Rc<Balancer>>>,
}

/// The most balancers that are kept; beyond, places are forgotten, which costs a turn of round robin.
const MAX_BALANCERS: usize = 1024;

impl Forwarder {
    /// A worker's forwarder.
    pub fn new(worker: Rc<Worker>) -> Self {
        Forwarder { worker, balancers: RefCell::default() }
    }

    fn balancer(&self, cluster: &Cluster) -> Rc<Balancer> {
        let mut balancers = self.balancers.borrow_mut();
        if balancers.len() >= MAX_BALANCERS {
            balancers.clear();
        }
        balancers.entry(cluster.identity.id).or_default().clone()
    }

    fn cluster_name<'a>(&self, choice: &'a TcpCluster) -> Option<&'a Arc<str>> {
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
}

/// Why no upstream connection was made.
enum Failure {
    NoCluster(Option<Arc<str>>),
    NoHost,
    Connect(ConnectFailure),
}

/// Writes the log line when the connection has ended, also when it is cut (by a drain, by the end of the process).
struct Logged<'a> {
    forwarder: &'a Forwarder,
    proxy: &'a TcpProxy,
    downstream: &'a Downstream,
    record: RequestRecord,
    copied: Cell<Copied>,
}

impl Drop for Logged<'_> {
    fn drop(&mut self) {
        let copied = self.copied.get();
        self.record.request_body_bytes = copied.sent;
        self.record.response_body_bytes = copied.received;
        self.record.end = Some(Instant::now());
        log(self.forwarder, self.proxy, &self.record, self.downstream);
    }
}

/// Forwards one connection to its end.
pub async fn forward<IO>(forwarder: &Forwarder, proxy: &Arc<TcpProxy>, stream: IO, downstream: &Downstream)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let record = RequestRecord::new(SystemTime::now(), Instant::now(), "-");
    let mut logged = Logged { forwarder, proxy, downstream, record, copied: Cell::default() };
    let peer = downstream.remote;
    match open(forwarder, proxy, &mut logged.record).await {
        Ok((upstream, info)) => {
            logged.record.upstream_local = info.local;
            match both_ways(stream, upstream, proxy.idle_timeout, &logged.copied).await {
                Ok(()) => {}
                Err(CopyError::Idle(_)) => logged.record.details = Cow::Borrowed("idle_timeout"),
                Err(CopyError::Io(error)) => tracing::debug!(%peer, "forwarding ended: {error}"),
            }
        }
        Err(Failure::NoCluster(name)) => {
            logged.record.flags.set(ResponseFlags::NO_CLUSTER);
            tracing::debug!(%peer, cluster = name.as_deref().unwrap_or("-"), "closed: the cluster is not there");
        }
        Err(Failure::NoHost) => logged.record.flags.set(ResponseFlags::NO_HEALTHY_UPSTREAM),
        Err(Failure::Connect(failure)) => {
            logged.record.flags.set(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
            tracing::debug!(%peer, "closed: {failure}");
            logged.record.transport_failure = Cow::Owned(failure.detail);
        }
    }
}

async fn open(
    forwarder: &Forwarder,
    proxy: &TcpProxy,
    record: &mut RequestRecord,
) -> Result<(UpstreamStream, ConnectionInfo), Failure> {
    let name = forwarder.cluster_name(&proxy.cluster).ok_or(Failure::NoCluster(None))?;
    let cluster = forwarder.worker.shared.routing.load().clusters.get(name).cloned();
    let cluster = cluster.ok_or_else(|| Failure::NoCluster(Some(name.clone())))?;
    record.upstream_cluster = Some(name.clone());
    let balancer = forwarder.balancer(&cluster);
    let mut tried = Vec::new();
    let mut last = Failure::NoHost;
    for _ in 0..proxy.max_connect_attempts.max(1) {
        let host: Arc<Host> =
            match balancer.pick(cluster.config.lb_policy, &cluster.hosts(), &forwarder.worker.random, &tried)
            {
                Some(host) => host,
                None => return Err(last),
            };
        record.attempts += 1;
        record.upstream_host = Some(host.address_text.clone());
        match connect(&host, &cluster.config, &forwarder.worker.shared.registry).await {
            Ok(open) => return Ok(open),
            Err(failure) => last = Failure::Connect(failure),
        }
        tried.push(host.runtime.id);
    }
    Err(last)
}

fn log(forwarder: &Forwarder, proxy: &TcpProxy, record: &RequestRecord, downstream: &Downstream) {
    if proxy.access_log.is_empty() {
        return;
    }
    match AccessLogs::compile(&proxy.access_log, &forwarder.worker.shared.sinks) {
        Ok(logs) => logs.write(record, &facts(downstream)),
        Err(error) => tracing::warn!("{error}"),
    }
}

fn facts(downstream: &Downstream) -> ConnectionFacts {
    let session = downstream.session.as_ref();
    let peer = session.and_then(|session| session.peer.as_deref());
    let text = |text: Option<&str>| Arc::from(text.unwrap_or_default());
    ConnectionFacts {
        local: downstream.local,
        remote: downstream.remote,
        server_name: text(session.and_then(|session| session.sni.as_deref())),
        peer_uri_sans: text(peer.map(|peer| peer.uri_sans.join(",")).as_deref()),
        peer_subject: text(peer.map(|peer| peer.subject.as_str())),
        local_uri_sans: text(session.and_then(|session| session.local_uri.as_deref())),
        tls_version: session.map_or("", |session| session.version),
    }
}
