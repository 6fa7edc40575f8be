//! The client side of an HTTP/2 connection (RFC 9113), on the `h2` crate: many exchanges at once, bounded windows both ways.
//!
//! A job of the worker moves the bytes of the connection; it ends when the last handle is gone and the last stream has
//! ended, when the host closes, or when a ping is not answered.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base::{Blame, Reason};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use super::body::Body;
use super::h1::Limits;
use super::h1_client::SendError;
use super::h2_client_stream::{self as stream, OnEnd};
use super::h2_fields;
use super::h2_heads::Responses;
use super::h2_sift::Sifted;
use super::h2_watch::{Watch, Watched};
use super::handler::Informational;
use super::head::{RequestHead, ResponseHead};

/// No settings of the host have come yet: more streams than any host can allow.
const NO_SETTINGS: usize = 1 << 33;
/// How long a connection that nobody needs may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// Bytes of one upload that wait in the codec.
const SEND_BUFFER: usize = 64 * 1024;
/// What the codec counts for a field beside name and value (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;

/// How a connection is spoken.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Bounds of response heads and trailers.
    pub limits: Limits,
    /// Interim responses before a final one.
    pub max_informational: usize,
    /// Bytes of one response that the host may send before somebody reads them.
    pub stream_window: u32,
    /// The same for all responses of the connection together.
    pub connection_window: u32,
    /// Bytes of the table of header fields that the host may use.
    pub header_table_size: u32,
    /// Pings.
    pub keepalive: Option<Keepalive>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            limits: Limits::default(),
            max_informational: 32,
            stream_window: 256 * 1024,
            connection_window: 16 * 1024 * 1024,
            header_table_size: 4096,
            keepalive: None,
        }
    }
}

/// Pings that find out whether the host is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Between two pings.
    pub interval: Duration,
    /// The connection is given up when a ping is not answered for so long.
    pub timeout: Duration,
}

/// A handle to a connection. Clones are the same connection; it closes when all handles and streams are gone.
#[derive(Debug, Clone)]
pub struct Connection {
    sender: SendRequest<Bytes>,
    shared: Rc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    max_informational: usize,
    responses: Rc<RefCell<Responses>>,
    /// The job sees when it is dropped.
    _handles: oneshot::Sender<()>,
}

impl Connection {
    /// Says hello on a connected stream and waits for the host's settings, so that its limits are known before the
    /// first request. `keep` is dropped when the connection has closed.
    ///
    /// # Errors
    /// The host speaks another protocol or closed; nothing was asked of it.
    pub async fn handshake<IO>(io: IO, options: &Options, keep: impl Sized + 'static) -> Result<Self, String>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let fields = options.limits.max_headers_bytes + options.limits.max_headers_count * FIELD_OVERHEAD;
        let responses = Rc::new(RefCell::new(Responses::new(options.header_table_size, fields)));
        let (sender, mut connection) = Builder::new()
            .enable_push(false)
            .initial_max_send_streams(NO_SETTINGS)
            .initial_window_size(options.stream_window)
            .initial_connection_window_size(options.connection_window)
            .header_table_size(options.header_table_size)
            .max_header_list_size(u32::try_from(fields).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .handshake::<_, Bytes>(Sifted::new(Watched::new(io, responses.clone())))
            .await
            .map_err(|error| format!("HTTP/2 handshake: {error}"))?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => {
                Poll::Ready(Err("HTTP/2 handshake: the host closed the connection".to_owned()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(format!("HTTP/2 handshake: {error}"))),
            Poll::Pending if sender.current_max_send_streams() != NO_SETTINGS => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        let (handles, gone) = oneshot::channel();
        let pings = options
            .keepalive
            .and_then(|keepalive| connection.ping_pong().map(|pings| Pings::new(pings, keepalive)));
        let watched = responses.clone();
        runtime::thread::background("http2 client", async move {
            drive(connection, pings, gone, &watched).await;
            drop(keep);
        });
        let (limits, max_informational) = (options.limits, options.max_informational);
        let shared = Shared { limits, max_informational, responses, _handles: handles };
        Ok(Connection { sender, shared: Rc::new(shared) })
    }

    /// Whether a new stream can be opened: the host has not said GOAWAY and the connection lives.
    pub fn is_open(&mut self) -> bool {
        !matches!(self.sender.poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
    }

    /// Streams that the host allows at once.
    pub fn max_streams(&self) -> usize {
        self.sender.current_max_send_streams()
    }

    /// Sends a request and waits for the head of its response. Interim responses other than 100 go to `informational`.
    ///
    /// The upload goes on while the response's body is polled. `on_end` is called once, when the exchange has ended.
    /// Dropping the future or the body resets the stream, not the connection.
    ///
    /// # Errors
    /// `safe_to_retry` where the host promises that it did nothing: a refused stream, or one beyond the last of a GOAWAY.
    pub async fn send(
        &self,
        head: &RequestHead,
        body: Body,
        informational: &Informational,
        on_end: OnEnd,
    ) -> Result<(ResponseHead, Body), SendError> {
        let ended = stream::Ended::new(on_end);
        let request = match h2_fields::write_request(head) {
            Ok(request) => request,
            Err(refusal) => {
                let mut error = SendError::upstream(Reason::BadRequest, refusal.to_string());
                error.blame = Blame::Downstream;
                error.body = Some(body);
                return Err(error);
            }
        };
        if head.upgrade.is_some() && !self.sender.is_extended_connect_protocol_enabled() {
            let detail = "the upstream does not take upgrades on HTTP/2 (extended CONNECT, RFC 8441)";
            let mut error = SendError::upstream(Reason::UpstreamProtocol, detail);
            error.safe_to_retry = true;
            error.body = Some(body);
            return Err(error);
        }
        let end_of_stream = body.is_end() && !head.is_tunnel();
        match self.sender.clone().send_request(request, end_of_stream) {
            Ok((response, upload)) => {
                let watch = Watch::new(&self.shared.responses, upload.stream_id().as_u32());
                let exchange = stream::Exchange {
                    response,
                    watch,
                    upload: stream::Upload::new(upload, body, end_of_stream),
                    limits: self.shared.limits,
                    interim: self.shared.max_informational,
                    ended,
                };
                exchange.run(head, informational).await
            }
            Err(error) => {
                let mut failed = stream::failure(&error);
                failed.safe_to_retry = !error.is_reset();
                failed.body = Some(body);
                Err(failed)
            }
        }
    }
}

/// Moves a connection's bytes until it has ended.
async fn drive<IO: AsyncRead + AsyncWrite + Unpin>(
    mut connection: h2::client::Connection<IO, Bytes>,
    mut pings: Option<Pings>,
    mut handles: oneshot::Receiver<()>,
    responses: &RefCell<Responses>,
) {
    let mut goodbye: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            if let Err(error) = result {
                tracing::debug!("an HTTP/2 connection to an upstream ended: {error}");
            }
            return Poll::Ready(());
        }
        if responses.borrow().is_broken() {
            tracing::debug!(
                "an HTTP/2 connection to an upstream is given up: its header blocks cannot be read"
            );
            return Poll::Ready(());
        }
        if let Some(pings) = &mut pings
            && pings.poll_dead(cx).is_ready()
        {
            tracing::debug!("an HTTP/2 connection to an upstream is given up: a ping was not answered");
            return Poll::Ready(());
        }
        if goodbye.is_none() && Pin::new(&mut handles).poll(cx).is_ready() {
            goodbye = Some(Box::pin(tokio::time::sleep(GOODBYE)));
        }
        match &mut goodbye {
            Some(limit) => limit.as_mut().poll(cx),
            None => Poll::Pending,
        }
    })
    .await;
}

struct Pings {
    pings: PingPong,
    rules: Keepalive,
    waiting: bool,
    next: Pin<Box<Sleep>>,
}

impl Pings {
    fn new(pings: PingPong, rules: Keepalive) -> Self {
        Pings { pings, rules, waiting: false, next: Box::pin(tokio::time::sleep(rules.interval)) }
    }

    /// Ready when a ping was not answered in time.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.waiting = false;
                        self.next.as_mut().reset(Instant::now() + self.rules.interval);
                    }
                    // The connection itself has ended, which its driver sees.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => return self.next.as_mut().poll(cx),
                }
            }
            if self.next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Pending;
            }
            self.waiting = true;
            self.next.as_mut().reset(Instant::now() + self.rules.timeout);
        }
    }
}

#[cfg(test)]
#[path = "h2_client_tests.rs"]
mod tests;
