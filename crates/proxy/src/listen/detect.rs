//! Waits until it is known what a connection speaks, also where the server speaks first.
//!
//! A client that says nothing may wait for the server's greeting. Where plaintext bytes would be forwarded, the upstream
//! connection is made while the client is still silent, and what it says is held until the verdict: a peer of the mesh
//! gets time for its ClientHello, a stranger almost none. Where the mode allows no plaintext, nobody is called.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::authorize::denial;
use super::chain::ActiveListener;
use super::choose::{self, Asked};
use super::inspect::{Inspection, Objection, Seen};
use super::worker::Worker;
use crate::filter::Downstream;
use crate::tcp::{Dialled, TcpChain, dial, record};

/// Silence after which the upstream is called. Clients that speak first have spoken by then.
const DIAL_AFTER: Duration = Duration::from_millis(1);
/// What a stranger has for its first byte once the server has spoken: 5 ms, of which the timer may take up to two.
const STRANGER_WAIT: Duration = Duration::from_millis(3);
/// What a peer of the mesh has.
const MESH_PEER_WAIT: Duration = Duration::from_secs(1);
/// How long a client may be silent where the listener sets no limit.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// How long a first line may stay unclear where the listener sets no limit; then it is forwarded as it is.
const LINE_LIMIT: Duration = Duration::from_secs(1);
/// How long a ClientHello may take where the listener sets no limit.
const HELLO_LIMIT: Duration = Duration::from_secs(15);

/// What came out.
#[derive(Debug, Default)]
pub struct Detected {
    /// What the first bytes say; nothing, where the server spoke first.
    pub seen: Seen,
    /// The upstream connection that was made meanwhile.
    pub dialled: Option<Dialled>,
}

/// Why a connection ends here.
#[derive(Debug, thiserror::Error)]
pub enum Undetected {
    /// It closed, broke, or took too long.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// An inspector objects.
    #[error("{0}")]
    Objection(#[from] Objection),
}

/// One connection whose protocol is not known.
pub struct Detection<'a> {
    /// The worker.
    pub worker: &'a Worker,
    /// The listener.
    pub listener: &'a ActiveListener,
    /// The connection's addresses.
    pub downstream: &'a Downstream,
    /// When it was accepted.
    pub accepted: Instant,
}

/// Why waiting for the first byte ended.
enum First {
    Byte,
    ServerSpoke,
    Silence,
}

impl Detection<'_> {
    /// Reads into `buffer` until it is known what the connection speaks. Whoever comes next has to see these bytes again.
    ///
    /// # Errors
    /// The connection is to be closed.
    pub async fn run(&self, stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Detected, Undetected> {
        let dialled = RefCell::new(None);
        let first = self.first(stream, buffer, &dialled).await?;
        let dialled = dialled.into_inner();
        let seen = match first {
            First::Byte => self.inspect(stream, buffer).await?,
            First::ServerSpoke | First::Silence => Seen::default(),
        };
        Ok(Detected { seen, dialled })
    }

    /// Waits for the first byte of the client, or of the server.
    async fn first(
        &self,
        stream: &mut TcpStream,
        buffer: &mut BytesMut,
        dialled: &RefCell<Option<Dialled>>,
    ) -> Result<First, Undetected> {
        let limit = self.listener.config.listener_filters_timeout;
        let silence = match limit {
            None => SILENCE_LIMIT,
            // What goes on as plaintext when the time is up must not be a ClientHello that is a little late.
            Some(limit) if self.goes_on() && self.is_mesh_peer() => limit.max(MESH_PEER_WAIT),
            Some(limit) => limit,
        };
        let greeting = async {
            sleep_until(self.accepted + DIAL_AFTER).await;
            match self.would_be_forwarded() {
                Some(chain) => self.greeting(&chain, dialled).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            read = stream.read_buf(buffer) => {
                if read? == 0 {
                    return Err(closed_early().into());
                }
                Ok(First::Byte)
            }
            () = greeting => Ok(First::ServerSpoke),
            () = sleep_until(self.accepted + silence) => match limit {
                Some(limit) if !self.goes_on() => Err(late("not a byte", limit).into()),
                _ => Ok(First::Silence),
            },
        }
    }

    /// Whether the connection is taken as plaintext when the listener's time is up.
    fn goes_on(&self) -> bool {
        self.listener.config.continue_on_listener_filters_timeout
    }

    /// Whether the client's address is one of a workload of the mesh.
    fn is_mesh_peer(&self) -> bool {
        self.worker.http.shared.routing.load().is_mesh_address(&self.downstream.remote.ip())
    }

    /// The TCP proxy that would take a client which says nothing.
    fn would_be_forwarded(&self) -> Option<Arc<TcpChain>> {
        let Downstream { local, remote, .. } = *self.downstream;
        let silent = Seen::default();
        let chain = choose::filter_chain(self.listener, &Asked { local, remote, seen: &silent })?;
        // Whoever may not pass causes no connection.
        if chain.tls.is_some() || denial(&chain.config.filters, self.downstream).is_some() {
            return None;
        }
        chain.tcp.clone()
    }

    /// Ready when the server has spoken and the client's time is up.
    async fn greeting(&self, chain: &TcpChain, dialled: &RefCell<Option<Dialled>>) {
        let made = dial(&self.worker.tcp, &chain.config, record()).await;
        let wait = match made {
            Ok(made) => {
                dialled.replace(Some(made));
                // An error of the upstream is found again by whoever forwards.
                poll_fn(|cx| match &mut *dialled.borrow_mut() {
                    Some(dialled) => dialled.poll_greeting(cx).map(drop),
                    None => Poll::Ready(()),
                })
                .await;
                if dialled.borrow().as_ref().is_some_and(Dialled::greets_in_http2) {
                    // The client speaks, or its silence ends as anybody's does.
                    return std::future::pending().await;
                }
                if self.is_mesh_peer() { MESH_PEER_WAIT } else { STRANGER_WAIT }
            }
            // The client is told soon, but may still turn out to speak something that goes elsewhere.
            Err(_) => MESH_PEER_WAIT,
        };
        sleep_until(self.accepted + wait).await;
    }

    /// Looks at bytes until they say enough.
    async fn inspect(&self, stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Seen, Undetected> {
        let mut inspection = Inspection::new(self.listener.inspectors);
        let limit = self.listener.config.listener_filters_timeout;
        let begun = Instant::now();
        loop {
            if let Some(seen) = inspection.look(buffer)? {
                return Ok(seen);
            }
            let own_limit = if inspection.may_be_tls() { HELLO_LIMIT } else { LINE_LIMIT };
            let deadline = limit.map_or(begun + own_limit, |limit| self.accepted + limit);
            match timeout_at(deadline, stream.read_buf(buffer)).await {
                Ok(Ok(0)) => return Err(closed_early().into()),
                Ok(read) => drop(read?),
                Err(_) => return self.unclear(&inspection).map(|()| Seen::default()),
            }
        }
    }

    /// Time is up: whether the connection is taken as one that said nothing.
    fn unclear(&self, inspection: &Inspection) -> Result<(), Undetected> {
        match self.listener.config.listener_filters_timeout {
            Some(limit) if !self.goes_on() => Err(late("its protocol is still not known", limit).into()),
            // Half a ClientHello is no plaintext.
            None if inspection.may_be_tls() => Err(late("only a part of a ClientHello", HELLO_LIMIT).into()),
            _ => Ok(()),
        }
    }
}

fn closed_early() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed before its protocol was known")
}

/// An error for a peer that takes too long.
pub fn late(what: &str, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} after {limit:?}"))
}
