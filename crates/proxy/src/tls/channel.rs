//! gRPC channels over our own TLS: the certificate service and the xDS server are reached this way.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use ::tls::{HandshakeError, Side};

/// How long a TCP connection and a handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a TLS connection to `host:port`, trying each address that the name has.
///
/// # Errors
/// Names the address and what failed there.
pub async fn connect_tls(address: &str, config: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
    let tcp = connect_tcp(address).await?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{address}: the host is neither a DNS name nor an IP address"))?;
    let handshake = TlsConnector::from(config).connect(name, tcp);
    match tokio::time::timeout(CONNECT_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(HandshakeError::from_io(address, Side::Upstream, &error, None).to_string()),
        Err(_) => Err(HandshakeError::timeout(address, Side::Upstream, CONNECT_TIMEOUT).to_string()),
    }
}

async fn connect_tcp(address: &str) -> Result<TcpStream, String> {
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => {
            // Small messages, each awaited: Nagle's delay would only hurt. A failure here is seen on the next write.
            let _ = tcp.set_nodelay(true);
            Ok(tcp)
        }
        Ok(Err(error)) => Err(format!("connection to {address} failed: {error}")),
        Err(_) => Err(format!("connection to {address} failed: not open within {CONNECT_TIMEOUT:?}")),
    }
}

/// Settings that every channel of ours has: keep-alive below the idle limits of middle boxes, bounded connect time.
fn endpoint() -> Endpoint {
    Endpoint::from_static("http://control-plane")
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
}

/// A channel on one open connection. When it breaks, calls fail: the caller connects again, with fresh secrets.
///
/// # Errors
/// The HTTP/2 preface could not be exchanged.
pub async fn channel_on<IO>(stream: IO) -> Result<Channel, String>
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_: http::Uri| {
        let once = stream.take();
        async move {
            once.map(TokioIo::new)
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the connection is used up"))
        }
    });
    endpoint().connect_with_connector(connector).await.map_err(|error| error_chain(&error))
}

/// A channel on a new plain-text connection.
///
/// # Errors
/// As [`channel_on`], and when there is no connection.
pub async fn plain_channel(address: &str) -> Result<Channel, String> {
    channel_on(connect_tcp(address).await?).await
}

/// An error and its causes in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
