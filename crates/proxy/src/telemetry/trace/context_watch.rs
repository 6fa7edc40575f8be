//! Finds out whether the program beside this proxy passes trace context on.
//!
//! A heuristic by counts: while requests are being served, a call of the program that carries neither the
//! `x-request-id` nor the trace of a request that came in lately has lost its context. Calls made while nothing is being
//! served are the program's own business and do not count. The past fades: at 1,024 calls both counts are halved.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// Digits and hyphens of a UUID, and the position of the digit that tells who traces.
const UUID: usize = 36;
const DIGIT: usize = 14;
/// Requests that are remembered; the oldest make room.
const SLOTS: usize = 4096;
/// At so many calls the past is halved.
const FADE: u64 = 1024;
/// From so many lost contexts on, and when they are half of all, the program is said to drop them.
const ENOUGH: u64 = 20;

/// What one worker has counted. Only its worker writes.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Calls {
    serving: AtomicI64,
    calls: AtomicU64,
    lost: AtomicU64,
}

/// What all workers know.
#[derive(Debug)]
pub struct ContextWatch {
    seen: Box<[AtomicU64]>,
    workers: ArcSwap<Vec<Arc<Calls>>>,
}

/// How the program treats context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Calls while requests were being served.
    pub calls: u64,
    /// Those without the context of one of them.
    pub lost: u64,
}

impl Losses {
    /// Whether the program drops context.
    pub fn drops(self) -> bool {
        self.lost >= ENOUGH && self.lost * 2 >= self.calls
    }
}

impl Default for ContextWatch {
    fn default() -> Self {
        let seen = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        ContextWatch { seen, workers: ArcSwap::default() }
    }
}

impl ContextWatch {
    /// Counts for one more worker.
    pub fn worker(&self) -> Arc<Calls> {
        let calls = Arc::new(Calls::default());
        self.workers.rcu(|all| {
            let mut all = Vec::clone(all);
            all.push(calls.clone());
            all
        });
        calls
    }

    /// A request came in; call [`Calls::served`] when it has ended.
    pub fn came_in(&self, own: &Calls, request_id: Option<&[u8]>, trace_id: Option<u128>) {
        own.serving.store(own.serving.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        for hash in hashes(request_id, trace_id) {
            self.slot(hash).store(hash, Ordering::Relaxed);
        }
    }

    /// The program calls somebody; `request_id` and `trace_id` are what it sent.
    pub fn goes_out(&self, own: &Calls, request_id: Option<&[u8]>, trace_id: Option<u128>) {
        let mut hashes = hashes(request_id, trace_id);
        let known = hashes.any(|hash| self.slot(hash).load(Ordering::Relaxed) == hash);
        if !known && !self.serves() {
            return;
        }
        let (mut calls, mut lost) = (own.calls.load(Ordering::Relaxed), own.lost.load(Ordering::Relaxed));
        if calls >= FADE {
            (calls, lost) = (calls / 2, lost / 2);
        }
        own.calls.store(calls + 1, Ordering::Relaxed);
        own.lost.store(lost + u64::from(!known), Ordering::Relaxed);
    }

    /// What was counted.
    pub fn losses(&self) -> Losses {
        self.workers.load().iter().fold(Losses::default(), |sum, worker| Losses {
            calls: sum.calls + worker.calls.load(Ordering::Relaxed),
            lost: sum.lost + worker.lost.load(Ordering::Relaxed),
        })
    }

    /// Whether any worker serves a request. Asked for calls without a known context only.
    fn serves(&self) -> bool {
        self.workers.load().iter().any(|worker| worker.serving.load(Ordering::Relaxed) > 0)
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.seen[(hash % SLOTS as u64) as usize]
    }
}

impl Calls {
    /// A request that came in has ended.
    pub fn served(&self) {
        self.serving.store(self.serving.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
    }
}

/// Never 0, which stands for an empty slot. Not for an enemy: who provokes a collision hides its own mistake.
fn hashes(request_id: Option<&[u8]>, trace_id: Option<u128>) -> impl Iterator<Item = u64> {
    let of_id = request_id.filter(|id| !id.is_empty()).map(|id| {
        id.chunks(8).enumerate().fold(id.len() as u64, |hash, (at, chunk)| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // The digit in which proxies write their decision.
            if id.len() == UUID && at == DIGIT / 8 {
                word[DIGIT % 8] = b'4';
            }
            (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
        })
    });
    let of_trace = trace_id.map(|id| (id as u64 ^ (id >> 64) as u64).rotate_left(17));
    [of_id, of_trace].into_iter().flatten().map(|hash| hash.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(watch: &ContextWatch, own: &Calls, number: usize, id: impl Fn(usize) -> String) {
        for at in 0..number {
            watch.came_in(own, Some(format!("in-{at}").as_bytes()), Some(at as u128 + 1));
            watch.goes_out(own, Some(id(at).as_bytes()), None);
            own.served();
        }
    }

    #[test]
    fn a_program_that_passes_nothing_on_is_told_from_one_that_does() {
        let watch = ContextWatch::default();
        let own = watch.worker();
        calls(&watch, &own, 100, |at| format!("in-{at}"));
        assert_eq!(watch.losses(), Losses { calls: 100, lost: 0 });
        calls(&watch, &own, ENOUGH as usize, |at| format!("fresh-{at}"));
        assert!(!watch.losses().drops(), "most calls carry it");
        calls(&watch, &own, 100, |at| format!("fresh-{at}"));
        assert!(watch.losses().drops(), "{:?}", watch.losses());
    }

    #[test]
    fn the_trace_alone_is_context_too() {
        let watch = ContextWatch::default();
        let own = watch.worker();
        watch.came_in(&own, Some(b"a"), Some(77));
        watch.goes_out(&own, Some(b"fresh"), Some(77));
        assert_eq!(watch.losses(), Losses { calls: 1, lost: 0 });
        watch.goes_out(&own, Some(b"fresh"), Some(78));
        assert_eq!(watch.losses().lost, 1);
    }

    #[test]
    fn the_decision_in_the_id_does_not_matter() {
        let watch = ContextWatch::default();
        let own = watch.worker();
        watch.came_in(&own, Some(b"12345678-1234-4234-9234-123456789012"), None);
        watch.goes_out(&own, Some(b"12345678-1234-9234-9234-123456789012"), None);
        assert_eq!(watch.losses().lost, 0);
        watch.goes_out(&own, Some(b"12345678-1234-4234-9234-123456789013"), None);
        assert_eq!(watch.losses().lost, 1);
    }

    #[test]
    fn calls_while_nothing_is_served_do_not_count() {
        let watch = ContextWatch::default();
        let (own, other) = (watch.worker(), watch.worker());
        watch.goes_out(&own, None, None);
        assert_eq!(watch.losses(), Losses::default());
        watch.came_in(&other, Some(b"a"), None);
        watch.goes_out(&own, None, None);
        assert_eq!(watch.losses(), Losses { calls: 1, lost: 1 }, "another worker serves");
        other.served();
        watch.goes_out(&own, None, None);
        assert_eq!(watch.losses().calls, 1);
    }

    #[test]
    fn the_past_fades() {
        let watch = ContextWatch::default();
        let own = watch.worker();
        calls(&watch, &own, 2_000, |_| "fresh".to_owned());
        assert!(watch.losses().drops());
        calls(&watch, &own, 3_000, |at| format!("in-{at}"));
        assert!(!watch.losses().drops(), "{:?}", watch.losses());
        assert!(watch.losses().calls <= FADE);
    }
}
