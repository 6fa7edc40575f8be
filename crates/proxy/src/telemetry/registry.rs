//! Who owns which numbers: workers own cells, the registry knows all cells and merges them when it is scraped.
//!
//! The registry's locks are taken when a series or a label value appears for the first time on a worker, and by the
//! scraper; never by a request whose series its worker has seen before.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::cells::{Counter, Gauge, Histogram, MergedHistogram};
use super::intern::Interner;
use super::labels::{LABEL_NAMES, RequestLabels, SeriesKey, Service, Workload};

/// The most series of Istio's request metrics; requests beyond are counted in one series of `other` labels.
pub const MAX_REQUEST_SERIES: usize = 2_000;

/// The numbers of one set of request labels on one worker.
#[derive(Debug, Default)]
pub struct RequestCells {
    requests: Counter,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

/// What one finished request adds to its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSample {
    /// From the first byte of the request to the end of the response.
    pub duration_microseconds: u64,
    /// Head and body of the request, as seen.
    pub request_bytes: u64,
    /// Head and body of the response, as seen.
    pub response_bytes: u64,
}

impl RequestCells {
    fn add(&self, sample: &RequestSample) {
        self.requests.increment();
        self.duration.observe_thousandths(sample.duration_microseconds);
        self.request_bytes.observe(sample.request_bytes);
        self.response_bytes.observe(sample.response_bytes);
    }
}

/// All workers' numbers of one set of request labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedRequests {
    /// Label names and values, in Istio's order.
    pub labels: Arc<Vec<(&'static str, String)>>,
    /// `istio_requests_total`.
    pub requests: u64,
    /// `istio_request_duration_milliseconds`.
    pub duration: MergedHistogram,
    /// `istio_request_bytes`.
    pub request_bytes: MergedHistogram,
    /// `istio_response_bytes`.
    pub response_bytes: MergedHistogram,
}

#[derive(Debug)]
struct RequestSeries {
    labels: Arc<Vec<(&'static str, String)>>,
    workers: Vec<Arc<RequestCells>>,
}

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
    requests: Mutex<HashMap<SeriesKey, RequestSeries>>,
    overflow: Mutex<RequestSeries>,
    overflowed: AtomicU64,
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
    /// A registry without series.
    pub fn new() -> Self {
        let overflow = RequestSeries { labels: Arc::new(overflow_labels()), workers: Vec::new() };
        Self {
            workloads: Interner::new(Arc::new(Workload::unknown()), Arc::new(Workload::all("other"))),
            services: Interner::new(Arc::new(Service::all("unknown")), Arc::new(Service::all("other"))),
            principals: Interner::of_texts(),
            requests: Mutex::default(),
            overflow: Mutex::new(overflow),
            overflowed: AtomicU64::new(0),
            simple: Mutex::default(),
            computed: Mutex::default(),
            not_acting: Mutex::default(),
        }
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

    /// Requests that were counted as `other` because the series budget was used up.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
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
    pub fn merged_requests(&self) -> Vec<MergedRequests> {
        let mut merged: Vec<_> = lock(&self.requests).values().map(merge).collect();
        let overflow = merge(&lock(&self.overflow));
        if overflow.requests > 0 {
            merged.push(overflow);
        }
        merged.sort_by(|a, b| a.labels.cmp(&b.labels));
        merged
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

    /// The cells of a key for one worker, or `None` when the budget is used up.
    fn request_cells(&self, key: SeriesKey, labels: &RequestLabels<'_>) -> Option<Arc<RequestCells>> {
        let mut all = lock(&self.requests);
        if !all.contains_key(&key) && all.len() >= MAX_REQUEST_SERIES {
            return None;
        }
        let series = all
            .entry(key)
            .or_insert_with(|| RequestSeries { labels: Arc::new(labels.pairs()), workers: Vec::new() });
        let cells = Arc::new(RequestCells::default());
        series.workers.push(cells.clone());
        Some(cells)
    }
}

fn merge(series: &RequestSeries) -> MergedRequests {
    let mut merged = MergedRequests {
        labels: series.labels.clone(),
        requests: 0,
        duration: MergedHistogram::default(),
        request_bytes: MergedHistogram::default(),
        response_bytes: MergedHistogram::default(),
    };
    for cells in &series.workers {
        merged.requests = merged.requests.wrapping_add(cells.requests.get());
        cells.duration.merge_into(&mut merged.duration);
        cells.request_bytes.merge_into(&mut merged.request_bytes);
        cells.response_bytes.merge_into(&mut merged.response_bytes);
    }
    merged
}

/// The overflow series has every label, each with the value `other`.
fn overflow_labels() -> Vec<(&'static str, String)> {
    LABEL_NAMES.iter().map(|name| (*name, "other".to_owned())).collect()
}

/// One worker's side of the request metrics. Stays on its thread.
#[derive(Debug)]
pub struct WorkerMetrics {
    registry: Arc<Registry>,
    requests: RefCell<HashMap<SeriesKey, Arc<RequestCells>>>,
    overflow: Arc<RequestCells>,
    full: std::cell::Cell<bool>,
}

impl WorkerMetrics {
    /// A worker's metrics in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        let overflow = Arc::new(RequestCells::default());
        lock(&registry.overflow).workers.push(overflow.clone());
        Self { registry, requests: RefCell::default(), overflow, full: std::cell::Cell::new(false) }
    }

    /// Where these metrics are merged.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Counts one finished request. One lookup when the worker has seen the labels before.
    pub fn count(&self, labels: &RequestLabels<'_>, sample: &RequestSample) {
        let key = labels.key();
        let mut requests = self.requests.borrow_mut();
        if let Some(cells) = requests.get(&key) {
            cells.add(sample);
            return;
        }
        // Once the budget was found used up this worker does not ask again: strangers' label values must not make
        // it take the lock on every request.
        if !self.full.get() {
            if let Some(cells) = self.registry.request_cells(key, labels) {
                cells.add(sample);
                requests.insert(key, cells);
                return;
            }
            self.full.set(true);
        }
        self.overflow.add(sample);
        self.registry.overflowed.fetch_add(1, Ordering::Relaxed);
    }
}
