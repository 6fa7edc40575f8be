//! Keeps the sockets as the snapshot says: binds what is new, swaps what changed, leaves alone what is equal.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use config::Refused;
use config::model::{Direction, Listener};
use tokio::sync::mpsc::UnboundedSender;

use super::bind;
use super::bound::Bound;
use super::chain::{ActiveListener, Parts};
use crate::state::Named;
use crate::telemetry::registry::Family;

/// What a worker is told.
#[derive(Debug)]
pub enum Command {
    /// Accept connections from this socket.
    Accept(Arc<Bound>, std::net::TcpListener),
}

/// The listeners that are bound now, for the admin pages. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Listening {
    bound: Arc<Mutex<BTreeMap<Arc<str>, Arc<Bound>>>>,
    failures: Arc<Mutex<BTreeMap<Arc<str>, String>>>,
}

impl Listening {
    /// What is bound, by name.
    pub fn list(&self) -> Vec<Arc<Bound>> {
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What could not be bound, by name, with the reason.
    pub fn failures(&self) -> BTreeMap<Arc<str>, String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the connections of these listeners, each after its request; they still accept.
    pub fn drain(&self, concerned: fn(Direction) -> bool) {
        self.concerned(concerned).for_each(|bound| bound.drain());
    }

    /// Stops accepting on these listeners, and ends their connections after their request.
    pub fn stop(&self, concerned: fn(Direction) -> bool) {
        self.concerned(concerned).for_each(|bound| bound.stop());
    }

    /// These listeners accept nothing any more, and their connections have ended.
    pub fn is_over(&self, concerned: fn(Direction) -> bool) -> bool {
        self.concerned(concerned).all(|bound| bound.is_over())
    }

    fn concerned(&self, concerned: fn(Direction) -> bool) -> impl Iterator<Item = Arc<Bound>> {
        self.list().into_iter().filter(move |bound| concerned(bound.direction()))
    }
}

/// Owner of the listeners. Lives on the main thread.
pub struct Manager {
    workers: Vec<UnboundedSender<Command>>,
    parts: Parts,
    /// Most connections of a listener, by its name.
    limits: BTreeMap<Arc<str>, u64>,
    listening: Listening,
}

const NO_MATCH: Family = Family {
    name: "envoy_listener_no_filter_chain_match",
    help: "Connections closed because no filter chain takes them.",
    kind: "counter",
};
const ACCEPTED: Family =
    Family { name: "envoy_listener_downstream_cx_total", help: "Connections accepted.", kind: "counter" };
const CLOSED: Family =
    Family { name: "envoy_listener_downstream_cx_destroy", help: "Connections closed.", kind: "counter" };
const TLS_ERRORS: Family = Family {
    name: "envoy_listener_ssl_connection_error",
    help: "Failed handshakes, and plaintext where TLS is demanded.",
    kind: "counter",
};
const OVERFLOW: Family = Family {
    name: "envoy_listener_downstream_cx_overflow",
    help: "Connections closed at once because the listener or the process has too many.",
    kind: "counter",
};

impl Manager {
    /// A manager that hands sockets to `workers`; `limits` of connections are by a listener's name.
    pub fn new(
        workers: Vec<UnboundedSender<Command>>,
        parts: Parts,
        limits: BTreeMap<Arc<str>, u64>,
    ) -> Manager {
        Manager { workers, parts, limits, listening: Listening::default() }
    }

    /// What is bound.
    pub fn listening(&self) -> Listening {
        self.listening.clone()
    }

    /// Makes the sockets what the snapshot says. What fails is reported, kept as it was and tried again by the next
    /// call; true when nothing failed.
    pub fn reconcile(&mut self, wanted: &Named<Listener>) -> bool {
        let mut failures = BTreeMap::new();
        let current: Vec<Arc<Bound>> = self.listening.list();
        for old in &current {
            if !wanted.contains_key(&old.name) {
                self.remove(old);
            }
        }
        for (name, listener) in wanted {
            let old = current.iter().find(|bound| bound.name == *name);
            if let Err(reason) = self.apply(listener, old) {
                failures.insert(name.clone(), reason);
            }
        }
        let mut known = self.listening.failures.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, reason) in &failures {
            if known.get(name) != Some(reason) {
                tracing::error!(listener = %name, "{reason}");
            }
        }
        *known = failures;
        known.is_empty()
    }

    fn remove(&self, bound: &Arc<Bound>) {
        tracing::info!(listener = %bound.name, address = %bound.address, "listener removed");
        bound.stop();
        self.listening.bound.lock().unwrap_or_else(PoisonError::into_inner).remove(&bound.name);
    }

    fn apply(&mut self, listener: &Arc<Listener>, old: Option<&Arc<Bound>>) -> Result<(), String> {
        let previous = old.map(|old| old.current());
        if previous.as_ref().is_some_and(|previous| Arc::ptr_eq(&previous.config, listener)) {
            return Ok(());
        }
        if !listener.bind_to_port {
            if let Some(old) = old {
                self.remove(old);
            }
            return Ok(());
        }
        let address = bind::socket_address(&listener.address).map_err(|error| error.to_string())?;
        let active = ActiveListener::build(listener, previous.as_deref(), &self.parts)
            .map_err(|refused: Refused| refused.to_string())?;
        if let Some(old) =
            old.filter(|_| previous.is_some_and(|previous| previous.config.address == listener.address))
        {
            old.replace(active);
            tracing::info!(listener = %listener.name, "listener changed");
            return Ok(());
        }
        let sockets = bind::tcp(address, self.workers.len(), listener.tcp_backlog_size)
            .map_err(|error| error.to_string())?;
        let local = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(address);
        let bound = Arc::new(Bound::new(local, active, self.limits.get(&listener.name).copied()));
        self.show(&bound, local);
        for (worker, socket) in self.workers.iter().zip(sockets) {
            worker
                .send(Command::Accept(bound.clone(), socket))
                .map_err(|_| "the worker has ended".to_owned())?;
        }
        if let Some(old) = old {
            old.stop();
        }
        self.listening
            .bound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(listener.name.clone(), bound);
        tracing::info!(listener = %listener.name, address = %local, "listening");
        Ok(())
    }

    fn show(&self, bound: &Bound, address: SocketAddr) {
        let counts = &bound.counts;
        let cells: [(&'static Family, &Arc<AtomicU64>); 5] = [
            (&ACCEPTED, &counts.accepted),
            (&CLOSED, &counts.closed),
            (&NO_MATCH, &counts.no_filter_chain_match),
            (&TLS_ERRORS, &counts.tls_errors),
            (&OVERFLOW, &counts.overflow),
        ];
        for (family, cell) in cells {
            let label = address.to_string().replace(':', "_");
            self.parts.shared.registry.shared_counter(family, vec![("envoy_listener_address", label)], cell);
        }
    }
}
