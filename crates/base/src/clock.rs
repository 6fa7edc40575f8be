//! The clock as a value, so that a test decides what time it is.

use std::time::{Duration, SystemTime};

/// Wall-clock time. Only the rim reads a real clock; rooms take this trait.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> SystemTime;

    /// Seconds since the Unix epoch; 0 for a clock set before it.
    fn unix_seconds(&self) -> u64 {
        self.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
