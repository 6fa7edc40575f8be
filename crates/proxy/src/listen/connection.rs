//! One accepted connection, from its first byte to its last: inspection, filter chain, handshake, protocol.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use config::model::NetworkFilter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::authorize::allowed;
use super::bound::{Bound, count};
use super::chain::{ActiveListener, Chain};
use super::choose::{self, Asked};
use super::inspect::{Seen, inspect, is_tls};
use super::prefixed::Prefixed;
use super::worker::Worker;
use crate::filter::{ConnectionManager, Downstream, HttpChain};
use crate::http::h1::server::{ConnectionError, serve};
use crate::http::on_wake::OnWake;
use crate::tcp;
use crate::tls::HandshakeError;

/// How long a connection of a replaced chain may finish what it does (Istio's drain duration).
const REPLACED_GRACE: Duration = Duration::from_secs(45);
/// Handshake limit where the chain names none (Envoy has none; an open end is an invitation).
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// Why a connection was closed before a protocol was spoken on it.
enum Dropped {
    /// It closed, or was silent.
    Silent(io::Error),
    /// No chain takes it.
    NoChain(Seen),
    /// Plaintext where TLS is demanded.
    Plaintext,
    /// TLS failed.
    Handshake(HandshakeError),
}

/// Serves one connection to its end.
pub async fn run(worker: Rc<Worker>, bound: Arc<Bound>, stream: TcpStream, remote: SocketAddr) {
    let active = bound.current();
    // A socket that is broken already shows it on the first use.
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().unwrap_or(bound.address);
    if let Err(dropped) = serve_connection(&worker, &active, stream, local, remote).await {
        report(&worker, &bound, remote, &dropped);
    }
}

fn report(worker: &Worker, bound: &Bound, peer: SocketAddr, dropped: &Dropped) {
    let listener = &*bound.name;
    match dropped {
        Dropped::Silent(error) => tracing::debug!(listener, %peer, "closed: {error}"),
        Dropped::NoChain(seen) => {
            count(&bound.counts.no_filter_chain_match);
            let protocol = if seen.tls { "TLS" } else { "plaintext" };
            tracing::debug!(listener, %peer, protocol, sni = ?seen.sni, "closed: no filter chain takes this connection");
        }
        Dropped::Plaintext => {
            count(&bound.counts.no_filter_chain_match);
            count(&bound.counts.tls_errors);
            tracing::debug!(listener, %peer, "closed without a byte: plaintext where mutual TLS is required (STRICT)");
        }
        Dropped::Handshake(error) => {
            count(&bound.counts.tls_errors);
            // Anybody can fail a handshake; nobody may fill the log with it.
            if let Some(suppressed) = worker.failures.admit(Instant::now()) {
                tracing::info!(listener, suppressed, blame = ?error.blame, "{error}");
            }
        }
    }
}

async fn serve_connection(
    worker: &Worker,
    active: &ActiveListener,
    mut stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
) -> Result<(), Dropped> {
    let mut buffer = BytesMut::new();
    let seen = if active.inspects { look(active, &mut stream, &mut buffer).await? } else { Seen::default() };
    let asked = Asked { local, remote, seen: &seen };
    let Some(chain) = choose::filter_chain(active, &asked) else { return Err(Dropped::NoChain(seen)) };
    let chain = chain.clone();
    let mut downstream = Downstream { local, remote, session: None };
    let Some(tls) = &chain.tls else {
        speak(worker, &chain, Prefixed::new(buffer.freeze(), stream), downstream).await;
        return Ok(());
    };
    let limit = chain.config.transport_socket_connect_timeout.unwrap_or(HANDSHAKE_LIMIT);
    match tokio::time::timeout(limit, is_tls(&mut stream, &mut buffer)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => return Err(Dropped::Plaintext),
        Ok(Err(error)) => return Err(Dropped::Silent(error)),
        Err(_) => return Err(Dropped::Silent(timed_out("no ClientHello", limit))),
    }
    let stream = Prefixed::new(buffer.freeze(), stream);
    let (stream, session) = tls.accept(stream, remote, Some(limit)).await.map_err(Dropped::Handshake)?;
    downstream.session = Some(session);
    speak(worker, &chain, stream, downstream).await;
    Ok(())
}

/// The inspectors' part, within the listener's time for it.
async fn look(
    active: &ActiveListener,
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<Seen, Dropped> {
    let Some(limit) = active.config.listener_filters_timeout else {
        return inspect(stream, buffer).await.map_err(Dropped::Silent);
    };
    match tokio::time::timeout(limit, inspect(stream, buffer)).await {
        Ok(seen) => seen.map_err(Dropped::Silent),
        Err(_) if active.config.continue_on_listener_filters_timeout => Ok(Seen::default()),
        Err(_) => Err(Dropped::Silent(timed_out("its protocol is still not known", limit))),
    }
}

fn timed_out(what: &str, limit: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} after {limit:?}"))
}

async fn speak<IO>(worker: &Worker, chain: &Arc<Chain>, stream: IO, downstream: Downstream)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    if !allowed(worker, &chain.config.filters, &downstream) {
        return;
    }
    // Every wake of the connection passes here: asking must not touch what all connections share.
    let mut drained = OnWake::new(chain.drain().started());
    let over = async {
        poll_fn(|cx| drained.poll(cx)).await;
        tokio::time::sleep(REPLACED_GRACE).await;
    };
    match (&chain.http, chain.config.filters.last()) {
        (Some(chain_http), _) => {
            tokio::select! {
                () = http(worker, chain, chain_http, stream, downstream) => {}
                () = over => {}
            }
        }
        (None, Some(NetworkFilter::Tcp(proxy))) => {
            tokio::select! {
                () = tcp::forward(&worker.tcp, proxy, stream, &downstream) => {}
                () = over => {}
            }
        }
        // Refused when the chain was built.
        (None, _) => {}
    }
}

async fn http<IO>(worker: &Worker, chain: &Chain, http: &Arc<HttpChain>, stream: IO, downstream: Downstream)
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let peer = downstream.remote;
    let options = super::options::server_options(&http.config, downstream.session.is_some());
    let handler = ConnectionManager::new(&worker.http, http, downstream);
    match serve(stream, &handler, &options, chain.drain()).await {
        Ok(closed) => tracing::trace!(%peer, ?closed, "connection closed"),
        Err(ConnectionError::ClientGone) => tracing::trace!(%peer, "the client went away"),
        Err(error) => tracing::debug!(%peer, "{error}"),
    }
}
