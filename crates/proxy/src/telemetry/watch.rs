//! Requests watched while they pass: taps (each request's story) and sums (`tulle top`).
//!
//! While nobody watches, a request costs one atomic load. A watch sees requests that begin after it; every worker sums
//! up in a table of its own, whose lock it shares with nobody but the asker.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use protos::observe::{SLOTS, slot_of};
use tokio::sync::mpsc;

use super::Random;
use super::recent::Story;
use super::watch_filter::{Filter, Request};

/// The most watches at a time.
pub const MOST: usize = 64;
/// The most kinds of requests that a worker tells apart between two answers.
const MOST_KINDS: usize = 500;
/// Stands for the kinds that are too many.
const OTHERS: &str = "(others)";
const MILLION: u32 = 1_000_000;

/// What requests have in common that are summed up together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kind {
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// The service that was asked for.
    pub service: Arc<str>,
    /// The route's origin, else its name.
    pub route: Arc<str>,
    /// The other side.
    pub peer: Arc<str>,
}

/// The sum of one kind.
#[derive(Debug, Clone)]
pub struct Sum {
    /// How many ended.
    pub requests: u64,
    /// How many of them with 5xx or without an answer.
    pub failures: u64,
    /// Their durations by slot.
    pub durations: Box<[u64; SLOTS]>,
}

impl Default for Sum {
    fn default() -> Self {
        Sum { requests: 0, failures: 0, durations: Box::new([0; SLOTS]) }
    }
}

impl Sum {
    fn add(&mut self, other: &Sum) {
        self.requests += other.requests;
        self.failures += other.failures;
        for (mine, theirs) in self.durations.iter_mut().zip(other.durations.iter()) {
            *mine += theirs;
        }
    }
}

/// Sums by kind.
pub type Sums = HashMap<Kind, Sum>;

#[derive(Debug)]
enum Sink {
    /// With the watch's number.
    Stories(mpsc::Sender<(u64, Story)>),
    /// One table for each worker.
    Sums(Box<[Mutex<Sums>]>),
}

/// One watch.
#[derive(Debug)]
pub struct Watch {
    id: u64,
    filter: Filter,
    per_million: u32,
    sink: Sink,
    dropped: AtomicU64,
}

impl Watch {
    /// Whether it wants requests like this one to their end.
    fn begins(&self, request: &Request<'_>, random: &Random) -> bool {
        self.filter.takes(request)
            && (self.per_million >= MILLION
                || random.next() % u64::from(MILLION) < u64::from(self.per_million))
    }

    /// Whether it wants stories.
    pub fn wants_stories(&self) -> bool {
        matches!(self.sink, Sink::Stories(_))
    }

    /// Whether its filter takes what came out.
    pub fn takes_end(&self, status: u16, failed: bool) -> bool {
        self.filter.takes_end(status, failed)
    }

    /// A request has ended. Never waits: what finds no room is counted.
    pub fn tell(&self, story: &Story) {
        if let Sink::Stories(sender) = &self.sink
            && sender.try_send((self.id, story.clone())).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request has ended.
    pub fn count(&self, worker: usize, kind: Kind, failed: bool, microseconds: u64) {
        let Sink::Sums(tables) = &self.sink else { return };
        let Some(table) = tables.get(worker % tables.len().max(1)) else { return };
        let mut table = held(table);
        let kind = if table.len() >= MOST_KINDS && !table.contains_key(&kind) {
            let others = || Arc::from(OTHERS);
            Kind { direction: kind.direction, service: others(), route: others(), peer: others() }
        } else {
            kind
        };
        let sum = table.entry(kind).or_default();
        sum.requests += 1;
        sum.failures += u64::from(failed);
        sum.durations[slot_of(microseconds)] += 1;
    }

    /// How many stories were left out since it was last asked.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// The sums since they were last taken.
    pub fn take_sums(&self) -> Sums {
        let Sink::Sums(tables) = &self.sink else { return Sums::new() };
        let mut all = Sums::new();
        for table in tables {
            for (kind, sum) in std::mem::take(&mut *held(table)) {
                all.entry(kind).or_default().add(&sum);
            }
        }
        all
    }
}

/// What a watch is opened with.
#[derive(Debug)]
pub struct Wanted {
    /// The asker's number.
    pub id: u64,
    /// Which requests.
    pub filter: Filter,
    /// Of those so many in a million; 0 stands for all.
    pub per_million: u32,
    /// Where stories go; `None`: sums.
    pub stories: Option<mpsc::Sender<(u64, Story)>>,
}

/// All watches of a proxy.
#[derive(Debug, Default)]
pub struct Watches {
    open: AtomicUsize,
    all: ArcSwap<Vec<Arc<Watch>>>,
    change: Mutex<()>,
    workers: AtomicUsize,
}

/// The watches that want one request; most requests have none.
pub type Watching = Option<Box<Vec<Arc<Watch>>>>;

impl Watches {
    /// The number of one more worker.
    pub fn worker(&self) -> usize {
        self.workers.fetch_add(1, Ordering::Relaxed)
    }

    /// The watches that want a request which begins now.
    pub fn watching<'a>(&self, request: impl FnOnce() -> Request<'a>, random: &Random) -> Watching {
        if self.open.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let request = request();
        let all = self.all.load();
        let wanted: Vec<_> = all.iter().filter(|watch| watch.begins(&request, random)).cloned().collect();
        (!wanted.is_empty()).then(|| Box::new(wanted))
    }

    /// Opens a watch until what is returned is dropped.
    ///
    /// # Errors
    /// There are too many.
    pub fn open(self: &Arc<Self>, wanted: Wanted) -> Result<OpenWatch, String> {
        let workers = self.workers.load(Ordering::Relaxed).max(1);
        let sink = match wanted.stories {
            Some(sender) => Sink::Stories(sender),
            None => Sink::Sums((0..workers).map(|_| Mutex::default()).collect()),
        };
        let per_million = if wanted.per_million == 0 { MILLION } else { wanted.per_million };
        let (id, filter) = (wanted.id, wanted.filter);
        let watch = Arc::new(Watch { id, filter, per_million, sink, dropped: AtomicU64::new(0) });
        let _alone = held(&self.change);
        let mut all = Vec::clone(&self.all.load());
        if all.len() >= MOST {
            return Err(format!("{MOST} taps are open at this proxy already: close one"));
        }
        all.push(watch.clone());
        self.replace(all);
        Ok(OpenWatch { of: self.clone(), watch })
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn replace(&self, all: Vec<Arc<Watch>>) {
        let open = all.len();
        self.all.store(Arc::new(all));
        self.open.store(open, Ordering::Relaxed);
    }
}

/// An open watch; dropping it closes it.
#[derive(Debug)]
pub struct OpenWatch {
    of: Arc<Watches>,
    /// The watch.
    pub watch: Arc<Watch>,
}

impl Drop for OpenWatch {
    fn drop(&mut self) {
        let _alone = held(&self.of.change);
        let mut all = Vec::clone(&self.of.all.load());
        all.retain(|watch| !Arc::ptr_eq(watch, &self.watch));
        self.of.replace(all);
    }
}

fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with the lock held left a table that is still a table.
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Headers;
    use crate::telemetry::labels::Reporter;

    fn request(headers: &Headers) -> Request<'_> {
        Request {
            reporter: Reporter::Source,
            method: "GET",
            target: b"/a?b",
            authority: b"payment",
            headers,
            peer: "unknown",
        }
    }

    fn sums(id: u64, per_million: u32) -> Wanted {
        Wanted { id, filter: Filter::default(), per_million, stories: None }
    }

    fn kind(name: &str) -> Kind {
        Kind { direction: "inbound", service: name.into(), route: "r".into(), peer: "p".into() }
    }

    #[test]
    fn a_closed_watch_is_gone_and_the_number_is_bounded() {
        let (watches, random) = (Arc::new(Watches::default()), Random::from_system());
        let headers = Headers::new();
        assert!(watches.watching(|| unreachable!("nobody watches"), &random).is_none());
        for round in 0..10_000 {
            let open = watches.open(sums(round, 0)).unwrap();
            assert_eq!(watches.watching(|| request(&headers), &random).unwrap().len(), 1);
            drop(open);
        }
        assert_eq!((watches.count(), watches.all.load().len()), (0, 0));
        let open: Vec<_> = (0..MOST as u64).map(|id| watches.open(sums(id, 0)).unwrap()).collect();
        assert!(watches.open(sums(99, 0)).is_err());
        drop(open);
        assert!(watches.open(sums(99, 0)).is_ok());
    }

    #[test]
    fn a_sample_is_a_part_of_all() {
        let (watches, random) = (Arc::new(Watches::default()), Random::from_system());
        let (_open, headers) = (watches.open(sums(1, 100_000)).unwrap(), Headers::new());
        let taken = (0..20_000).filter(|_| watches.watching(|| request(&headers), &random).is_some()).count();
        assert!((1_700..2_300).contains(&taken), "{taken}");
    }

    #[test]
    fn workers_are_summed_up_and_kinds_are_bounded() {
        let watches = Arc::new(Watches::default());
        let (first, second) = (watches.worker(), watches.worker());
        let open = watches.open(sums(1, 0)).unwrap();
        for (worker, failed) in [(first, false), (second, true), (second, false)] {
            open.watch.count(worker, kind("a"), failed, 1_000);
        }
        let all = open.watch.take_sums();
        assert_eq!((all[&kind("a")].requests, all[&kind("a")].failures), (3, 1));
        assert_eq!(all[&kind("a")].durations[slot_of(1_000)], 3);
        assert!(open.watch.take_sums().is_empty(), "taken");
        for number in 0..MOST_KINDS + 10 {
            open.watch.count(first, kind(&number.to_string()), false, 1);
        }
        let all = open.watch.take_sums();
        assert_eq!(all.len(), MOST_KINDS + 1);
        assert_eq!(all.values().map(|sum| sum.requests).sum::<u64>(), MOST_KINDS as u64 + 10);
    }
}
