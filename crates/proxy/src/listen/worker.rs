//! One worker thread: accepts connections on its own sockets and serves them on its own runtime.

use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Reason;
use runtime::Tasks;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

use super::bound::{Bound, count};
use super::connection;
use super::ended::Ended;
use super::last_accept;
use super::limits::{ConnectionLimit, Place};
use super::manager::Command;
use crate::filter::denial_log::DenialLog;
use crate::filter::{self, Downstream};
use crate::tcp::{self, Forwarder};

/// Pause after a failed accept, so that a lack of descriptors does not become a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the connections of one worker share.
pub struct Worker {
    /// Starts connections.
    pub tasks: Tasks,
    /// Bound on connections, for all workers.
    pub limit: ConnectionLimit,
    /// Serves HTTP.
    pub http: Rc<filter::Worker>,
    /// Lines about connections that failed: no accept, no place, no handshake.
    pub failures: DenialLog,
    /// Forwards bytes.
    pub tcp: Forwarder,
}

/// Runs a worker until its manager is gone.
pub async fn run(worker: Rc<Worker>, mut commands: UnboundedReceiver<Command>) {
    while let Some(Command::Accept(bound, socket)) = commands.recv().await {
        match TcpListener::from_std(socket) {
            Ok(listener) => worker.tasks.job_local("listener", accept(worker.clone(), bound, listener)),
            Err(error) => tracing::error!(listener = %bound.name, "this worker cannot accept: {error}"),
        }
    }
}

async fn accept(worker: Rc<Worker>, bound: Arc<Bound>, listener: TcpListener) {
    let open = bound.socket();
    let mut failing = false;
    loop {
        tokio::select! {
            biased;
            () = bound.stopped().started() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(listener = %bound.name, "accepting again");
                    }
                    start(&worker, &bound, stream, peer);
                }
                // The client was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // Once: what waits in the queue fails the same way, and is accepted when descriptors come back.
                    if !std::mem::replace(&mut failing, true)
                        && let Some(suppressed) = worker.failures.admit(Instant::now())
                    {
                        let remedy = "new connections wait; raise `ulimit -n` if this is its end";
                        tracing::warn!(listener = %bound.name, suppressed, "accept failed: {error}; {remedy}");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    last_accept::close(listener, |stream, peer| start(&worker, &bound, stream, peer)).await;
    drop(open);
}

fn start(worker: &Rc<Worker>, bound: &Arc<Bound>, stream: TcpStream, peer: std::net::SocketAddr) {
    count(&bound.counts.accepted);
    // The listener's own limit first: it must not use up places of the process.
    let limits = bound.limit.iter().chain([&worker.limit]);
    let mut places: [Option<Place>; 2] = [None, None];
    for (limit, place) in limits.zip(&mut places) {
        *place = limit.take();
        if place.is_none() {
            return turn_away(worker, bound, &stream, peer, limit.limit());
        }
    }
    let (worker_of_job, bound) = (worker.clone(), bound.clone());
    worker.tasks.job_local("connection", async move {
        let closing = Closing(bound.clone());
        connection::run(worker_of_job, bound, stream, peer).await;
        drop((closing, places));
    });
}

fn turn_away(worker: &Worker, bound: &Bound, stream: &TcpStream, peer: std::net::SocketAddr, limit: u64) {
    count(&bound.counts.overflow);
    count(&bound.counts.closed);
    let listener = bound.current();
    if !listener.logs.is_empty() {
        let mut record = tcp::record();
        let local = stream.local_addr().unwrap_or(bound.address);
        let downstream = Downstream { local, remote: peer, session: None, passed_server_name: None };
        Ended::by(Some(Reason::ConnectionLimit)).log(worker, &listener.logs, &mut record, &downstream);
    }
    // Anybody can open connections; nobody may fill the log with them.
    if let Some(suppressed) = worker.failures.admit(Instant::now()) {
        let remedy = match &bound.limit {
            Some(own) if own.limit() == limit => "the listener's connection_limit is reached",
            _ => "raise `ulimit -n`, or overload.global_downstream_max_connections where it is set",
        };
        tracing::warn!(listener = %bound.name, %peer, limit, suppressed, "closed: too many connections; {remedy}");
    }
}

/// Counts the close, also when the connection's job panics.
struct Closing(Arc<Bound>);

impl Drop for Closing {
    fn drop(&mut self) {
        count(&self.0.counts.closed);
    }
}
