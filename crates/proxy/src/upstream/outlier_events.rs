//! What became of outliers: a log line each, and the last ones for the admin page.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;

use super::outlier::Cause;
use crate::telemetry::start_time;

/// Most events that are kept.
pub const MAX_EVENTS: usize = 256;

/// A host was ejected, or has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierEvent {
    /// When.
    pub at: SystemTime,
    /// The cluster.
    pub cluster: Arc<str>,
    /// The host's address.
    pub host: Arc<str>,
    /// Ejections of the host so far.
    pub ejections: u32,
    /// What happened.
    pub action: Action,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ejected.
    Ejected {
        /// Why.
        cause: Cause,
        /// For at least so long; it returns at the first sweep after.
        time: Duration,
    },
    /// Returned.
    Returned,
}

/// The last events. Written and read off the request path.
#[derive(Debug, Default)]
pub struct OutlierEvents {
    wake: Arc<Notify>,
    last: Mutex<VecDeque<OutlierEvent>>,
}

impl OutlierEvents {
    /// Told when somebody's health has changed.
    pub fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// The last events, oldest first.
    pub fn last(&self) -> Vec<OutlierEvent> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Logs and keeps an event.
    pub(super) fn add(&self, event: OutlierEvent) {
        let (cluster, host, ejections) = (&*event.cluster, &*event.host, event.ejections);
        match event.action {
            Action::Ejected { cause, time } => {
                let mut until = Vec::new();
                start_time::write_default(&mut until, event.at + time);
                let until = String::from_utf8_lossy(&until);
                let cause = cause.text();
                tracing::warn!(cluster, host, cause, %until, ejections, "host ejected: it is an outlier");
            }
            Action::Returned => tracing::info!(cluster, host, ejections, "host returned from its ejection"),
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= MAX_EVENTS {
            last.pop_front();
        }
        last.push_back(event);
    }
}
