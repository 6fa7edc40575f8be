//! A bound address: its configuration can be swapped while it stays bound.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use arc_swap::ArcSwap;
use config::model::Direction;
use runtime::{Drain, DrainWatch};

use super::chain::ActiveListener;
use super::limits::ConnectionLimit;

/// A listener that accepts connections on all workers.
#[derive(Debug)]
pub struct Bound {
    /// The listener's name.
    pub name: Arc<str>,
    /// Where it is bound.
    pub address: SocketAddr,
    /// What happened on it.
    pub counts: Counts,
    /// Bound on its connections alone, where one is set.
    pub limit: Option<ConnectionLimit>,
    current: ArcSwap<ActiveListener>,
    draining: AtomicBool,
    /// Sockets that still accept, one for each worker.
    sockets: Arc<()>,
    stop: Drain,
    stopped: DrainWatch,
}

/// Numbers of one listener, added to by all workers. Connections are rare next to requests.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections accepted: Envoy's `downstream_cx_total`.
    pub accepted: Arc<AtomicU64>,
    /// Connections closed.
    pub closed: Arc<AtomicU64>,
    /// Connections that no filter chain takes: Envoy's `no_filter_chain_match`.
    pub no_filter_chain_match: Arc<AtomicU64>,
    /// Plaintext on a TLS chain, and failed handshakes: Envoy's `ssl.connection_error`.
    pub tls_errors: Arc<AtomicU64>,
    /// Connections closed at once because the listener or the process has too many: Envoy's `downstream_cx_overflow`.
    pub overflow: Arc<AtomicU64>,
}

impl Counts {
    /// Connections open now.
    pub fn open(&self) -> u64 {
        let closed = self.closed.load(Ordering::Relaxed);
        self.accepted.load(Ordering::Relaxed).saturating_sub(closed)
    }
}

/// Adds one.
pub fn count(cell: &AtomicU64) {
    cell.fetch_add(1, Ordering::Relaxed);
}

impl Bound {
    /// A listener bound at `address`, with at most `limit` connections.
    pub fn new(address: SocketAddr, active: ActiveListener, limit: Option<u64>) -> Bound {
        let (stop, stopped) = Drain::new();
        let name = active.config.name.clone();
        Bound {
            name,
            address,
            counts: Counts::default(),
            limit: limit.map(ConnectionLimit::new),
            current: ArcSwap::from_pointee(active),
            draining: AtomicBool::new(false),
            sockets: Arc::default(),
            stop,
            stopped,
        }
    }

    /// The configuration now: one atomic load.
    pub fn current(&self) -> Arc<ActiveListener> {
        self.current.load_full()
    }

    /// New connections get the new configuration; those of chains that are gone find their place in it, or end.
    pub fn replace(&self, next: ActiveListener) {
        let next = Arc::new(next);
        let old = self.current.swap(next.clone());
        old.drain_unless_in(Some(&next));
        if self.draining.load(Ordering::Acquire) {
            next.drain_unless_in(None);
        }
    }

    /// Held by whoever accepts on one of its sockets, for as long as the socket is open.
    pub fn socket(&self) -> Arc<()> {
        self.sockets.clone()
    }

    /// Nothing is accepted any more, and every connection has ended.
    pub fn is_over(&self) -> bool {
        // The own one is left. Sockets are looked at first: a connection is counted before its socket closes.
        let closed = Arc::strong_count(&self.sockets) == 1;
        fence(Ordering::Acquire);
        closed && self.counts.open() == 0
    }

    /// Which way its connections go.
    pub fn direction(&self) -> Direction {
        self.current.load().config.direction
    }

    /// Ends the connections, each after its request; new ones are still accepted, for one request each.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.current.load().drain_unless_in(None);
    }

    /// Accepts nothing more, and ends the connections.
    pub fn stop(&self) {
        self.drain();
        self.stop.start();
    }

    /// Whether every connection is to end, those that still come as well.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Told when nothing more is accepted.
    pub fn stopped(&self) -> &DrainWatch {
        &self.stopped
    }
}
