//! gRPC connections: handshake, identity, HTTP/2, and an end that comes when the client's certificate ends.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::Tasks;
use tls::{HandshakeError, PeerRules, Side};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::peer::PeerIdentity;
use crate::timestamp::rfc3339;

/// The most connections of one port.
pub const MOST_CONNECTIONS: usize = 10_000;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const MOST_STREAMS: u32 = 100;
/// Streams of a caller without a certificate, who has one CSR to send.
const MOST_UNAUTHENTICATED_STREAMS: u32 = 4;
const MOST_HEADER_BYTES: u32 = 16 * 1024;

/// How long a connection may take or stay.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The TLS handshake: 5 s.
    pub handshake: Duration,
    /// A caller without a certificate comes for one CSR; it has no reason to stay: 30 s.
    pub unauthenticated: Duration,
    /// How often the clock is asked whether a certificate has ended; a timer alone does not notice that a machine
    /// slept or that its clock was set: 30 s.
    pub clock_check: Duration,
    /// What open streams get after the connection has been told to end: 5 s.
    pub parting: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Limits {
            handshake: seconds(5),
            unauthenticated: seconds(30),
            clock_check: seconds(30),
            parting: seconds(5),
        }
    }
}

/// What serves the connections of one gRPC port.
#[derive(Clone)]
pub struct GrpcPort {
    /// The services.
    pub routes: Routes,
    /// TLS; `None` on the plaintext port.
    pub tls: Option<TlsAcceptor>,
    /// The trust domain that client certificates must be of.
    pub trust_domain: String,
    /// Decides when a certificate ends.
    pub clock: Arc<dyn Clock>,
    /// Owner of the streams' tasks.
    pub tasks: Tasks,
    /// How long a connection may take or stay.
    pub limits: Limits,
}

impl GrpcPort {
    /// Serves one connection to its end.
    pub async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        // ADS pushes are small and must not wait for each other; the error only costs latency.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.tls else {
            let peer = PeerIdentity { spiffe: None, not_after: None, address, tls: false };
            return self.http2(stream, peer).await;
        };
        let stream = match tokio::time::timeout(self.limits.handshake, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::warn!("{}", HandshakeError::from_io(address, Side::Downstream, &error, None));
                return;
            }
            Err(_) => {
                tracing::warn!(peer = %address, "TLS handshake took longer than {:?}; the connection was closed", self.limits.handshake);
                return;
            }
        };
        let mut peer = PeerIdentity { spiffe: None, not_after: None, address, tls: true };
        if let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
            // The handshake has checked the same; a failure here closes rather than forgets the certificate.
            match PeerRules::workload_of(&self.trust_domain).check(leaf) {
                Ok(caller) => (peer.spiffe, peer.not_after) = (caller.spiffe, Some(caller.not_after)),
                Err(error) => {
                    tracing::warn!(peer = %address, "connection closed: {error}");
                    return;
                }
            }
        }
        self.http2(stream, peer).await;
    }

    async fn http2<IO>(&self, stream: IO, peer: PeerIdentity)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let routes = self.routes.clone();
        let identity = peer.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(identity.clone());
            let routes = routes.clone();
            async move {
                Ok::<_, Infallible>(routes.oneshot(request).await.unwrap_or_else(|never| match never {}))
            }
        });
        let streams =
            if peer.tls && peer.spiffe.is_none() { MOST_UNAUTHENTICATED_STREAMS } else { MOST_STREAMS };
        let connection = http2::Builder::new(StreamTasks(self.tasks.clone()))
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(streams)
            .max_header_list_size(MOST_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let drain = self.tasks.drain();
        let why = tokio::select! {
            result = connection.as_mut() => return ended(&peer, result),
            () = drain.started() => "tulled stops".to_owned(),
            reason = self.life(&peer) => reason,
        };
        tracing::debug!(peer = %peer.address, "connection is closed: {why}");
        connection.as_mut().graceful_shutdown();
        // Long-lived streams do not end by themselves; dropping the connection ends them.
        if let Ok(result) = tokio::time::timeout(self.limits.parting, connection).await {
            ended(&peer, result);
        }
    }

    /// Resolves when the peer's right to be connected ends, with the reason.
    async fn life(&self, peer: &PeerIdentity) -> String {
        match (&peer.spiffe, peer.not_after) {
            (Some(spiffe), Some(not_after)) => {
                let left = || not_after.duration_since(self.clock.now()).unwrap_or_default();
                let end = Instant::now() + left();
                while !left().is_zero() && Instant::now() < end {
                    tokio::time::sleep_until(end.min(Instant::now() + self.limits.clock_check)).await;
                }
                format!("the certificate of \"{spiffe}\" expired at {}", rfc3339(not_after))
            }
            _ if peer.tls => {
                tokio::time::sleep(self.limits.unauthenticated).await;
                format!("it showed no certificate for {:?}", self.limits.unauthenticated)
            }
            _ => std::future::pending().await,
        }
    }
}

fn ended(peer: &PeerIdentity, result: Result<(), hyper::Error>) {
    if let Err(error) = result {
        tracing::debug!(peer = %peer.address, "connection ended: {error}");
    }
}

/// Runs HTTP/2 streams as jobs of the supervisor, so that the drain waits for them.
#[derive(Clone)]
struct StreamTasks(Tasks);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for StreamTasks {
    fn execute(&self, stream: F) {
        self.0.job("gRPC stream", stream);
    }
}

#[cfg(test)]
mod tests;
