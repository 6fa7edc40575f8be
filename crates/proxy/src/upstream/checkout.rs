//! A connection on which one request can be sent, whatever its protocol.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use base::Reason;

use super::bell::Bell;
use super::connect::ConnectionInfo;
use super::limits::Reserved;
use super::pool::HostPool;
use super::slots::Slot;
use super::stream::UpstreamStream;
use crate::http::h1::client::{Connection, Ended, SendError};
use crate::http::{Body, Informational, RequestHead, ResponseHead, h2_client};
use crate::telemetry::attempts::Opening;
use crate::telemetry::cells::Gauge;

/// An open connection beside its codec: what is known about it, and its places in gauge and limits.
#[derive(Debug)]
pub struct OpenConnection {
    /// Addresses and identities.
    pub info: ConnectionInfo,
    /// When it was opened.
    pub opened: Instant,
    /// When requests could be sent on it.
    pub ready: Cell<Option<Instant>>,
    active: Arc<Gauge>,
    /// Connections of its pool.
    established: Rc<Cell<usize>>,
    _slots: Slots,
}

/// The places of a connection in its host's and its cluster's limits.
#[derive(Debug)]
pub struct Slots {
    /// In the host's, where it has one.
    pub host: Option<Slot>,
    /// In the cluster's.
    pub cluster: Slot,
}

impl OpenConnection {
    /// Counts as open from now until it is dropped.
    pub fn new(info: ConnectionInfo, active: Arc<Gauge>, established: Rc<Cell<usize>>, slots: Slots) -> Self {
        active.add(1);
        established.set(established.get() + 1);
        let ready = Cell::new(info.opening.ready);
        Self { info, opened: Instant::now(), ready, active, established, _slots: slots }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.active.add(-1);
        self.established.set(self.established.get() - 1);
    }
}

/// An HTTP/1 connection that no request uses.
#[derive(Debug)]
pub struct Http1 {
    /// The codec.
    pub connection: Box<Connection<UpstreamStream>>,
    /// What is known about it.
    pub open: Rc<OpenConnection>,
}

/// An HTTP/2 connection that many requests use.
#[derive(Debug)]
pub struct Http2 {
    /// The codec.
    pub connection: h2_client::Connection,
    /// What is known about it.
    pub open: Rc<OpenConnection>,
    /// Streams open now.
    pub streams: Cell<usize>,
    /// Streams opened so far.
    pub requests: Cell<u64>,
    /// Streams that ended with a response.
    pub answered: Cell<u64>,
    /// Since when it has no stream.
    pub idle_since: Cell<Instant>,
}

impl Http2 {
    /// A connection without streams.
    pub fn new(connection: h2_client::Connection, open: Rc<OpenConnection>) -> Self {
        Http2 {
            connection,
            open,
            streams: Cell::new(0),
            requests: Cell::new(0),
            answered: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
        }
    }
}

/// Rings when an HTTP/2 connection has closed; keeps its places until then.
pub struct UntilClosed {
    /// What is known about it.
    pub open: Rc<OpenConnection>,
    /// Of its worker.
    pub bell: Arc<Bell>,
}

impl Drop for UntilClosed {
    fn drop(&mut self) {
        self.bell.ring();
    }
}

/// One stream of a connection; dropping it gives its place to the next request.
#[derive(Debug)]
pub struct StreamPlace {
    pool: Rc<HostPool>,
    of: Rc<Http2>,
}

impl StreamPlace {
    /// Takes a place; the caller has looked that there is one.
    pub fn take(pool: &Rc<HostPool>, of: &Rc<Http2>) -> Self {
        of.streams.set(of.streams.get() + 1);
        of.requests.set(of.requests.get() + 1);
        StreamPlace { pool: pool.clone(), of: of.clone() }
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.of.streams.set(self.of.streams.get() - 1);
        if self.of.streams.get() == 0 {
            self.of.idle_since.set(Instant::now());
        }
        self.pool.stream_ended();
    }
}

/// What a pool hands over.
#[derive(Debug)]
pub enum Ready {
    /// A whole connection, with the time since when it was idle if it was used before.
    Http1(Http1, Option<Instant>),
    /// A place on one.
    Http2(StreamPlace),
}

/// A connection on which one request can be sent. Dropped unused, an HTTP/1 connection closes.
#[derive(Debug)]
pub struct Checkout {
    pub(super) pool: Rc<HostPool>,
    pub(super) ready: Ready,
    pub(super) request: Reserved,
}

impl Checkout {
    /// What is known about the connection.
    pub fn info(&self) -> &ConnectionInfo {
        &self.open().info
    }

    /// When the connection was opened, phase by phase.
    pub fn opening(&self) -> Opening {
        Opening { ready: self.open().ready.get(), ..self.info().opening }
    }

    fn open(&self) -> &OpenConnection {
        match &self.ready {
            Ready::Http1(http1, _) => &http1.open,
            Ready::Http2(place) => &place.of.open,
        }
    }

    /// Sends a request and waits for the head of its response; polling the response's body moves the rest of the
    /// upload. `on_end` is called once, when the exchange has ended in whatever way; the connection then goes back to
    /// its pool where that is possible.
    ///
    /// # Errors
    /// Whom to blame, and whether the request can be sent again.
    pub async fn send(
        self,
        head: &RequestHead,
        body: Body,
        informational: &Informational,
        on_end: impl FnOnce() + 'static,
    ) -> Result<(ResponseHead, Body), SendError> {
        let Checkout { pool, ready, request } = self;
        let home = pool.clone();
        let result = match ready {
            Ready::Http1(Http1 { connection, open }, idle_since) => {
                let ended = Box::new(move |ended| {
                    drop(request);
                    on_end();
                    if let Ended::Reusable(connection) = ended {
                        home.give_back(Http1 { connection, open });
                    }
                });
                let result = connection.send(head, body, informational, ended).await;
                if let (Err(error), Some(since)) = (&result, idle_since)
                    && error.stale_connection
                {
                    pool.closed_while_idle(since);
                }
                result
            }
            Ready::Http2(place) => {
                let connection = place.of.clone();
                let ended = Box::new(move || {
                    drop(request);
                    on_end();
                    drop(place);
                });
                let mut result = connection.connection.send(head, body, informational, ended).await;
                match &mut result {
                    Ok(_) => connection.answered.set(connection.answered.get() + 1),
                    // It had answered before and then was gone: most likely it was closing when the request came.
                    Err(error) => {
                        error.stale_connection =
                            error.reason == Reason::UpstreamReset && connection.answered.get() > 0;
                    }
                }
                result
            }
        };
        if let Err(error) = &result
            && error.reason == Reason::UpstreamReset
        {
            pool.host_failed();
        }
        result
    }
}
