//! How many retries a cluster may have at once: a fifth of its active requests, and three in any case (Envoy's default
//! retry budget). It holds for every cluster that has no budget of its own, beside a smaller `max_retries`: retries must not
//! double the load of a service that is failing already. A try that got no connection is repeated without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Share of the active requests, in percent.
const PERCENT: u32 = 20;
/// Allowed whatever the load.
const AT_LEAST: u32 = 3;

/// The requests and retries of one cluster, over all workers.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: AtomicU32,
    retries: AtomicU32,
}

impl RetryBudget {
    /// Counts a request while the guard lives.
    pub fn request(self: &Arc<Self>) -> ActiveCall {
        self.requests.fetch_add(1, Ordering::AcqRel);
        ActiveCall(self.clone())
    }

    /// Reserves a retry, if there is room; it is given back with the guard.
    pub fn retry(self: &Arc<Self>) -> Option<ActiveRetry> {
        let limit = (self.requests.load(Ordering::Acquire).saturating_mul(PERCENT) / 100).max(AT_LEAST);
        let more = |retries| (retries < limit).then_some(retries + 1);
        let reserved = self.retries.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        reserved.is_ok().then(|| ActiveRetry(self.clone()))
    }
}

/// One active request.
#[derive(Debug)]
pub struct ActiveCall(Arc<RetryBudget>);

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One retry, from its decision until what came of it is known.
#[derive(Debug)]
pub struct ActiveRetry(Arc<RetryBudget>);

impl Drop for ActiveRetry {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifth_of_the_requests_and_three_in_any_case() {
        let budget = Arc::new(RetryBudget::default());
        let few: Vec<_> = (0..3).map(|_| budget.retry().unwrap()).collect();
        assert!(budget.retry().is_none());
        drop(few);
        let requests: Vec<_> = (0..50).map(|_| budget.request()).collect();
        let retries: Vec<_> = std::iter::from_fn(|| budget.retry()).collect();
        assert_eq!(retries.len(), 10);
        drop((requests, retries));
        assert_eq!(std::iter::from_fn(|| budget.retry()).take(9).collect::<Vec<_>>().len(), 3);
    }

    #[test]
    fn the_limit_is_exact_over_threads() {
        let budget = Arc::new(RetryBudget::default());
        let _requests: Vec<_> = (0..50).map(|_| budget.request()).collect();
        let (taken, all) = (AtomicU32::new(0), std::sync::Barrier::new(4));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        all.wait();
                        let held: Vec<_> = (0..4).filter_map(|_| budget.retry()).collect();
                        taken.fetch_add(held.len() as u32, Ordering::AcqRel);
                        all.wait();
                    }
                });
            }
        });
        assert_eq!(taken.load(Ordering::Acquire), 200 * 10, "each time exactly ten of sixteen");
    }
}
