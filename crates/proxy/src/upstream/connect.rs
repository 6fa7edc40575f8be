//! Opens connections to hosts: TCP or Unix socket, then TLS where the host wants it, all within the connect timeout.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Reason;
use config::model::{self, TcpKeepalive};
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use super::alpn::{self, Speak};
use super::host::{Host, HostAddress};
use super::stream::UpstreamStream;
use super::transport::Transport;
use crate::telemetry::Registry;
use crate::telemetry::attempts::Opening;
use crate::telemetry::intern::Interned;
use crate::tls::Session;

/// What is known about an open connection.
#[derive(Debug, Clone)]
pub struct ConnectionInfo {
    /// Our address.
    pub local: Option<SocketAddr>,
    /// SPIFFE id that the host proved; `unknown` on a plaintext connection.
    pub peer_principal: Interned<str>,
    /// The id that we proved; `unknown` on a plaintext connection.
    pub own_principal: Interned<str>,
    /// HTTP/2 is spoken on it.
    pub http2: bool,
    /// How long its phases took.
    pub opening: Opening,
}

/// Why a connection could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection to {host} failed: {detail}")]
pub struct ConnectFailure {
    /// The host's address.
    pub host: Arc<str>,
    /// One of the reasons for a failed connect or a failed handshake.
    pub reason: Reason,
    /// What went wrong.
    pub detail: String,
    /// The connect timeout passed.
    pub timed_out: bool,
    /// How far it came.
    pub opening: Option<Opening>,
}

impl ConnectFailure {
    /// Whether the handshake failed, on a connection that was made.
    pub fn is_tls(&self) -> bool {
        use Reason::{UpstreamCertificateExpired, UpstreamTls, UpstreamTlsName};
        matches!(self.reason, UpstreamTls | UpstreamTlsName | UpstreamCertificateExpired)
    }

    /// The host left the configuration before a connection was made.
    pub fn gone(host: &Arc<str>) -> Self {
        let detail = "the host is not in the configuration any more".to_owned();
        let reason = Reason::ConnectFailed;
        ConnectFailure { host: host.clone(), reason, detail, timed_out: false, opening: None }
    }
}

/// Opens a connection to a host as its cluster says. `speak`: what will be spoken on it; `None` for raw bytes.
///
/// # Errors
/// Names the host and what failed: nothing was sent to the application behind it.
pub async fn connect(
    host: &Host,
    cluster: &model::Cluster,
    speak: Option<Speak>,
    registry: &Registry,
) -> Result<(UpstreamStream, ConnectionInfo), ConnectFailure> {
    let opening = Cell::new(Opening { began: Instant::now(), connected: None, ready: None });
    let connected = || opening.set(Opening { connected: Some(Instant::now()), ..opening.get() });
    let fail = |reason, detail| ConnectFailure {
        host: host.address_text.clone(),
        reason,
        detail,
        timed_out: false,
        opening: Some(opening.get()),
    };
    let limit = cluster.connect_timeout;
    let attempt = async {
        match &host.address {
            HostAddress::Tcp(address) => {
                let tcp = TcpStream::connect(*address)
                    .await
                    .map_err(|error| fail(reason(&error), failure_text(&error)))?;
                connected();
                prepare(&tcp, cluster.tcp_keepalive);
                let local = tcp.local_addr().ok();
                match &*host.transport {
                    Transport::Plain => Ok((UpstreamStream::Tcp(tcp), local, None)),
                    Transport::Tls { client, .. } => {
                        let (stream, session) = client
                            .connect_offering(tcp, &*host.address_text, &offer(speak))
                            .await
                            .map_err(|error| fail(error.code, error.reason))?;
                        Ok((UpstreamStream::TlsTcp(Box::new(stream)), local, Some(session)))
                    }
                }
            }
            HostAddress::Pipe(path) => {
                let pipe = UnixStream::connect(path)
                    .await
                    .map_err(|error| fail(reason(&error), failure_text(&error)))?;
                connected();
                match &*host.transport {
                    Transport::Plain => Ok((UpstreamStream::Unix(pipe), None, None)),
                    Transport::Tls { client, .. } => {
                        let (stream, session) = client
                            .connect_offering(pipe, &*host.address_text, &offer(speak))
                            .await
                            .map_err(|error| fail(error.code, error.reason))?;
                        Ok((UpstreamStream::TlsUnix(Box::new(stream)), None, Some(session)))
                    }
                }
            }
        }
    };
    let (stream, local, session) = match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result?,
        Err(_) => {
            let detail = format!("connection timeout after {}", milliseconds(limit));
            return Err(ConnectFailure { timed_out: true, ..fail(Reason::ConnectTimeout, detail) });
        }
    };
    let http2 = match speak {
        None => false,
        Some(speak) => speak
            .is_http2(session.as_ref().and_then(|session| session.alpn.as_deref()))
            .map_err(|detail| fail(Reason::UpstreamTls, detail))?,
    };
    let mut opening = opening.get();
    // Without TLS it was ready when it was connected.
    opening.ready = if session.is_some() { Some(Instant::now()) } else { opening.connected };
    Ok((stream, ConnectionInfo { http2, ..info(local, session.as_ref(), opening, registry) }))
}

/// What is offered by ALPN, made from what the TLS context says.
fn offer(speak: Option<Speak>) -> impl Fn(&[Arc<str>]) -> Vec<Vec<u8>> {
    move |configured| match speak {
        Some(speak) => speak.offer(configured),
        None => alpn::offer_for_bytes(configured),
    }
}

fn info(
    local: Option<SocketAddr>,
    session: Option<&Session>,
    opening: Opening,
    registry: &Registry,
) -> ConnectionInfo {
    let principal = |text: Option<&str>| {
        text.map_or_else(|| registry.principals.unknown(), |text| registry.principals.intern(text.into()))
    };
    let peer = session.and_then(|session| session.peer.as_ref());
    ConnectionInfo {
        local,
        peer_principal: principal(peer.and_then(|peer| peer.uri_sans.first()).map(String::as_str)),
        own_principal: principal(session.and_then(|session| session.local_uri.as_deref())),
        http2: false,
        opening,
    }
}

/// Settings that fail only on a socket that is broken already, which the first use will show.
fn prepare(tcp: &TcpStream, keepalive: Option<TcpKeepalive>) {
    let _ = tcp.set_nodelay(true);
    let Some(wanted) = keepalive else { return };
    let mut settings = socket2::TcpKeepalive::new();
    if let Some(time) = wanted.time {
        settings = settings.with_time(time);
    }
    if let Some(interval) = wanted.interval {
        settings = settings.with_interval(interval);
    }
    if let Some(probes) = wanted.probes {
        settings = settings.with_retries(probes);
    }
    let _ = SockRef::from(tcp).set_tcp_keepalive(&settings);
}

fn reason(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reason::ConnectRefused,
        io::ErrorKind::TimedOut => Reason::ConnectTimeout,
        _ => Reason::ConnectFailed,
    }
}

/// `Connection refused` and its like, without the number that the standard library appends.
fn failure_text(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

fn milliseconds(limit: Duration) -> String {
    format!("{} ms", limit.as_millis())
}
