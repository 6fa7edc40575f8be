//! What a connection manager knows about its downstream connection.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::chain::HttpChain;
use super::timers::Timers;
use super::worker::{HttpCells, TracingCells, Worker};
use crate::http::Gone;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::{ConnectionSecurity, Service};
use crate::telemetry::peer_metadata::PeerCache;
use crate::telemetry::record::ConnectionFacts;
use crate::tls::{Peer, Session};

/// A downstream connection as the listener hands it over.
#[derive(Debug, Clone)]
pub struct Downstream {
    /// The address that the client connected to (before redirection, where that is known).
    pub local: SocketAddr,
    /// The address of the connection's other end.
    pub remote: SocketAddr,
    /// What the TLS handshake told; `None` on a plaintext connection.
    pub session: Option<Session>,
    /// The server name that a ClientHello asked for which is passed on, not answered.
    pub passed_server_name: Option<Arc<str>>,
}

impl Downstream {
    /// The server name that the client asked for.
    pub fn server_name(&self) -> Option<&str> {
        let agreed = self.session.as_ref().and_then(|session| session.sni.as_deref());
        agreed.or(self.passed_server_name.as_deref())
    }

    /// What logs say of it.
    pub fn facts(&self) -> ConnectionFacts {
        let session = self.session.as_ref();
        let peer = session.and_then(|session| session.peer.as_deref());
        let text = |text: Option<&str>| Arc::from(text.unwrap_or_default());
        ConnectionFacts {
            local: self.local,
            remote: self.remote,
            server_name: text(self.server_name()),
            peer_uri_sans: text(peer.map(|peer| peer.uri_sans.join(",")).as_deref()),
            peer_subject: text(peer.map(|peer| peer.subject.as_str())),
            local_uri_sans: text(session.and_then(|session| session.local_uri.as_deref())),
            tls_version: session.map_or("", |session| session.version),
        }
    }
}

/// A downstream connection with what its requests share.
pub struct ConnectionState {
    /// The connection manager's chain. Requests reach it through here, so that none of them touches a reference count
    /// that all workers share.
    pub chain: Arc<HttpChain>,
    /// Facts for logs.
    pub facts: ConnectionFacts,
    /// What the TLS handshake told.
    pub session: Option<Session>,
    /// The peer's verified SPIFFE id, else `unknown`.
    pub peer_principal: Interned<str>,
    /// Our own SPIFFE id, else `unknown`.
    pub own_principal: Interned<str>,
    /// The workload that the peer last said it is.
    pub peer: PeerCache,
    /// The service that the last Host header named.
    pub host_service: RefCell<Option<(Bytes, Interned<Service>)>>,
    /// The worker's counters of this connection manager.
    pub cells: Rc<HttpCells>,
    /// The worker's counts of what is traced; `None` without traces.
    pub tracing: Option<Rc<TracingCells>>,
    /// How the client goes away whose exchange is dropped.
    pub gone: Rc<Cell<Gone>>,
    /// Timers that its requests use one after the other.
    pub timers: Timers,
}

impl ConnectionState {
    /// The state of a new connection.
    pub fn new(worker: &Worker, chain: &Arc<HttpChain>, downstream: Downstream) -> Self {
        let facts = downstream.facts();
        let session = downstream.session;
        let peer = session.as_ref().and_then(|session| session.peer.as_deref());
        let principals = &worker.metrics.registry().principals;
        let principal = |text: Option<&str>| {
            text.map_or_else(|| principals.unknown(), |text| principals.intern(text.into()))
        };
        let local_uri = session.as_ref().and_then(|session| session.local_uri.clone());
        Self {
            chain: chain.clone(),
            peer_principal: principal(peer.and_then(|peer| peer.uri_sans.first()).map(String::as_str)),
            own_principal: principal(local_uri.as_deref()),
            facts,
            session,
            peer: PeerCache::default(),
            host_service: RefCell::default(),
            cells: worker.http_cells(&chain.config.stat_prefix),
            tracing: chain.tracing.as_ref().map(|_| worker.tracing_cells(&chain.config.stat_prefix)),
            gone: Rc::default(),
            timers: Timers::default(),
        }
    }

    /// The peer's verified certificate.
    pub fn peer_certificate(&self) -> Option<&Peer> {
        self.session.as_ref().and_then(|session| session.peer.as_deref())
    }

    /// Whether the peer proved to be a workload of the mesh.
    pub fn is_mesh_peer(&self) -> bool {
        self.peer_certificate().is_some_and(|peer| peer.spiffe.is_some())
    }

    /// How the caller reached us, for the destination's metrics.
    pub fn security(&self) -> ConnectionSecurity {
        if self.peer_certificate().is_some() {
            ConnectionSecurity::MutualTls
        } else {
            ConnectionSecurity::None
        }
    }
}
