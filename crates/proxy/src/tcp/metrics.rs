//! Istio's metrics of TCP connections (`istio.stats` before `tcp_proxy`): counted when a connection begins and ends.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::copy::Copied;
use crate::filter::{Downstream, Worker};
use crate::telemetry::cells::Counter;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::{
    ConnectionSecurity, LABEL_NAMES, Protocol, Reporter, RequestLabels, SeriesKey, Service, Workload,
};
use crate::telemetry::{ResponseFlags, families};

/// The most series of one worker; connections beyond are counted in one series of `other` labels.
const MAX_SERIES: usize = 500;
/// Labels that a connection has no values for.
const OF_REQUESTS: [&str; 2] = ["response_code", "grpc_response_status"];

/// The numbers of one set of labels on one worker.
#[derive(Debug)]
struct TcpCells {
    opened: Arc<Counter>,
    closed: Arc<Counter>,
    sent: Arc<Counter>,
    received: Arc<Counter>,
}

/// One worker's numbers.
#[derive(Debug, Default)]
pub struct TcpMetrics {
    series: RefCell<HashMap<SeriesKey, Rc<TcpCells>>>,
    other: RefCell<Option<Rc<TcpCells>>>,
}

/// Who speaks with whom, as far as this side knows.
#[derive(Debug)]
pub struct Parties {
    reporter: Reporter,
    source: Interned<Workload>,
    source_principal: Interned<str>,
    destination: Interned<Workload>,
    destination_principal: Interned<str>,
    service: Interned<Service>,
    security: ConnectionSecurity,
}

/// What is known about the upstream side.
#[derive(Debug)]
pub struct Called {
    /// The host's workload.
    pub workload: Interned<Workload>,
    /// The id that it proved.
    pub principal: Interned<str>,
    /// The id that we proved to it.
    pub own_principal: Interned<str>,
    /// The cluster's service.
    pub service: Option<Interned<Service>>,
}

impl Parties {
    /// Of a connection that was forwarded to that upstream, or to none.
    pub fn new(
        worker: &Worker,
        reporter: Reporter,
        downstream: &Downstream,
        called: Option<&Called>,
    ) -> Self {
        let registry = worker.metrics.registry();
        let (own, unknown) = (&worker.shared.own_workload, registry.workloads.unknown());
        let principal = |text: Option<&str>| match text {
            Some(text) => registry.principals.intern(text.into()),
            None => registry.principals.unknown(),
        };
        let service = called.and_then(|called| called.service.clone());
        let service = service.unwrap_or_else(|| registry.services.unknown());
        let session = downstream.session.as_ref();
        let peer = session.and_then(|session| session.peer.as_deref());
        match reporter {
            Reporter::Destination => Parties {
                reporter,
                // A connection carries no metadata of its caller, only its certificate.
                source: unknown,
                source_principal: principal(peer.and_then(|peer| peer.uri_sans.first()).map(String::as_str)),
                destination: own.clone(),
                destination_principal: principal(session.and_then(|session| session.local_uri.as_deref())),
                service,
                security: match peer {
                    Some(_) => ConnectionSecurity::MutualTls,
                    None => ConnectionSecurity::None,
                },
            },
            Reporter::Source => Parties {
                reporter,
                source: own.clone(),
                source_principal: called.map_or_else(|| principal(None), |it| it.own_principal.clone()),
                destination: called.map_or(unknown, |it| it.workload.clone()),
                destination_principal: called.map_or_else(|| principal(None), |it| it.principal.clone()),
                service,
                security: ConnectionSecurity::Unknown,
            },
        }
    }

    fn labels(&self, flags: ResponseFlags) -> RequestLabels<'_> {
        RequestLabels {
            reporter: self.reporter,
            source: &self.source,
            source_principal: &self.source_principal,
            destination: &self.destination,
            destination_principal: &self.destination_principal,
            service: &self.service,
            protocol: Protocol::Tcp,
            code: 0,
            flags,
            security: self.security,
        }
    }
}

impl TcpMetrics {
    /// A connection begins.
    pub fn opened(&self, worker: &Worker, parties: &Parties) {
        self.cells(worker, &parties.labels(ResponseFlags::NONE)).opened.increment();
    }

    /// It has ended.
    pub fn closed(&self, worker: &Worker, parties: &Parties, flags: ResponseFlags, copied: Copied) {
        let cells = self.cells(worker, &parties.labels(flags));
        cells.closed.increment();
        // In Istio's words what comes from the called side is sent, and what comes from the caller is received.
        cells.sent.add(copied.received);
        cells.received.add(copied.sent);
    }

    fn cells(&self, worker: &Worker, labels: &RequestLabels<'_>) -> Rc<TcpCells> {
        let key = labels.key();
        let mut series = self.series.borrow_mut();
        if let Some(cells) = series.get(&key) {
            return cells.clone();
        }
        if series.len() >= MAX_SERIES {
            let other = || Rc::new(TcpCells::new(worker, |name| (name, "other".to_owned())));
            return self.other.borrow_mut().get_or_insert_with(other).clone();
        }
        let pairs: HashMap<&'static str, String> = labels.pairs().into_iter().collect();
        let value = |name| (name, pairs.get(name).cloned().unwrap_or_default());
        let cells = Rc::new(TcpCells::new(worker, value));
        series.insert(key, cells.clone());
        cells
    }
}

impl TcpCells {
    fn new(worker: &Worker, value: impl Fn(&'static str) -> (&'static str, String)) -> Self {
        let names = || LABEL_NAMES.into_iter().filter(|name| !OF_REQUESTS.contains(name));
        let registry = worker.metrics.registry();
        let counter = |family| registry.counter(family, names().map(&value).collect());
        TcpCells {
            opened: counter(&families::TCP_OPENED),
            closed: counter(&families::TCP_CLOSED),
            sent: counter(&families::TCP_SENT_BYTES),
            received: counter(&families::TCP_RECEIVED_BYTES),
        }
    }
}
