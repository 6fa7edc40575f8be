//! How many connections may be open: a bound for the whole process, below the number of file descriptors, and one for each
//! listener that has one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not for downstream connections: sockets that listen, logs, the control plane.
const RESERVED: u64 = 256;

/// Bound on the downstream connections of the process, or of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    open: Arc<AtomicU64>,
    limit: u64,
}

/// One open connection; closing gives its place back.
#[derive(Debug)]
pub struct Place(Arc<AtomicU64>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionLimit {
    /// A bound of `limit` connections.
    pub fn new(limit: u64) -> Self {
        ConnectionLimit { open: Arc::new(AtomicU64::new(0)), limit }
    }

    /// Raises the process's descriptor limit as far as it may go, and takes half of what is left: each downstream
    /// connection may need an upstream one. `wanted` makes it smaller.
    pub fn from_descriptors(wanted: Option<u64>) -> Self {
        let limits = getrlimit(Resource::Nofile);
        if limits.current != limits.maximum {
            // Refused in some sandboxes; then the limit stays as it is.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, maximum: limits.maximum });
        }
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20).min(1 << 20);
        let most = (descriptors.saturating_sub(RESERVED) / 2).max(16);
        ConnectionLimit::new(wanted.unwrap_or(most).min(most))
    }

    /// A place for one more connection, if there is one.
    pub fn take(&self) -> Option<Place> {
        // Reserve, then look: two workers cannot both get the last place.
        if self.open.fetch_add(1, Ordering::Relaxed) < self.limit {
            return Some(Place(self.open.clone()));
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_places_come_back() {
        let limit = ConnectionLimit::new(2);
        let places = (limit.take().unwrap(), limit.take().unwrap());
        assert!(limit.take().is_none());
        drop(places.0);
        assert!(limit.take().is_some());
        assert_eq!(limit.open(), 1);
    }
}
