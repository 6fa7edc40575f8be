//! One accepted connection, from its first byte to its last: inspection, filter chain, handshake, protocol.
//!
//! Each phase is a future of its own on the heap, which is given back when the phase ends: a connection that waits holds
//! what its protocol needs, not what the largest phase of any protocol would.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Reason;
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::attachment::Attachment;
use super::authorize::denied;
use super::bound::{Bound, count};
use super::chain::{ActiveListener, Chain};
use super::choose::{self, Asked};
use super::codec;
use super::detect::{Detected, Detection, Undetected, late};
use super::ended::{self, Ended};
use super::inspect::{Seen, begins_like_tls};
use super::original;
use super::worker::Worker;
use crate::filter::{ConnectionManager, Downstream, HttpChain};
use crate::http::Version;
use crate::http::h1::server::{Ended as Switch, serve_or_switch};
use crate::tcp;
use crate::tcp::Dialled;
use crate::tcp::prefixed::Prefixed;
use crate::tls::{HandshakeError, ServerTls, Session};

/// Handshake limit where the chain names none (Envoy has none; an open end is an invitation).
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(15);

/// Why a connection was closed before a protocol was spoken on it.
enum Dropped {
    /// It closed, was silent, or began with what no inspector takes.
    Undetected(Undetected),
    /// No chain takes it.
    NoChain(Seen),
    /// Plaintext where TLS is demanded.
    Plaintext,
    /// TLS failed.
    Handshake(HandshakeError),
}

impl Dropped {
    /// The row of the table.
    fn reason(&self) -> Reason {
        match self {
            Dropped::Undetected(_) => Reason::Undetected,
            Dropped::NoChain(_) => Reason::NoFilterChain,
            Dropped::Plaintext => Reason::PlaintextRefused,
            Dropped::Handshake(error) => error.code,
        }
    }
}

impl From<io::Error> for Dropped {
    fn from(error: io::Error) -> Self {
        Dropped::Undetected(error.into())
    }
}

/// Serves one connection to its end.
pub async fn run(worker: Rc<Worker>, bound: Arc<Bound>, stream: TcpStream, remote: SocketAddr) {
    let listener = bound.current();
    // A socket that is broken already shows it on the first use.
    let _ = stream.set_nodelay(true);
    let mut local = stream.local_addr().unwrap_or(bound.address);
    if listener.redirected {
        local = original::destination(&stream, local);
    }
    let mut downstream = Downstream { local, remote, session: None, passed_server_name: None };
    let accepted = Accepted { worker: &worker, bound: &bound, listener: &listener };
    let record = (!listener.logs.is_empty()).then(|| Box::new(tcp::record()));
    let ended = accepted.serve(stream, &mut downstream).await.unwrap_or_else(|dropped| {
        report(&worker, &bound, remote, &dropped);
        Ended::from(dropped)
    });
    if let Some(mut record) = record {
        ended.log(&worker, &listener.logs, &mut record, &downstream);
    }
}

impl From<Dropped> for Ended {
    fn from(dropped: Dropped) -> Ended {
        let reason = Some(dropped.reason());
        match dropped {
            Dropped::NoChain(_) => {
                Ended { reason, termination: "filter_chain_not_found".into(), ..Ended::default() }
            }
            Dropped::Handshake(error) => Ended { reason, handshake: error.reason.into(), ..Ended::default() },
            Dropped::Plaintext | Dropped::Undetected(_) => Ended::by(reason),
        }
    }
}

fn report(worker: &Worker, bound: &Bound, peer: SocketAddr, dropped: &Dropped) {
    let listener = &*bound.name;
    match dropped {
        Dropped::Undetected(error) => tracing::debug!(listener, %peer, "closed: {error}"),
        Dropped::NoChain(seen) => {
            count(&bound.counts.no_filter_chain_match);
            let protocol = if seen.tls { "TLS" } else { "plaintext" };
            tracing::debug!(listener, %peer, protocol, sni = ?seen.sni, "closed: no filter chain takes this connection");
        }
        Dropped::Plaintext => {
            count(&bound.counts.no_filter_chain_match);
            count(&bound.counts.tls_errors);
            tracing::debug!(listener, %peer, reason = dropped.reason().code(), "closed without a byte: plaintext where mutual TLS is required (STRICT)");
        }
        Dropped::Handshake(error) => {
            count(&bound.counts.tls_errors);
            // Anybody can fail a handshake; nobody may fill the log with it.
            if let Some(suppressed) = worker.failures.admit(Instant::now()) {
                let (reason, blame) = (dropped.reason().code(), error.blame.as_str());
                tracing::info!(listener, suppressed, reason, blame, "{error}");
            }
        }
    }
}

/// A connection's listener as it was when it came.
struct Accepted<'a> {
    worker: &'a Worker,
    bound: &'a Bound,
    listener: &'a ActiveListener,
}

/// A connection whose chain is chosen.
struct Chosen<'a> {
    chain: Arc<Chain>,
    downstream: &'a Downstream,
    seen: Seen,
    dialled: Option<Dialled>,
}

impl Accepted<'_> {
    async fn serve(&self, mut stream: TcpStream, downstream: &mut Downstream) -> Result<Ended, Dropped> {
        let mut buffer = BytesMut::new();
        let mut detected = Detected::default();
        if self.listener.inspectors.any() {
            let (worker, listener, accepted) = (self.worker, self.listener, tokio::time::Instant::now());
            let detection = Detection { worker, listener, downstream, accepted };
            let inspection = Box::pin(detection.run(&mut stream, &mut buffer));
            detected = inspection.await.map_err(Dropped::Undetected)?;
        }
        let Detected { mut seen, dialled } = detected;
        let asked = Asked { local: downstream.local, remote: downstream.remote, seen: &seen };
        let Some(chain) = choose::filter_chain(self.listener, &asked) else {
            return Err(Dropped::NoChain(seen));
        };
        let chain = chain.clone();
        let Some(tls) = &chain.tls else {
            downstream.passed_server_name = seen.sni.as_deref().map(Arc::from);
            let stream = Prefixed::new(buffer.freeze(), stream);
            return Ok(Box::pin(self.speak(stream, Chosen { chain, downstream, seen, dialled })).await);
        };
        let limit = chain.config.transport_socket_connect_timeout.unwrap_or(HANDSHAKE_LIMIT);
        let (stream, session) = Box::pin(handshake(tls, stream, buffer, downstream.remote, limit)).await?;
        if !seen.tls {
            // Nobody had to look before; edits may ask.
            let alpn = session.alpn.iter().map(|name| name.to_string()).collect();
            seen = Seen { tls: true, sni: session.sni.as_deref().map(str::to_owned), alpn };
        }
        downstream.session = Some(session);
        let chosen = Chosen { chain: chain.clone(), downstream, seen, dialled };
        Ok(Box::pin(self.speak(stream, chosen)).await)
    }

    async fn speak<IO>(&self, stream: IO, chosen: Chosen<'_>) -> Ended
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let Chosen { chain, downstream, seen, dialled } = chosen;
        if let Some(termination) = denied(self.worker, &chain.config.filters, downstream) {
            let reason = Some(Reason::ConnectionDenied);
            let ended = Ended { reason, termination: termination.into(), ..Ended::default() };
            // As in Envoy, whose TCP proxy logs what a filter before it has closed.
            if let Some(tcp) = &chain.tcp
                && !tcp.logs.is_empty()
            {
                ended.clone().log(self.worker, &tcp.logs, &mut tcp::record(), downstream);
            }
            return ended;
        }
        let attachment = Attachment::new(self.worker, self.bound, seen, downstream, chain.clone());
        match (&chain.http, &chain.tcp) {
            (Some(chain), _) => {
                drop(dialled);
                Ended::by(Box::pin(http(self.worker, &attachment, chain, stream, downstream.clone())).await)
            }
            (None, Some(chain)) => {
                let cut = Cell::new(Reason::Draining);
                // Told before the forwarding is dropped.
                let follow = async {
                    let why = attachment.follow(|_| {}).await;
                    cut.set(why);
                    why
                };
                let tcp = &self.worker.tcp;
                let forwarded = Box::pin(tcp::forward(tcp, chain, stream, downstream, dialled, &cut));
                Ended::by(tokio::select! {
                    biased;
                    why = follow => Some(why),
                    ended = forwarded => ended,
                })
            }
            // Refused when the chain was built.
            (None, None) => Ended::default(),
        }
    }
}

/// Terminates TLS. Plaintext is closed without a byte.
async fn handshake(
    tls: &ServerTls,
    mut stream: TcpStream,
    mut buffer: BytesMut,
    remote: SocketAddr,
    limit: Duration,
) -> Result<(Box<TlsStream<Prefixed<TcpStream>>>, Session), Dropped> {
    if buffer.is_empty() {
        match tokio::time::timeout(limit, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(read) => drop(read?),
            Err(_) => return Err(late("no ClientHello", limit).into()),
        }
    }
    if !buffer.first().copied().is_some_and(begins_like_tls) {
        return Err(Dropped::Plaintext);
    }
    let stream = Prefixed::new(buffer.freeze(), stream);
    let (stream, session) = tls.accept(stream, remote, Some(limit)).await.map_err(Dropped::Handshake)?;
    Ok((Box::new(stream), session))
}

async fn http<IO>(
    worker: &Worker,
    attachment: &Attachment<'_>,
    http: &Arc<HttpChain>,
    mut stream: IO,
    downstream: Downstream,
) -> Option<Reason>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let peer = downstream.remote;
    let options = super::options::server_options(&http.config, downstream.session.is_some());
    let handler = ConnectionManager::new(&worker.http, http, downstream.clone());
    let follow = attachment.follow(|chain| {
        if let Some(http) = &chain.http {
            handler.adopt(http);
        }
    });
    let served = async {
        let mut begun = BytesMut::new();
        let drain = attachment.drain();
        let version = codec::choose(&http.config, &downstream, drain, &mut stream, &mut begun).await;
        let Some(version) = version else { return Some(Reason::Undetected) };
        let stream = Prefixed::new(begun.freeze(), stream);
        if version == Version::Http2 {
            return Box::pin(codec::serve_http2(worker, peer, (stream, None), &handler, &http.config, drain))
                .await;
        }
        let served = match Box::pin(serve_or_switch(stream, &handler, &options, drain)).await {
            Ok(Switch::Http2(switched)) => {
                let stream = (switched.io, Some(switched.first));
                return Box::pin(codec::serve_http2(worker, peer, stream, &handler, &http.config, drain))
                    .await;
            }
            Ok(Switch::Closed(closed)) => Ok(closed),
            Err(error) => Err(error),
        };
        ended::http1(peer, served)
    };
    tokio::select! {
        biased;
        why = follow => Some(why),
        ended = served => ended,
    }
}
