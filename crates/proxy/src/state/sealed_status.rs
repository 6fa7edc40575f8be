//! What is known about the sealed snapshot, for the admin pages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// The facts, shared by the task that writes and the pages that show. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SealedStatus(Arc<Mutex<Facts>>);

/// The facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The snapshot that this process started from.
    pub loaded: Option<Loaded>,
    /// Why the snapshot that was there at the start was refused.
    pub refused: Option<String>,
    /// Snapshots written since the start.
    pub writes: u64,
    /// Attempts to write that failed since the start.
    pub write_failures: u64,
    /// Why the last attempt to write failed; `None` when it succeeded.
    pub failure: Option<String>,
    /// When the snapshot on the disk was made.
    pub saved: Option<SystemTime>,
    /// Bytes of the snapshot on the disk.
    pub bytes: usize,
}

/// A snapshot that was taken into use at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// When it was made.
    pub saved: SystemTime,
    /// How many resources it has.
    pub resources: usize,
}

impl SealedStatus {
    /// The facts now.
    pub fn facts(&self) -> Facts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes them.
    pub fn change(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
