//! Requests that failed although this proxy, or one behind it, has retried them.
//!
//! In a chain of services every caller would retry the failure of the last one, and each of them would multiply the
//! load. The proxy beside an application sees both sides: what the application asked for, and what it answers. Where a
//! call with the id of a request failed after retries, the application's own failure is marked
//! ([`Marks`](crate::upstream::retry::Marks)), so that the proxy of the caller lets it be. It needs what tracing needs:
//! that the application passes `x-request-id` on.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests that are remembered; the oldest make room.
const SLOTS: usize = 4096;

/// A bounded memory without locks: a request that is pushed out by another is merely retried once too often.
#[derive(Debug)]
pub struct RetriedRequests {
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

impl Default for RetriedRequests {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
        RetriedRequests { hasher: RandomState::new(), slots }
    }
}

impl RetriedRequests {
    /// A request with that id failed for good.
    pub fn remember(&self, id: &[u8]) {
        let (slot, hash) = self.slot(id);
        slot.store(hash, Ordering::Relaxed);
    }

    /// Whether one did, lately.
    pub fn recall(&self, id: &[u8]) -> bool {
        let (slot, hash) = self.slot(id);
        slot.load(Ordering::Relaxed) == hash
    }

    fn slot(&self, id: &[u8]) -> (&AtomicU64, u64) {
        // 0 stands for an empty slot.
        let hash = self.hasher.hash_one(id).max(1);
        (&self.slots[(hash % SLOTS as u64) as usize], hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_recalled_until_another_takes_its_place() {
        let retried = RetriedRequests::default();
        assert!(!retried.recall(b"a"));
        retried.remember(b"a");
        assert!(retried.recall(b"a") && !retried.recall(b"b"));
        (0..100_000u32).for_each(|n| retried.remember(&n.to_le_bytes()));
        assert!(!retried.recall(b"a"), "bounded");
    }
}
