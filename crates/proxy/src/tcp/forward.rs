//! One forwarded connection: cluster, host, connect with attempts, copy, access log.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use config::model::{TcpCluster, TcpProxy};
use tokio::io::{AsyncRead, AsyncWrite};

use super::copy::{CopyError, both_ways};
use crate::listen::Connection;
use crate::route::LiveRouting;
use crate::telemetry::access_log::AccessLogs;
use crate::telemetry::log_sink::LogSinks;
use crate::telemetry::{Random, Registry, RequestRecord, ResponseFlags};
use crate::upstream::balance::Balancer;
use crate::upstream::connect::{ConnectFailure, ConnectionInfo, connect};
use crate::upstream::stream::UpstreamStream;
use crate::upstream::{Cluster, Host};

/// What forwarded connections of one worker share.
pub struct Forwarder {
    routing: Arc<LiveRouting>,
    registry: Arc<Registry>,
    sinks: Arc<LogSinks>,
    random: Rc<Random>,
    balancers: RefCell<HashMap<u64, Rc<Balancer>>>,
}

/// The most balancers that are kept; beyond, places are forgotten, which costs a turn of round robin.
const MAX_BALANCERS: usize = 1024;

impl Forwarder {
    /// A worker's forwarder.
    pub fn new(routing: Arc<LiveRouting>, registry: Arc<Registry>, sinks: Arc<LogSinks>, random: Rc<Random>) -> Self {
        Forwarder { routing, registry, sinks, random, balancers: RefCell::default() }
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
                let mut point = self.random.below(*total);
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

/// Forwards one connection to its end.
pub async fn forward<IO>(worker: &Forwarder, proxy: &Arc<TcpProxy>, stream: IO, connection: &Connection)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut record = RequestRecord::new(SystemTime::now(), Instant::now(), "-");
    let peer = connection.remote;
    match open(worker, proxy, &mut record).await {
        Ok((upstream, info)) => {
            record.upstream_local = info.local;
            let copy = both_ways(stream, upstream, proxy.idle_timeout);
            let (copied, result) = both_ways(stream, upstream, proxy.idle_timeout).await;
            record.request_body_bytes = copied.sent;
            record.response_body_bytes = copied.received;
            match result {
                Ok(()) => {}
                Err(CopyError::Idle(_)) => record.details = Cow::Borrowed("idle_timeout"),
                Err(CopyError::Io(error)) => tracing::debug!(%peer, "forwarding ended: {error}"),
            }
        }
        Err(Failure::NoCluster(name)) => {
            record.flags.set(ResponseFlags::NO_CLUSTER);
            tracing::debug!(%peer, cluster = name.as_deref().unwrap_or("-"), "closed: the cluster is not there");
        }
        Err(Failure::NoHost) => record.flags.set(ResponseFlags::NO_HEALTHY_UPSTREAM),
        Err(Failure::Connect(failure)) => {
            record.flags.set(ResponseFlags::UPSTREAM_CONNECTION_FAILURE);
            tracing::debug!(%peer, "closed: {failure}");
            record.transport_failure = Cow::Owned(failure.detail);
        }
    }
    record.end = Some(Instant::now());
    log(worker, proxy, &record, connection);
}

async fn open(
    worker: &Forwarder,
    proxy: &TcpProxy,
    record: &mut RequestRecord,
) -> Result<(UpstreamStream, ConnectionInfo), Failure> {
    let name = worker.cluster_name(&proxy.cluster).ok_or(Failure::NoCluster(None))?;
    let cluster = worker.routing.load().clusters.get(name).cloned();
    let cluster = cluster.ok_or_else(|| Failure::NoCluster(Some(name.clone())))?;
    record.upstream_cluster = Some(name.clone());
    let balancer = worker.balancer(&cluster);
    let mut tried = Vec::new();
    let mut last = Failure::NoHost;
    for _ in 0..proxy.max_connect_attempts.max(1) {
        let host: Arc<Host> =
            match balancer.pick(cluster.config.lb_policy, &cluster.hosts(), &worker.random, &tried) {
                Some(host) => host,
                None => return Err(last),
            };
        record.attempts += 1;
        record.upstream_host = Some(host.address_text.clone());
        match connect(&host, &cluster.config, &worker.registry).await {
            Ok(open) => return Ok(open),
            Err(failure) => last = Failure::Connect(failure),
        }
        tried.push(host.runtime.id);
    }
    Err(last)
}

fn log(worker: &Forwarder, proxy: &TcpProxy, record: &RequestRecord, connection: &Connection) {
    if proxy.access_log.is_empty() {
        return;
    }
    match AccessLogs::compile(&proxy.access_log, &worker.sinks) {
        Ok(logs) => logs.write(record, &connection.facts()),
        Err(error) => tracing::warn!("{error}"),
    }
}
