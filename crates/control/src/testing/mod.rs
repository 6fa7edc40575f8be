//! What the tests of this room share. Compiled for tests only.

pub mod client;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use base::Clock;

/// A clock that a test sets.
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// A clock at the machine's time (certificates made by it are then valid for TLS stacks too).
    pub fn new() -> Arc<TestClock> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        Arc::new(TestClock(AtomicU64::new(now)))
    }

    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}
