//! Who owns which numbers: workers own cells, the registry knows all cells and merges them when it is scraped.
//!
//! The registry's locks are taken when a series or a label value appears for the first time on a worker, and by the
//! scraper; never by a request whose series its worker has seen before.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::cells::{Counter, Gauge};
use super::intern::{Interned, Interner};
use super::labels::{LABEL_NAMES, RequestLabels, Service, Workload};
use super::metric_set::MetricSet;
use super::request_cells::{MergedRequests, RequestCells, RequestSample};
use super::series::{Budget, Labels, Slot, Table, WorkerSeries};
use super::shape::Shape;
use super::tcp_cells::{MergedTcp, TcpCells};

/// The most series of Istio's metrics where nothing else is asked for.
pub const DEFAULT_SERIES: usize = 2_000;
/// How long a series stays without a sample.
pub const SERIES_IDLE: Duration = Duration::from_secs(15 * 60);
/// The most hosts, and the most values of set labels, that one worker remembers.
const MAX_REMEMBERED: usize = 512;

/// A series with the metrics that it shows.
pub type Shown<M> = (Arc<Labels>, MetricSet, M);

/// Name, help and kind of one of the simple metrics.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// Full name.
    pub name: &'static str,
    /// One line for people.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
}

/// Label names and values of a simple metric.
pub type SimpleLabels = Vec<(&'static str, String)>;

/// Metrics that are read off when somebody scrapes.
pub trait Computed: std::fmt::Debug + Send + Sync {
    /// Calls `add` with family, labels and value of each.
    fn values(&self, add: &mut dyn FnMut(&'static Family, SimpleLabels, i128));
}

#[derive(Debug, Default)]
struct SimpleSeries {
    counters: Vec<Weak<Counter>>,
    gauges: Vec<Weak<Gauge>>,
    shared: Vec<Weak<AtomicU64>>,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Registry {
    /// Workloads that appear in labels.
    pub workloads: Interner<Workload>,
    /// Services that appear in labels.
    pub services: Interner<Service>,
    /// SPIFFE ids that appear in labels.
    pub principals: Interner<str>,
    /// Values of labels that Telemetry sets.
    pub values: Interner<str>,
    /// How many series there may be.
    pub budget: Arc<Budget>,
    requests: Arc<Table<RequestCells>>,
    connections: Arc<Table<TcpCells>>,
    shapes: AtomicU32,
    simple: Mutex<BTreeMap<(&'static Family, SimpleLabels), SimpleSeries>>,
    computed: Mutex<Vec<Weak<dyn Computed>>>,
    not_acting: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

/// A registry's lock; a panic of another holder leaves nothing half done, so its data stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// A registry without series, for the default number of them.
    pub fn new() -> Self {
        Self::with_budget(DEFAULT_SERIES)
    }

    /// A registry without series, for at most `series` of Istio's metrics.
    pub fn with_budget(series: usize) -> Self {
        let budget = Arc::new(Budget::new(series));
        Self {
            workloads: Interner::new(Arc::new(Workload::unknown()), Arc::new(Workload::all("other"))),
            services: Interner::new(Arc::new(Service::all("unknown")), Arc::new(Service::all("other"))),
            principals: Interner::of_texts(),
            values: Interner::of_texts(),
            requests: Arc::new(Table::new(budget.clone())),
            connections: Arc::new(Table::new(budget.clone())),
            budget,
            shapes: AtomicU32::new(1),
            simple: Mutex::default(),
            computed: Mutex::default(),
            not_acting: Mutex::default(),
        }
    }

    /// A number for a shape of metrics, never given out twice.
    pub fn next_shape(&self) -> u32 {
        self.shapes.fetch_add(1, Ordering::Relaxed)
    }

    /// Retires series without samples since `idle` before `now`, and forgets label values that nobody uses.
    pub fn sweep(&self, now: Instant, idle: Duration) {
        self.requests.sweep(now, idle);
        self.connections.sweep(now, idle);
        self.budget.next_generation();
        self.workloads.sweep();
        self.services.sweep();
        self.principals.sweep();
        self.values.sweep();
    }

    /// Replaces the list of accepted fields of `resource` on which the proxy does not act
    /// (`tulle_config_not_acting`). An empty list removes the resource.
    pub fn set_not_acting(&self, resource: &str, fields: impl IntoIterator<Item = String>) {
        let fields: BTreeSet<String> = fields.into_iter().collect();
        let mut all = lock(&self.not_acting);
        if fields.is_empty() {
            all.remove(resource);
        } else {
            all.insert(resource.to_owned(), fields);
        }
    }

    /// Resources and their fields on which the proxy does not act.
    pub fn not_acting(&self) -> BTreeMap<String, BTreeSet<String>> {
        lock(&self.not_acting).clone()
    }

    /// A counter of the calling worker; it disappears with the last handle of all workers.
    pub fn counter(&self, family: &'static Family, labels: SimpleLabels) -> Arc<Counter> {
        let cell = Arc::new(Counter::default());
        lock(&self.simple).entry((family, labels)).or_default().counters.push(Arc::downgrade(&cell));
        cell
    }

    /// A gauge of the calling worker; it disappears with the last handle of all workers.
    pub fn gauge(&self, family: &'static Family, labels: SimpleLabels) -> Arc<Gauge> {
        let cell = Arc::new(Gauge::default());
        lock(&self.simple).entry((family, labels)).or_default().gauges.push(Arc::downgrade(&cell));
        cell
    }

    /// Shows a number that several threads add to. For what happens rarely; it disappears with its last handle.
    pub fn shared_counter(&self, family: &'static Family, labels: SimpleLabels, cell: &Arc<AtomicU64>) {
        lock(&self.simple).entry((family, labels)).or_default().shared.push(Arc::downgrade(cell));
    }

    /// Shows what `source` computes for as long as it lives.
    pub fn compute(&self, source: Weak<dyn Computed>) {
        lock(&self.computed).push(source);
    }

    /// The request metrics of all workers, in the order of their labels.
    pub fn merged_requests(&self) -> Vec<Shown<MergedRequests>> {
        let other = self.requests.merged_overflow();
        sorted(self.requests.merged(), other.map(|it| (overflow_labels(true), MetricSet::HTTP, it)))
    }

    /// The metrics of TCP connections of all workers, in the order of their labels.
    pub fn merged_connections(&self) -> Vec<Shown<MergedTcp>> {
        let other = self.connections.merged_overflow();
        sorted(self.connections.merged(), other.map(|it| (overflow_labels(false), MetricSet::TCP, it)))
    }

    /// The simple metrics of all workers: family, labels, value.
    pub fn merged_simple(&self) -> Vec<(&'static Family, SimpleLabels, i128)> {
        let mut simple = lock(&self.simple);
        simple.retain(|_, series| {
            series.counters.retain(|cell| cell.strong_count() > 0);
            series.gauges.retain(|cell| cell.strong_count() > 0);
            series.shared.retain(|cell| cell.strong_count() > 0);
            !(series.counters.is_empty() && series.gauges.is_empty() && series.shared.is_empty())
        });
        let mut merged: Vec<_> = simple
            .iter()
            .map(|((family, labels), series)| {
                let counters =
                    series.counters.iter().filter_map(Weak::upgrade).map(|cell| i128::from(cell.get()));
                let gauges =
                    series.gauges.iter().filter_map(Weak::upgrade).map(|cell| i128::from(cell.get()));
                let shared = series.shared.iter().filter_map(Weak::upgrade);
                let shared = shared.map(|cell| i128::from(cell.load(Ordering::Relaxed)));
                (*family, labels.clone(), counters.chain(gauges).chain(shared).sum())
            })
            .collect();
        drop(simple);
        let mut computed = lock(&self.computed);
        computed.retain(|source| source.strong_count() > 0);
        let sources: Vec<_> = computed.iter().filter_map(Weak::upgrade).collect();
        drop(computed);
        for source in sources {
            source.values(&mut |family, labels, value| merged.push((family, labels, value)));
        }
        merged.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        merged
    }
}

fn sorted<M>(mut series: Vec<Shown<M>>, other: Option<(Labels, MetricSet, M)>) -> Vec<Shown<M>> {
    series.extend(other.map(|(labels, metrics, merged)| (Arc::new(labels), metrics, merged)));
    series.sort_by(|a, b| a.0.cmp(&b.0));
    series
}

/// The overflow series has every label, each with the value `other`.
fn overflow_labels(of_requests: bool) -> Labels {
    let names = LABEL_NAMES.iter().filter(|name| of_requests || !super::labels::OF_REQUESTS.contains(name));
    names.map(|name| ((*name).into(), "other".into())).collect()
}

/// One worker's side of Istio's metrics. Stays on its thread.
#[derive(Debug)]
pub struct WorkerMetrics {
    registry: Arc<Registry>,
    requests: WorkerSeries<RequestCells>,
    connections: WorkerSeries<TcpCells>,
    hosts: RefCell<HashMap<Bytes, Interned<Service>>>,
    values: RefCell<HashMap<Box<str>, Interned<str>>>,
    generation: std::cell::Cell<u64>,
}

impl WorkerMetrics {
    /// A worker's metrics in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        let requests = WorkerSeries::new(registry.requests.clone());
        let connections = WorkerSeries::new(registry.connections.clone());
        let (hosts, values, generation) = Default::default();
        Self { registry, requests, connections, hosts, values, generation }
    }

    /// Where these metrics are merged.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Counts one finished request. One lookup when the worker has seen the labels before. `values` are those of the
    /// labels that the shape sets.
    pub fn count(&self, labels: &RequestLabels<'_>, shape: &Shape, values: &str, sample: &RequestSample) {
        let key = labels.key(shape.number, self.number_of(values));
        let slot = self.requests.slot(&key, shape.metrics, || shape.labels(labels, values));
        slot.cells.add(shape.metrics, sample);
    }

    /// The numbers of a connection.
    pub fn connection(&self, labels: &RequestLabels<'_>, shape: &Shape, values: &str) -> Arc<Slot<TcpCells>> {
        let key = labels.key(shape.number, self.number_of(values));
        self.connections.slot(&key, shape.metrics, || shape.labels(labels, values))
    }

    /// The number that stands for values of labels that Telemetry sets.
    fn number_of(&self, values: &str) -> u64 {
        if values.is_empty() {
            return 0;
        }
        self.forget();
        if let Some(known) = self.values.borrow().get(values) {
            return known.id();
        }
        if self.requests.is_full() {
            return self.registry.values.other().id();
        }
        let interned = self.registry.values.intern(values.into());
        let id = interned.id();
        remember(&self.values, values.into(), interned);
        id
    }

    /// After a sweep nothing is held back any more: what is still in use is found again.
    fn forget(&self) {
        let generation = self.registry.budget.generation();
        if self.generation.replace(generation) != generation {
            self.hosts.borrow_mut().clear();
            self.values.borrow_mut().clear();
        }
    }

    /// The service that a host names, as `make` reads it; strangers' hosts beyond the budget are `other`.
    pub fn host(&self, host: &[u8], make: impl FnOnce() -> Option<Service>) -> Interned<Service> {
        self.forget();
        if let Some(known) = self.hosts.borrow().get(host) {
            return known.clone();
        }
        if self.requests.is_full() {
            return self.registry.services.other();
        }
        let Some(service) = make() else { return self.registry.services.unknown() };
        let service = self.registry.services.intern(Arc::new(service));
        remember(&self.hosts, Bytes::copy_from_slice(host), service.clone());
        service
    }
}

fn remember<K: std::hash::Hash + Eq, V>(map: &RefCell<HashMap<K, V>>, key: K, value: V) {
    let mut map = map.borrow_mut();
    if map.len() >= MAX_REMEMBERED {
        map.clear();
    }
    map.insert(key, value);
}
