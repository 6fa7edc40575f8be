//! Series of Istio's metrics: a budget for all of them, cells per worker, and an end for those that nobody uses.
//!
//! The table's lock is taken when a worker meets labels for the first time, by the scraper and by the sweep; never by a
//! request whose labels its worker has met before. A series that gets no sample for the idle time is retired in two
//! steps, so that a worker that counts at that very moment loses nothing: first its cells are marked, and a worker that
//! sees the mark asks the table again; one sweep later, if nothing was added meanwhile, it is dropped.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::labels::SeriesKey;
use super::metric_set::MetricSet;

/// Names and values of a series' labels.
pub type Labels = Vec<(Cow<'static, str>, Box<str>)>;

/// The numbers of one series on one worker.
pub trait Cells: Default + Send + Sync + fmt::Debug + 'static {
    /// The numbers of all workers.
    type Merged: Default + fmt::Debug;

    /// Adds these numbers to the merged ones.
    fn merge_into(&self, merged: &mut Self::Merged);

    /// A number that changes with every sample.
    fn samples(&self) -> u64;
}

/// How many series there may be, and how many there are.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// Samples that were counted as `other`.
    overflowed: AtomicU64,
    /// Series that were dropped because nobody used them.
    expired: AtomicU64,
    /// Counted up by each sweep: workers then clean up what they remember.
    generation: AtomicU64,
}

impl Budget {
    /// At most `limit` series.
    pub fn new(limit: usize) -> Self {
        Budget {
            limit,
            used: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    /// The most series.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Series that are there.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Samples that were counted as `other` because the budget was used up.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Series that were dropped because nobody used them.
    pub fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }

    /// Sweeps so far.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// A sweep is over.
    pub fn next_generation(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> bool {
        let more = |used: usize| (used < self.limit).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::Relaxed);
        self.expired.fetch_add(1, Ordering::Relaxed);
    }
}

/// One worker's numbers of one series.
#[derive(Debug, Default)]
pub struct Slot<C> {
    /// The numbers.
    pub cells: C,
    /// Nobody used them for long: whoever wants to count asks the table again.
    retired: AtomicBool,
}

/// What names a series in its table: two with equal labels and different metrics are kept apart.
type Name = (Arc<Labels>, MetricSet);

#[derive(Debug)]
struct Series<C> {
    workers: Vec<(u32, Arc<Slot<C>>)>,
    /// Samples at the last sweep, and since when it is that number.
    seen: u64,
    since: Option<Instant>,
    retired: bool,
}

/// All workers' series of one kind.
#[derive(Debug)]
pub struct Table<C> {
    budget: Arc<Budget>,
    all: Mutex<HashMap<Name, Series<C>>>,
    overflow: Mutex<Vec<Arc<Slot<C>>>>,
    workers: AtomicUsize,
}

/// The lock; a panic of another holder leaves nothing half done, so its data stays usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<C: Cells> Table<C> {
    /// A table within a budget that several may share.
    pub fn new(budget: Arc<Budget>) -> Self {
        Table { budget, all: Mutex::default(), overflow: Mutex::default(), workers: AtomicUsize::new(0) }
    }

    /// All series with their merged numbers, in no order.
    pub fn merged(&self) -> Vec<(Arc<Labels>, MetricSet, C::Merged)> {
        let all = lock(&self.all);
        let merge = |((labels, metrics), series): (&Name, &Series<C>)| {
            let mut merged = C::Merged::default();
            series.workers.iter().for_each(|(_, slot)| slot.cells.merge_into(&mut merged));
            (labels.clone(), *metrics, merged)
        };
        all.iter().map(merge).collect()
    }

    /// What was counted beyond the budget; `None` when nothing was.
    pub fn merged_overflow(&self) -> Option<C::Merged> {
        let slots = lock(&self.overflow);
        let mut merged = C::Merged::default();
        slots.iter().for_each(|slot| slot.cells.merge_into(&mut merged));
        slots.iter().any(|slot| slot.cells.samples() != 0).then_some(merged)
    }

    /// Retires the series that had no sample since `idle` before `now`, and drops those retired by an earlier sweep.
    pub fn sweep(&self, now: Instant, idle: Duration) {
        let mut all = lock(&self.all);
        all.retain(|_, series| {
            let samples =
                series.workers.iter().fold(0u64, |sum, (_, it)| sum.wrapping_add(it.cells.samples()));
            let unchanged = series.since.is_some() && samples == series.seen;
            if !unchanged {
                (series.seen, series.since) = (samples, Some(now));
            }
            if series.retired && unchanged {
                self.budget.give_back();
                return false;
            }
            let silent = series.since.is_some_and(|since| now.saturating_duration_since(since) >= idle);
            if series.retired != silent {
                series.retire(silent);
            }
            true
        });
        all.shrink_to(self.budget.used().saturating_mul(2));
    }

    /// The slot of a worker for these labels, or `None` when the budget is used up.
    fn slot(&self, worker: u32, metrics: MetricSet, labels: Labels) -> Option<Arc<Slot<C>>> {
        let mut all = lock(&self.all);
        let name = (Arc::new(labels), metrics);
        if !all.contains_key(&name) && !self.budget.take() {
            return None;
        }
        let fresh = || Series { workers: Vec::new(), seen: 0, since: None, retired: false };
        let series = all.entry(name).or_insert_with(fresh);
        if series.retired {
            series.retire(false);
            // It is in use again from the next sweep on.
            series.since = None;
        }
        if let Some((_, slot)) = series.workers.iter().find(|(owner, _)| *owner == worker) {
            return Some(slot.clone());
        }
        let slot = Arc::new(Slot::default());
        series.workers.push((worker, slot.clone()));
        Some(slot)
    }
}

impl<C> Series<C> {
    fn retire(&mut self, retired: bool) {
        self.retired = retired;
        self.workers.iter().for_each(|(_, slot)| slot.retired.store(retired, Ordering::Relaxed));
    }
}

/// One worker's side of a table. Stays on its thread.
#[derive(Debug)]
pub struct WorkerSeries<C> {
    table: Arc<Table<C>>,
    worker: u32,
    known: RefCell<HashMap<SeriesKey, Arc<Slot<C>>>>,
    overflow: Arc<Slot<C>>,
    generation: std::cell::Cell<u64>,
    full: std::cell::Cell<bool>,
}

impl<C: Cells> WorkerSeries<C> {
    /// A worker that has counted nothing yet.
    pub fn new(table: Arc<Table<C>>) -> Self {
        let overflow = Arc::new(Slot::default());
        lock(&table.overflow).push(overflow.clone());
        let worker = u32::try_from(table.workers.fetch_add(1, Ordering::Relaxed)).unwrap_or(u32::MAX);
        WorkerSeries {
            table,
            worker,
            known: RefCell::default(),
            overflow,
            generation: std::cell::Cell::new(0),
            full: std::cell::Cell::new(false),
        }
    }

    /// Whether the budget was found used up: until a sweep this worker does not ask again, because strangers' values
    /// must not make it take the lock on every request.
    pub fn is_full(&self) -> bool {
        self.full.get()
    }

    /// The slot of a key. One lookup when this worker has met it before; `labels` is asked only when not.
    pub fn slot(&self, key: &SeriesKey, metrics: MetricSet, labels: impl FnOnce() -> Labels) -> Arc<Slot<C>> {
        let generation = self.table.budget.generation();
        let mut known = self.known.borrow_mut();
        if generation != self.generation.replace(generation) {
            // Keys name label values by numbers that a sweep may have made void: what is in use is found again.
            *known = HashMap::new();
            self.full.set(false);
        }
        if let Some(slot) = known.get(key).filter(|slot| !slot.retired.load(Ordering::Relaxed)) {
            return slot.clone();
        }
        // Several keys may lead to one series where labels were removed: what is remembered is bounded by itself.
        if !self.full.get()
            && known.len() < self.table.budget.limit.saturating_mul(2).max(64)
            && let Some(slot) = self.table.slot(self.worker, metrics, labels())
        {
            known.insert(*key, slot.clone());
            return slot;
        }
        self.full.set(true);
        self.table.budget.overflowed.fetch_add(1, Ordering::Relaxed);
        self.overflow.clone()
    }
}

#[cfg(test)]
mod tests;
