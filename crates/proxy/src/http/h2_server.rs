//! The server side of an HTTP/2 connection (RFC 9113): all of its streams live in the task that polls it.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;
use runtime::DrainWatch;
use tokio::io::{AsyncRead, AsyncWrite};

use super::deadline::Deadline;
use super::h1::Limits;
use super::h1_request::Underscores;
use super::h2_guard::{Guard, Guarded};
use super::h2_server_stream::Stream;
use super::h2_sift::Sifted;
use super::handler::{Handler, LocalBoxFuture};
use super::on_wake::OnWake;

pub use super::h2_guard::{Flood, FloodLimits};

/// How long a client may take from the first GOAWAY to the end of its last requests being on their way, when it does not
/// answer the PING that asks.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long the last frames may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes of a response that wait for the connection, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// What the `h2` crate counts for a field beside its name and value.
const FIELD_OVERHEAD: usize = 32;

/// Limits and rules of a server connection. A timeout of zero is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerOptions {
    /// Bounds of heads and trailers.
    pub limits: Limits,
    /// Field names with an underscore.
    pub underscores: Underscores,
    /// For the preface, and from the first byte of a head to its last. Envoy's `request_headers_timeout`.
    pub header_timeout: Duration,
    /// Without a stream. Envoy's `idle_timeout`.
    pub idle_timeout: Duration,
    /// While the client of a stream owes bytes of a body or does not take the response.
    pub stall_timeout: Duration,
    /// Requests before the connection is drained; `None`: no limit.
    pub max_requests: Option<u32>,
    /// Age at which the connection is drained; `None`: no limit. Envoy's `max_connection_duration`.
    pub max_duration: Option<Duration>,
    /// Streams at a time. Envoy's `max_concurrent_streams`.
    pub max_concurrent_streams: u32,
    /// Bytes of a request's body that may be on their way. Envoy's `initial_stream_window_size`.
    pub stream_window: u32,
    /// The same for all bodies of the connection. Envoy's `initial_connection_window_size`.
    pub connection_window: u32,
    /// Bytes of the table that heads are compressed with. Envoy's `hpack_table_size`.
    pub header_table_size: u32,
    /// Extended CONNECT (RFC 8441) is offered. Envoy's `allow_connect`.
    pub allow_connect: bool,
    /// Bounds of what costs the proxy work and the client nothing.
    pub flood: FloodLimits,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            limits: Limits::default(),
            underscores: Underscores::Allow,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(3600),
            stall_timeout: Duration::from_secs(300),
            max_requests: None,
            max_duration: None,
            max_concurrent_streams: 1024,
            stream_window: 1024 * 1024,
            connection_window: 4 * 1024 * 1024,
            header_table_size: 4096,
            allow_connect: false,
            flood: FloodLimits::default(),
        }
    }
}

impl ServerOptions {
    /// The largest head that the codec reads whole, as RFC 9113 counts it.
    fn head_list_bytes(&self) -> usize {
        let fields = self.limits.max_headers_count.saturating_mul(FIELD_OVERHEAD);
        self.limits.max_headers_bytes.saturating_add(fields).saturating_mul(2)
    }

    fn builder(&self) -> h2::server::Builder {
        // The exact limits are held by the conversion of heads, which answers in words; what is far beyond them ends in
        // the crate.
        let size = self.head_list_bytes();
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(self.max_concurrent_streams)
            .initial_window_size(self.stream_window)
            .initial_connection_window_size(self.connection_window)
            .header_table_size(self.header_table_size)
            .max_header_list_size(u32::try_from(size).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER);
        if self.allow_connect {
            builder.enable_connect_protocol();
        }
        builder
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client closed it.
    ByClient,
    /// No stream for the idle timeout.
    Idle,
    /// The proxy drains.
    Drained,
    /// It served all the requests that it may.
    LastRequest,
    /// It reached its age.
    Aged,
    /// The client did too much of something.
    Flooded(Flood),
    /// A head did not end in time.
    HeadTimeout,
    /// Its header blocks could not be followed.
    Unreadable,
}

/// Why a connection broke.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No preface in time.
    #[error("the client sent no HTTP/2 preface for {0:?}")]
    NoPreface(Duration),
    /// The connection failed, or the client broke a rule.
    #[error("the HTTP/2 connection failed: {0}")]
    Http2(#[from] h2::Error),
}

/// Serves requests on `io` until either side closes. All of it happens in the task that polls the future; dropping the
/// future closes the connection and drops every exchange.
pub async fn serve<IO>(
    io: IO,
    handler: &dyn Handler,
    options: &ServerOptions,
    drain: &DrainWatch,
) -> Result<Closed, ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let guard = Rc::new(Guard::new(options.flood, options.header_table_size, options.head_list_bytes()));
    let io = Sifted::behind_preface(Guarded::new(io, guard.clone()));
    let handshake = options.builder().handshake::<_, Bytes>(io);
    // Without a preface it has no stream, so that it is idle too.
    let limits = [options.header_timeout, options.idle_timeout];
    let limit = limits.into_iter().filter(|limit| !limit.is_zero()).min().unwrap_or_default();
    let h2 = if limit.is_zero() {
        handshake.await?
    } else {
        let shaken = tokio::time::timeout(limit, handshake).await;
        shaken.map_err(|_| ConnectionError::NoPreface(limit))??
    };
    let mut age = Deadline::default();
    age.set(options.max_duration);
    let mut connection = Connection {
        h2,
        streams: FuturesUnordered::new(),
        stream: Stream { handler, options, guard },
        drained: OnWake::new(drain.started()),
        requests: 0,
        leaving: None,
        ended: false,
        age,
        idle: Deadline::default(),
        stuck: false,
        head: Deadline::default(),
        farewell: Deadline::default(),
    };
    poll_fn(|cx| connection.poll(cx)).await
}

struct Connection<'h, IO, F> {
    h2: h2::server::Connection<Sifted<Guarded<IO>>, Bytes>,
    streams: FuturesUnordered<LocalBoxFuture<'h, ()>>,
    stream: Stream<'h>,
    drained: OnWake<F>,
    requests: u32,
    /// The client was told to go, and why.
    leaving: Option<Closed>,
    /// The last GOAWAY is on its way: no stream is looked at any more.
    ended: bool,
    age: Deadline,
    idle: Deadline,
    /// `idle` counts for a client that does not take the end of its responses.
    stuck: bool,
    head: Deadline,
    /// Until when the last frames must be written, or the last requests must come.
    farewell: Deadline,
}

impl<IO, F> Connection<'_, IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = ()>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Closed, ConnectionError>> {
        loop {
            let mut moved = false;
            match self.h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    moved = true;
                    self.open(request, respond);
                }
                Poll::Ready(Some(Err(_)) | None) if self.ended => return Poll::Ready(Ok(self.cause())),
                // A broken connection without a stream is a close without manners.
                Poll::Ready(Some(Err(error))) if error.is_io() && self.streams.is_empty() => {
                    return Poll::Ready(Ok(self.cause()));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error.into())),
                Poll::Ready(None) => return Poll::Ready(Ok(self.cause())),
                Poll::Pending => {}
            }
            if let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {
                moved = true;
            }
            if !moved && !self.watch(cx) {
                break;
            }
        }
        if self.farewell.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if self.ended {
            return Poll::Ready(Ok(self.cause()));
        }
        // The client did not answer the PING behind the first GOAWAY.
        self.end(h2::Reason::NO_ERROR, self.cause());
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn cause(&self) -> Closed {
        self.leaving.unwrap_or(Closed::ByClient)
    }

    fn open(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        if self.ended || self.stream.guard.unreadable().is_some() {
            return;
        }
        self.requests = self.requests.saturating_add(1);
        self.idle.clear();
        let stream = self.stream.clone();
        self.streams.push(Box::pin(stream.run(request, respond)));
        if self.stream.options.max_requests.is_some_and(|limit| self.requests >= limit) {
            self.leave(Closed::LastRequest);
        }
    }

    /// Looks at what may end the connection; says whether something was done that has to be written.
    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        if self.ended {
            return false;
        }
        let options = self.stream.options;
        if let Some(flood) = self.stream.guard.flood() {
            self.end(h2::Reason::ENHANCE_YOUR_CALM, Closed::Flooded(flood));
            return true;
        }
        if let Some(reason) = self.stream.guard.unreadable() {
            self.end(reason, Closed::Unreadable);
            return true;
        }
        if !self.stream.guard.is_in_head() {
            self.head.clear();
        } else if !self.head.is_set() {
            self.head.set(Some(options.header_timeout));
        }
        if self.head.poll(cx).is_ready() {
            self.end(h2::Reason::PROTOCOL_ERROR, Closed::HeadTimeout);
            return true;
        }
        if self.leaving.is_none() && self.drained.poll(cx).is_ready() {
            return self.leave(Closed::Drained);
        }
        if self.leaving.is_none() && self.age.poll(cx).is_ready() {
            return self.leave(Closed::Aged);
        }
        if !self.streams.is_empty() {
            self.idle.clear();
            self.farewell.clear();
            return false;
        }
        if self.leaving.is_some() {
            if !self.farewell.is_set() {
                self.farewell.set(Some(LAST_CALL));
            }
            return false;
        }
        // A client that does not take the end of its responses is not idle, it is stuck.
        let stuck = self.h2.has_streams() && !options.stall_timeout.is_zero();
        if !self.idle.is_set() || stuck != self.stuck {
            self.stuck = stuck;
            self.idle.set(Some(if stuck { options.stall_timeout } else { options.idle_timeout }));
        }
        self.idle.poll(cx).is_ready() && self.leave(Closed::Idle)
    }

    /// Says that no more requests are taken, once; those that are on their way still are (RFC 9113, section 6.8).
    fn leave(&mut self, why: Closed) -> bool {
        if self.leaving.is_some() {
            return false;
        }
        self.leaving = Some(why);
        self.h2.graceful_shutdown();
        true
    }

    /// Ends the connection with all of its streams.
    fn end(&mut self, reason: h2::Reason, why: Closed) {
        self.leaving = Some(why);
        self.ended = true;
        self.streams.clear();
        self.h2.abrupt_shutdown(reason);
        self.farewell.set(Some(FAREWELL));
    }
}

#[cfg(test)]
#[path = "h2_server_tests.rs"]
mod tests;
