//! Istio's metrics of TCP connections (`istio.stats` before `tcp_proxy`): counted when a connection begins and ends,
//! its bytes also in between.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::copy::Copied;
use crate::filter::{Downstream, Worker};
use crate::telemetry::ResponseFlags;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::{ConnectionSecurity, Protocol, Reporter, RequestLabels, Service, Workload};
use crate::telemetry::log_value::LogContext;
use crate::telemetry::metric_set::MetricSet;
use crate::telemetry::shape::{self, Shape};
use crate::telemetry::tcp_cells::TcpCells;

/// How the connections of one filter chain are counted.
#[derive(Debug)]
pub struct Counting {
    /// Which side of a call this proxy reports.
    pub reporter: Reporter,
    /// How often an open connection is counted up.
    pub interval: Duration,
    /// Which metrics with which labels.
    pub shapes: Vec<Shape>,
}

/// A connection that is counted.
#[derive(Debug)]
pub struct Counted {
    counting: Arc<Counting>,
    parties: Parties,
    /// Of each shape: the labels that Telemetry sets, as they were when the connection began.
    values: Vec<String>,
    copied: Rc<Cell<Copied>>,
    reported: Cell<Copied>,
    /// Ticks until the next report.
    due: Cell<u32>,
}

/// The counted connections of one worker that are open. Bytes of long ones are added while they last.
#[derive(Debug, Default)]
pub struct OpenConnections {
    open: RefCell<Vec<Weak<Counted>>>,
    begun: tokio::sync::Notify,
}

/// How often open connections are looked at.
const TICK: Duration = Duration::from_millis(500);

impl OpenConnections {
    /// A connection begins.
    pub fn begin(
        &self,
        worker: &Worker,
        counting: &Arc<Counting>,
        parties: Parties,
        context: &LogContext<'_>,
        copied: &Rc<Cell<Copied>>,
    ) -> Rc<Counted> {
        let values = |shape: &Shape| {
            shape.change.as_deref().map(|change| shape::values(change, context)).unwrap_or_default()
        };
        let counted = Rc::new(Counted {
            counting: counting.clone(),
            parties,
            values: counting.shapes.iter().map(values).collect(),
            copied: copied.clone(),
            reported: Cell::default(),
            due: Cell::new(ticks(counting.interval)),
        });
        counted.each(worker, ResponseFlags::NONE, |metrics, cells| {
            if metrics.has(MetricSet::TCP_OPENED) {
                cells.opened.increment();
            }
        });
        self.open.borrow_mut().push(Rc::downgrade(&counted));
        self.begun.notify_one();
        counted
    }

    /// Counts the open connections up, for ever; waits without a timer while there are none.
    pub async fn report(&self, worker: &Worker) {
        loop {
            if self.open.borrow().is_empty() {
                self.begun.notified().await;
            }
            tokio::time::sleep(TICK).await;
            self.open.borrow_mut().retain(|open| {
                let Some(counted) = open.upgrade() else { return false };
                counted.tick(worker);
                true
            });
        }
    }
}

fn ticks(interval: Duration) -> u32 {
    u32::try_from(interval.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX).max(1)
}

impl Counted {
    fn tick(&self, worker: &Worker) {
        match self.due.get() {
            0 | 1 => {
                self.due.set(ticks(self.counting.interval));
                self.add_bytes(worker, ResponseFlags::NONE);
            }
            more => self.due.set(more - 1),
        }
    }

    /// Adds the bytes that were copied since the last time.
    fn add_bytes(&self, worker: &Worker, flags: ResponseFlags) {
        let (now, before) = (self.copied.get(), self.reported.replace(self.copied.get()));
        if now == before {
            return;
        }
        self.each(worker, flags, |metrics, cells| {
            // In Istio's words what comes from the called side is sent, and what comes from the caller is received.
            if metrics.has(MetricSet::TCP_SENT) {
                cells.sent.add(now.received - before.received);
            }
            if metrics.has(MetricSet::TCP_RECEIVED) {
                cells.received.add(now.sent - before.sent);
            }
        });
    }

    /// It has ended.
    pub fn end(&self, worker: &Worker, flags: ResponseFlags) {
        self.add_bytes(worker, flags);
        self.each(worker, flags, |metrics, cells| {
            if metrics.has(MetricSet::TCP_CLOSED) {
                cells.closed.increment();
            }
        });
    }

    fn each(&self, worker: &Worker, flags: ResponseFlags, add: impl Fn(MetricSet, &TcpCells)) {
        let labels = self.parties.labels(self.counting.reporter, flags);
        for (shape, values) in self.counting.shapes.iter().zip(&self.values) {
            add(shape.metrics, &worker.metrics.connection(&labels, shape, values).cells);
        }
    }
}

/// Who speaks with whom, as far as this side knows.
#[derive(Debug)]
pub struct Parties {
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
                source: own.clone(),
                source_principal: called.map_or_else(|| principal(None), |it| it.own_principal.clone()),
                destination: called.map_or(unknown, |it| it.workload.clone()),
                destination_principal: called.map_or_else(|| principal(None), |it| it.principal.clone()),
                service,
                security: ConnectionSecurity::Unknown,
            },
        }
    }

    fn labels(&self, reporter: Reporter, flags: ResponseFlags) -> RequestLabels<'_> {
        RequestLabels {
            reporter,
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
