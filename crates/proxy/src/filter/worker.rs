//! What the requests of one worker share, and what all workers share.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, UNIX_EPOCH};

use bytes::Bytes;
use config::model::{self, Node};

use super::denial_log::DenialLog;
use super::retried::RetriedRequests;
use crate::route::LiveRouting;
use crate::telemetry::access_log::Outlets;
use crate::telemetry::cells::Counter;
use crate::telemetry::export::Exports;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::Workload;
use crate::telemetry::log_sink::LogSinks;
use crate::telemetry::log_value::LogContext;
use crate::telemetry::peer_metadata::OwnMetadata;
use crate::telemetry::recent::{Recent, RecentRequests};
use crate::telemetry::record::ConnectionFacts;
use crate::telemetry::trace::Tracers;
use crate::telemetry::trace::context_watch::{Calls, ContextWatch};
use crate::telemetry::trace::sampling::Reason;
use crate::telemetry::wall_clock::WallClock;
use crate::telemetry::watch::Watches;
use crate::telemetry::{Random, Registry, RequestRecord, WorkerMetrics, families, start_time};
use crate::upstream::UpstreamWorker;

/// What all workers share.
#[derive(Debug)]
pub struct Shared {
    /// All metrics.
    pub registry: Arc<Registry>,
    /// Open access log sinks.
    pub sinks: LogSinks,
    /// Requests that people may ask about.
    pub recent: RecentRequests,
    /// Requests that somebody watches.
    pub watches: Arc<Watches>,
    /// Routes and clusters in use.
    pub routing: Arc<LiveRouting>,
    /// Requests that failed after retries.
    pub retried: RetriedRequests,
    /// Who this proxy is.
    pub node: Node,
    /// Tracers in use.
    pub tracers: Tracers,
    /// Makes spans for listeners that ask for traces and name nobody.
    pub default_tracer: Option<Arc<model::Tracer>>,
    /// Whether the program passes context on.
    pub context_watch: ContextWatch,
    /// Telemetry on its way to collectors.
    pub exports: Exports,
    /// Who this proxy is, for its peers.
    pub own: OwnMetadata,
    /// Who this proxy is, for logs and peers: `namespace/workload`.
    pub own_name: Arc<str>,
    /// Who this proxy is, for metrics.
    pub own_workload: Interned<Workload>,
}

impl Shared {
    /// For a proxy of that node.
    pub fn new(node: &Node, registry: Arc<Registry>, routing: Arc<LiveRouting>) -> Arc<Self> {
        Self::with_tracer(node, None, registry, routing)
    }

    /// The same for a proxy whose bootstrap names a tracer.
    pub fn with_tracer(
        node: &Node,
        default_tracer: Option<Arc<model::Tracer>>,
        registry: Arc<Registry>,
        routing: Arc<LiveRouting>,
    ) -> Arc<Self> {
        let own = OwnMetadata::from_node(node);
        let own_workload = registry.workloads.intern(Arc::new(own.workload.clone()));
        Arc::new(Self {
            sinks: LogSinks::new(registry.clone()),
            recent: RecentRequests::default(),
            watches: Arc::default(),
            retried: RetriedRequests::default(),
            node: node.clone(),
            tracers: Tracers::new(node, registry.clone()),
            default_tracer,
            context_watch: ContextWatch::default(),
            exports: Exports::default(),
            registry,
            routing,
            own_name: format!("{}/{}", own_workload.namespace, own_workload.workload).into(),
            own,
            own_workload,
        })
    }
}

impl Shared {
    /// What access logs are opened with.
    pub fn outlets(&self) -> Outlets<'_> {
        Outlets { sinks: &self.sinks, exports: &self.exports, node: &self.node }
    }
}

/// A worker's counters of one connection manager.
#[derive(Debug)]
pub struct HttpCells {
    /// Requests received.
    pub requests: Arc<Counter>,
    /// Requests by class of status: `1xx` first.
    pub by_class: [Arc<Counter>; 5],
    /// Requests that a policy denied.
    pub denied: Arc<Counter>,
    /// Requests that every policy allowed.
    pub allowed: Arc<Counter>,
}

/// A worker's counts of what one connection manager traces.
#[derive(Debug)]
pub struct TracingCells([Arc<Counter>; 4]);

impl TracingCells {
    /// The count of requests with that reason.
    pub fn of(&self, reason: Reason) -> &Counter {
        &self.0[reason as usize]
    }
}

/// One worker. Stays on its thread.
pub struct Worker {
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Its number.
    pub number: usize,
    /// This worker's metrics.
    pub metrics: WorkerMetrics,
    /// This worker's pools.
    pub upstream: UpstreamWorker,
    /// This worker's random numbers.
    pub random: Random,
    /// Requests that people may ask about.
    pub recent: Arc<Recent>,
    /// Lines about denied requests.
    pub denials: DenialLog,
    /// What time it is for people.
    pub wall_clock: WallClock,
    /// What the program's calls carry.
    pub calls: Arc<Calls>,
    cells: RefCell<HashMap<Arc<str>, Rc<HttpCells>>>,
    tracing: RefCell<HashMap<Arc<str>, Rc<TracingCells>>>,
    date: RefCell<(u64, Bytes)>,
}

impl Worker {
    /// A worker that has served nothing yet.
    pub fn new(shared: &Arc<Shared>) -> Rc<Self> {
        Rc::new(Self {
            shared: shared.clone(),
            number: shared.watches.worker(),
            metrics: WorkerMetrics::new(shared.registry.clone()),
            upstream: UpstreamWorker::new(shared.registry.clone()),
            random: Random::from_system(),
            recent: shared.recent.worker(),
            denials: DenialLog::default(),
            wall_clock: WallClock::default(),
            cells: RefCell::default(),
            calls: shared.context_watch.worker(),
            tracing: RefCell::default(),
            date: RefCell::default(),
        })
    }

    /// This worker's counters of the connection managers with that prefix.
    pub fn http_cells(&self, stat_prefix: &Arc<str>) -> Rc<HttpCells> {
        let mut all = self.cells.borrow_mut();
        if let Some(cells) = all.get(stat_prefix) {
            return cells.clone();
        }
        let prefix = || ("envoy_http_conn_manager_prefix", stat_prefix.to_string());
        let registry = &self.shared.registry;
        let class = |class: usize| {
            let labels = vec![("envoy_response_code_class", (class + 1).to_string()), prefix()];
            registry.counter(&families::HTTP_REQUESTS_BY_CLASS, labels)
        };
        let cells = Rc::new(HttpCells {
            requests: registry.counter(&families::HTTP_REQUESTS, vec![prefix()]),
            by_class: std::array::from_fn(class),
            denied: registry.counter(&families::RBAC_DENIED, vec![prefix()]),
            allowed: registry.counter(&families::RBAC_ALLOWED, vec![prefix()]),
        });
        all.insert(stat_prefix.clone(), cells.clone());
        cells
    }

    /// This worker's counts of what the connection managers with that prefix trace.
    pub fn tracing_cells(&self, stat_prefix: &Arc<str>) -> Rc<TracingCells> {
        let mut all = self.tracing.borrow_mut();
        if let Some(cells) = all.get(stat_prefix) {
            return cells.clone();
        }
        // In the order of the reasons.
        let families = [
            &families::TRACING_NOT_TRACEABLE,
            &families::TRACING_RANDOM_SAMPLING,
            &families::TRACING_SERVICE_FORCED,
            &families::TRACING_CLIENT_ENABLED,
        ];
        let labels = || vec![("envoy_http_conn_manager_prefix", stat_prefix.to_string())];
        let cells = families.map(|family| self.shared.registry.counter(family, labels()));
        let cells = Rc::new(TracingCells(cells));
        all.insert(stat_prefix.clone(), cells.clone());
        cells
    }

    /// The `date` header for that moment: formatted once per second.
    pub fn date(&self, now: Instant) -> Bytes {
        let now = self.wall_clock.at(now);
        let second = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut date = self.date.borrow_mut();
        if date.0 != second || date.1.is_empty() {
            *date = (second, Bytes::from(start_time::http_date(now)));
        }
        date.1.clone()
    }

    /// What formats and expressions read about something that has a record and a connection and no head.
    pub fn log_context<'a>(
        &'a self,
        record: &'a RequestRecord,
        connection: &'a ConnectionFacts,
    ) -> LogContext<'a> {
        LogContext {
            record,
            connection,
            own_name: &self.shared.own_name,
            node: &self.shared.node,
            captures: None,
            caller: None,
            called: None,
            span: None,
            upstream_principals: None,
            random: &self.random,
        }
    }

    /// Closes idle upstream connections in time, for ever: one task per worker.
    pub async fn maintain(&self) {
        self.upstream.maintain().await;
    }
}
