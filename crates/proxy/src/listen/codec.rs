//! Which HTTP a connection speaks, and the HTTP/2 codec on it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use base::Reason;
use bytes::BytesMut;
use config::model::{Codec, HttpConnectionManager};
use runtime::DrainWatch;
use tokio::io::{AsyncRead, AsyncWrite};

use super::chain::ALPN_HTTP2;
use super::worker::Worker;
use crate::filter::{ConnectionManager, Downstream};
use crate::http::h2_server::{self, Closed, ConnectionError, Flood, Upgraded};
use crate::http::{Version, preface};

/// How long a connection whose first byte has not come may still send it once the drain has begun: as between two
/// requests, one that is on its way is answered.
const LAST_CALL: Duration = Duration::from_secs(1);

/// The codec of a connection: what the configuration or the handshake decides, else what its first bytes say, which are
/// read into `begun`. `None`: the connection has ended, or was silent too long.
pub async fn choose<IO: AsyncRead + Unpin>(
    config: &HttpConnectionManager,
    downstream: &Downstream,
    drain: &DrainWatch,
    stream: &mut IO,
    begun: &mut BytesMut,
) -> Option<Version> {
    let agreed = downstream.session.as_ref().and_then(|session| session.alpn.as_deref());
    match (config.codec, agreed) {
        (Codec::Http1, _) => return Some(Version::Http11),
        (Codec::Http2, _) | (Codec::Auto, Some(ALPN_HTTP2)) => return Some(Version::Http2),
        (Codec::Auto, Some(_)) => return Some(Version::Http11),
        (Codec::Auto, None) => {}
    }
    let drained = async {
        drain.started().await;
        tokio::time::sleep(LAST_CALL).await;
    };
    let idle = async {
        match config.idle_timeout {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        seen = preface::is_http2(stream, begun) => match seen {
            Ok(true) => Some(Version::Http2),
            Ok(false) => Some(Version::Http11),
            Err(_) => None,
        },
        () = drained => None,
        () = idle => None,
    }
}

/// Serves HTTP/2 to the end of the connection, and says why it ended other than well. `first`: the request with which it
/// came out of HTTP/1.
pub async fn serve_http2<IO>(
    worker: &Worker,
    peer: SocketAddr,
    (stream, first): (IO, Option<Upgraded>),
    handler: &ConnectionManager,
    config: &HttpConnectionManager,
    drain: &DrainWatch,
) -> Option<Reason>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let options = super::options::http2_options(config);
    let served = match first {
        None => h2_server::serve(stream, handler, &options, drain).await,
        Some(first) => h2_server::serve_upgraded(stream, first, handler, &options, drain).await,
    };
    let reason = match &served {
        Ok(Closed::ByClient | Closed::LastRequest) => None,
        Ok(Closed::Idle) => Some(Reason::IdleTimeout),
        Ok(Closed::Drained) => Some(Reason::Draining),
        Ok(Closed::Aged) => Some(Reason::MaxDuration),
        Ok(Closed::Flooded(_)) => Some(Reason::Flood),
        Ok(Closed::HeadTimeout) => Some(Reason::HeadTimeout),
        Err(ConnectionError::NoPreface(_)) => Some(Reason::Undetected),
        Err(ConnectionError::Io(_)) => Some(Reason::DownstreamReset),
        Err(ConnectionError::Violation(_)) => Some(Reason::BadRequest),
    };
    match served {
        Ok(Closed::Flooded(flood)) => flooded(worker, peer, flood),
        Ok(closed) => tracing::trace!(%peer, ?closed, "connection closed"),
        Err(error) => tracing::debug!(%peer, "{error}"),
    }
    reason
}

/// Anybody can flood; nobody may fill the log with it.
fn flooded(worker: &Worker, peer: SocketAddr, flood: Flood) {
    if let Some(suppressed) = worker.failures.admit(Instant::now()) {
        let what = flood.as_str();
        tracing::info!(%peer, suppressed, "connection closed with ENHANCE_YOUR_CALM: too many {what}");
    }
}
