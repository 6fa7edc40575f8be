//! Places for connections, limited over all workers. Who finds none waits in line; a place that becomes free goes to the
//! first in line, on whichever worker it is. The line's lock is touched only while somebody stands in it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::task::AtomicWaker;

/// `u32::MAX` stands for no limit, as Istio writes it.
pub const NO_LIMIT: u32 = u32::MAX;

/// A number that may not pass a limit.
#[derive(Debug)]
pub struct Resource {
    limit: AtomicU32,
    used: AtomicU32,
}

impl Resource {
    /// Nothing is used yet.
    pub fn new(limit: u32) -> Self {
        Resource { limit: AtomicU32::new(limit), used: AtomicU32::new(0) }
    }

    /// Takes one, unless `limit` are taken: never one more, whoever asks at the same time.
    pub fn take_below(&self, limit: u32) -> bool {
        self.used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |used| (used < limit).then_some(used + 1))
            .is_ok()
    }

    /// Takes one, unless the limit is reached.
    pub fn take(&self) -> bool {
        self.take_below(self.limit())
    }

    /// Gives one back.
    pub fn put(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
    }

    /// The limit now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many are taken.
    pub fn used(&self) -> u32 {
        self.used.load(Ordering::Relaxed)
    }

    /// Changes the limit; what is taken stays taken.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }
}

/// Places for connections.
#[derive(Debug)]
pub struct Slots {
    resource: Resource,
    waiting: AtomicUsize,
    line: Mutex<VecDeque<Arc<Ticket>>>,
}

#[derive(Debug)]
struct Ticket {
    granted: AtomicBool,
    waker: AtomicWaker,
    since: Instant,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.free();
    }
}

impl Slots {
    /// So many places.
    pub fn new(limit: u32) -> Arc<Self> {
        Arc::new(Slots {
            resource: Resource::new(limit),
            waiting: AtomicUsize::new(0),
            line: Mutex::default(),
        })
    }

    /// How many there are and how many are taken.
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// A place, when one is free and nobody stands in line for it.
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        (!self.has_line() && self.resource.take()).then(|| Slot(self.clone()))
    }

    /// A place as soon as there is one, in the order of asking.
    pub fn wait(self: &Arc<Self>) -> Wait {
        Wait { slots: self.clone(), ticket: None }
    }

    /// Whether somebody waits for a place.
    pub fn has_line(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Since when the first in line waits.
    pub fn first_since(&self) -> Option<Instant> {
        if self.has_line() { self.line().front().map(|ticket| ticket.since) } else { None }
    }

    /// Changes the number of places. Fewer than are taken closes nothing: the surplus is not taken again.
    pub fn set_limit(&self, limit: u32) {
        if limit != self.resource.limit() {
            self.resource.set_limit(limit);
            self.grant(&mut self.line());
        }
    }

    fn free(&self) {
        self.resource.put();
        // In this order: whoever stands in line after this look finds the free place when it joins.
        if self.has_line() {
            self.grant(&mut self.line());
        }
    }

    fn line(&self) -> MutexGuard<'_, VecDeque<Arc<Ticket>>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grant(&self, line: &mut VecDeque<Arc<Ticket>>) {
        while !line.is_empty() && self.resource.take() {
            if let Some(first) = line.pop_front() {
                first.granted.store(true, Ordering::Release);
                first.waker.wake();
            }
        }
        self.waiting.store(line.len(), Ordering::SeqCst);
    }
}

/// A place in line. Dropping it leaves the line.
#[derive(Debug)]
pub struct Wait {
    slots: Arc<Slots>,
    ticket: Option<Arc<Ticket>>,
}

impl Future for Wait {
    type Output = Slot;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Slot> {
        let slots = self.slots.clone();
        let ticket = self.ticket.get_or_insert_with(|| {
            let ticket = Arc::new(Ticket {
                granted: AtomicBool::new(false),
                waker: AtomicWaker::new(),
                since: Instant::now(),
            });
            let mut line = slots.line();
            line.push_back(ticket.clone());
            slots.waiting.store(line.len(), Ordering::SeqCst);
            slots.grant(&mut line);
            ticket
        });
        ticket.waker.register(cx.waker());
        if ticket.granted.load(Ordering::Acquire) {
            self.ticket = None;
            return Poll::Ready(Slot(slots));
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut line = self.slots.line();
        let before = line.len();
        line.retain(|other| !Arc::ptr_eq(other, &ticket));
        self.slots.waiting.store(line.len(), Ordering::SeqCst);
        let granted = line.len() == before;
        drop(line);
        if granted {
            self.slots.free();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn five_never_allow_six() {
        let slots = Slots::new(5);
        let most = AtomicU32::new(0);
        let taken = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(slot) = slots.take() {
                            most.fetch_max(taken.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            taken.fetch_sub(1, Ordering::SeqCst);
                            drop(slot);
                        }
                    }
                });
            }
        });
        assert!(most.load(Ordering::SeqCst) <= 5, "{most:?}");
        assert_eq!(slots.resource().used(), 0);
        // Not because nobody ever got that far.
        let all: Vec<_> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(all.len(), 5);
    }

    #[test]
    fn the_line_is_served_in_order_over_threads_and_never_beyond_the_limit() {
        let slots = Slots::new(2);
        let taken = AtomicU32::new(0);
        let served = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let slot = futures_util::future::FutureExt::now_or_never(slots.wait());
                        // Without a runtime: wait by polling again, which is what a waker would bring about.
                        let slot = match slot {
                            Some(slot) => slot,
                            None => {
                                let mut wait = slots.wait();
                                loop {
                                    if let Some(slot) = (&mut wait).now_or_never() {
                                        break slot;
                                    }
                                    std::thread::yield_now();
                                }
                            }
                        };
                        assert!(taken.fetch_add(1, Ordering::SeqCst) < 2);
                        taken.fetch_sub(1, Ordering::SeqCst);
                        served.fetch_add(1, Ordering::SeqCst);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(served.load(Ordering::SeqCst), 1_200, "nobody was forgotten");
        assert_eq!((slots.resource().used(), slots.has_line()), (0, false));
    }

    #[test]
    fn who_leaves_the_line_takes_nothing_along() {
        let slots = Slots::new(1);
        let held = slots.take().unwrap();
        let (mut first, mut second) = (slots.wait(), slots.wait());
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert!(slots.take().is_none());
        // Granted, but never asked for again.
        drop(held);
        drop(first);
        let slot = (&mut second).now_or_never().expect("the place of the one who left");
        assert!(slots.take().is_none());
        drop((slot, second));
        assert!(slots.take().is_some());
    }

    #[test]
    fn a_higher_limit_serves_those_who_wait_and_a_lower_one_closes_nothing() {
        let slots = Slots::new(1);
        let _held = slots.take().unwrap();
        let mut wait = slots.wait();
        assert!((&mut wait).now_or_never().is_none());
        slots.set_limit(2);
        let slot = (&mut wait).now_or_never().expect("a place more");
        slots.set_limit(1);
        assert_eq!(slots.resource().used(), 2);
        drop(slot);
        assert!(slots.take().is_none(), "the surplus is not taken again");
    }
}
