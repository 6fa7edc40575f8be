//! The client side of a connection: one request at a time, and back to its pool when both sides ended well.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base::{Blame, Reason};
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Body, BodyError};
use super::h1::Limits;
use super::h1_buffers::{HIGH_WATER, Transport};
use super::h1_client_body::{Lease, ResponseBody};
use super::h1_decode::BodyDecoder;
use super::h1_encode::{self, Framing};
use super::h1_exchange::{BodyWriter, Pulled};
use super::h1_response::{self, ParsedResponse, ResponseFraming};
use super::h1_scan::HeadScanner;
use super::handler::Informational;
use super::head::{BodyLength, RequestHead, ResponseHead};
use super::refusal::Refusal;

/// Limits of a client connection.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// Bounds of response heads and trailers. Envoy's `max_response_headers_kb` and `max_headers_count`.
    pub limits: Limits,
    /// Interim responses before a final one.
    pub max_informational: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions { limits: Limits::default(), max_informational: 32 }
    }
}

/// How an exchange left its connection.
pub enum Ended<IO> {
    /// Both sides ended cleanly and want to go on.
    Reusable(Box<Connection<IO>>),
    /// It is closed: an error, `connection: close`, a body that was dropped, or a rule of the protocol.
    Closed,
}

/// Told exactly once how an exchange ended, when its response's body ends or is dropped, or when sending fails.
pub type OnEnd<IO> = Box<dyn FnOnce(Ended<IO>)>;

/// A connection to an upstream. Dropping it closes it.
pub struct Connection<IO> {
    pub(crate) transport: Transport<IO>,
    pub(crate) options: ClientOptions,
    requests: u64,
    idle_timeout: Option<Duration>,
    /// Whoever took it has looked that it is open, and sends at once.
    looked: bool,
}

/// A request that got no response.
#[derive(Debug, thiserror::Error)]
#[error("{detail} ({reason})")]
pub struct SendError {
    /// Who caused it: the client's body may fail as well as the upstream.
    pub blame: Blame,
    /// The stable code.
    pub reason: Reason,
    /// What happened.
    pub detail: Cow<'static, str>,
    /// No byte of the request was written: it can go to another connection, whatever its method.
    pub safe_to_retry: bool,
    /// The connection had served a request before and closed without a byte of response: most likely it was closed
    /// while it was idle. An idempotent request can go to another connection.
    pub stale_connection: bool,
    /// The request's body, when nothing was taken from it.
    pub body: Option<Body>,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// Takes over a connected stream. It stays in this box while it changes hands, many times a request.
    pub fn new(io: IO, options: ClientOptions) -> Box<Self> {
        Box::new(Connection {
            transport: Transport::new(io),
            options,
            requests: 0,
            idle_timeout: None,
            looked: false,
        })
    }

    /// How many requests were sent on it.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// How long the server said that it keeps the connection idle (`keep-alive: timeout=N`).
    pub fn idle_timeout(&self) -> Option<Duration> {
        self.idle_timeout
    }

    /// Ready when an idle connection cannot be used any more: the upstream closed it, it failed, or bytes came that
    /// nobody asked for (which could be taken for the answer to the next request). A pool polls this while it waits.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.transport.read.is_empty() {
            return Poll::Ready(());
        }
        self.transport.poll_fill(cx, 1).map(drop)
    }

    /// Whether an idle connection looks usable, judged without waiting.
    pub fn is_reusable(&mut self) -> bool {
        self.poll_closed(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// As [`Connection::is_reusable`], for whoever sends at once: [`Connection::send`] does not look again.
    pub fn is_reusable_now(&mut self) -> bool {
        self.looked = self.is_reusable();
        self.looked
    }

    /// Sends a request and waits for the head of its response. Interim responses other than 100 go to `informational`.
    ///
    /// The upload goes on while the response's body is polled. `on_end` gets the connection back or learns that it is
    /// closed. Dropping the future or the body closes the connection.
    pub async fn send(
        mut self: Box<Self>,
        head: &RequestHead,
        body: Body,
        informational: &Informational,
        on_end: OnEnd<IO>,
    ) -> Result<(ResponseHead, Body), SendError>
    where
        IO: 'static,
    {
        let reused = self.requests > 0;
        self.requests += 1;
        if !std::mem::take(&mut self.looked) && !self.is_reusable() {
            on_end(Ended::Closed);
            let mut error =
                SendError::upstream(Reason::UpstreamReset, "the upstream closed the idle connection");
            error.safe_to_retry = true;
            error.stale_connection = reused;
            error.body = Some(body);
            return Err(error);
        }
        let start = self.transport.written();
        let framing = h1_encode::request_head(&mut self.transport.out, head);
        let mut exchange = Exchange {
            lease: Lease::new(self, on_end),
            upload: Upload { held: head.is_tunnel(), ..Upload::new(BodyWriter::new(body, framing)) },
            scanner: HeadScanner::default(),
            interim: 0,
            method: head.method.clone(),
        };
        match poll_fn(|cx| exchange.poll_head(cx, informational)).await {
            Ok(response) => Ok(exchange.into_response(response)),
            Err(mut error) => {
                let transport = exchange.lease.transport();
                let untouched = transport.is_some_and(|transport| transport.written() == start);
                let silent =
                    transport.is_some_and(|transport| transport.read.is_empty()) && exchange.interim == 0;
                error.safe_to_retry = untouched && silent && error.blame == Blame::Upstream;
                error.stale_connection = reused && silent && error.reason == Reason::UpstreamReset;
                error.body = (!exchange.upload.touched).then(|| exchange.upload.writer.into_body());
                Err(error)
            }
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Connection<IO> {
    /// Carries a body as raw bytes, and gives what comes back as another one. Nothing is written before it is polled; the
    /// end of either body is the end of that half of the connection.
    pub fn tunnel(self: Box<Self>, body: Body, on_end: OnEnd<IO>) -> Body {
        let upload = Upload { tunnel: true, ..Upload::new(BodyWriter::new(body, Framing::UntilClose)) };
        Body::stream(ResponseBody::new(Lease::new(self, on_end), upload, BodyDecoder::UntilClose, false))
    }
}

impl<IO> fmt::Debug for Connection<IO> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("requests", &self.requests).finish_non_exhaustive()
    }
}

impl SendError {
    pub(crate) fn upstream(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        let detail = detail.into();
        SendError {
            blame: Blame::Upstream,
            reason,
            detail,
            safe_to_retry: false,
            stale_connection: false,
            body: None,
        }
    }

    fn refused(refusal: Refusal) -> Self {
        SendError::upstream(Reason::UpstreamProtocol, format!("the response was refused: {refusal}"))
    }
}

/// The rest of a request's body on its way.
pub(crate) struct Upload {
    pub writer: BodyWriter,
    /// Something was asked of the body.
    pub touched: bool,
    /// Nothing is asked of the body: what follows an offer to upgrade waits until the upstream accepts, since until then
    /// it would read it as the next request.
    pub held: bool,
    /// The end of the body is the end of the connection's writing half.
    pub tunnel: bool,
    /// All of it was written.
    pub done: bool,
    /// The upstream takes no more; its response may still come.
    pub failed: Option<std::io::Error>,
}

impl Upload {
    fn new(writer: BodyWriter) -> Self {
        Upload { writer, touched: false, held: false, tunnel: false, done: false, failed: None }
    }

    /// Whether the request ended cleanly.
    pub(crate) fn is_complete(&self) -> bool {
        self.done && self.failed.is_none()
    }

    /// Moves the upload on as far as both sides allow; fails when the body does.
    pub(crate) fn poll<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        transport: &mut Transport<IO>,
        cx: &mut Context<'_>,
    ) -> Result<(), BodyError> {
        while !self.done {
            let mut waiting = self.held;
            while !self.writer.is_finished() && !waiting && transport.queued_bytes() < HIGH_WATER {
                let frame = self.writer.poll_source(cx);
                self.touched |= frame.is_ready();
                waiting = matches!(self.writer.queue(frame, transport)?, Pulled::Waiting);
            }
            match transport.poll_flush(cx) {
                Poll::Ready(Ok(())) if self.writer.is_finished() && self.tunnel => {
                    match transport.poll_shutdown(cx) {
                        Poll::Ready(result) => (self.done, self.failed) = (true, result.err()),
                        Poll::Pending => return Ok(()),
                    }
                }
                Poll::Ready(Ok(())) if self.writer.is_finished() => self.done = true,
                Poll::Ready(Ok(())) if waiting => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    self.done = true;
                }
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }
}

struct Exchange<IO> {
    lease: Lease<IO>,
    upload: Upload,
    scanner: HeadScanner,
    interim: usize,
    method: Method,
}

impl<IO: AsyncRead + AsyncWrite + Unpin + 'static> Exchange<IO> {
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        informational: &Informational,
    ) -> Poll<Result<ParsedResponse, SendError>> {
        let Some(connection) = self.lease.connection() else {
            return Poll::Ready(Err(SendError::upstream(Reason::UpstreamReset, "the connection is gone")));
        };
        let options = connection.options;
        let transport = &mut connection.transport;
        if let Err(error) = self.upload.poll(transport, cx) {
            let mut failed = SendError::upstream(error.reason, error.detail);
            failed.blame = error.blame;
            return Poll::Ready(Err(failed));
        }
        loop {
            match read_head(transport, &mut self.scanner, &options.limits, &self.method) {
                Ok(Some(response))
                    if response.head.status >= 200 && !accepts(&self.method, self.upload.held, &response) =>
                {
                    if self.upload.held {
                        // Not accepted: the bytes behind the offer were never the upstream's.
                        self.upload.done = true;
                    }
                    return Poll::Ready(Ok(response));
                }
                Ok(Some(response)) if accepts(&self.method, self.upload.held, &response) => {
                    (self.upload.held, self.upload.tunnel) = (false, true);
                    return Poll::Ready(Ok(response));
                }
                Ok(Some(interim)) => {
                    self.interim += 1;
                    self.scanner = HeadScanner::default();
                    if self.interim > options.max_informational {
                        let detail = format!("more than {} interim responses", options.max_informational);
                        return Poll::Ready(Err(SendError::upstream(Reason::UpstreamProtocol, detail)));
                    }
                    match interim.head.status {
                        // Each hop answers `expect: 100-continue` itself.
                        100 => {}
                        101 => {
                            let detail = "101 Switching Protocols without a request for it";
                            return Poll::Ready(Err(SendError::upstream(Reason::UpstreamProtocol, detail)));
                        }
                        _ => informational.send(interim.head),
                    }
                    continue;
                }
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Err(SendError::refused(refusal))),
            }
            let failure = match transport.poll_fill(cx, 1) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => continue,
                Poll::Ready(Ok(0)) => "the upstream closed the connection".to_owned(),
                Poll::Ready(Err(error)) => format!("the connection to the upstream failed: {error}"),
            };
            let seen = transport.read.len();
            // A head that is cut in the middle is no answer that a closing peer owes: its framing is wrong.
            let (reason, what) = if seen == 0 {
                (Reason::UpstreamReset, "before its response".to_owned())
            } else {
                (Reason::UpstreamProtocol, format!("after {seen} bytes of a head"))
            };
            let write = self.upload.failed.as_ref().map(|error| format!("; writing had failed: {error}"));
            let detail = format!("{failure} {what}{}", write.unwrap_or_default());
            return Poll::Ready(Err(SendError::upstream(reason, detail)));
        }
    }

    fn into_response(mut self, response: ParsedResponse) -> (ResponseHead, Body) {
        if let Some(connection) = self.lease.connection() {
            connection.idle_timeout = response.idle_timeout;
        }
        let limits = self.lease.connection().map(|connection| connection.options.limits).unwrap_or_default();
        let decoder = match response.framing {
            ResponseFraming::None => BodyDecoder::Done,
            ResponseFraming::Known(bytes) => BodyDecoder::marked(BodyLength::Known(bytes), limits),
            ResponseFraming::Chunked => BodyDecoder::marked(BodyLength::Unknown, limits),
            ResponseFraming::UntilClose => BodyDecoder::UntilClose,
        };
        let mut body = ResponseBody::new(self.lease, self.upload, decoder, response.keep_alive);
        let body = if body.finish_if_done() { Body::empty() } else { Body::stream(body) };
        (response.head, body)
    }
}

/// Whether what follows belongs to another protocol: 101 accepts an upgrade, any 2xx a CONNECT. `offered`: one of them was
/// asked for.
fn accepts(method: &Method, offered: bool, response: &ParsedResponse) -> bool {
    let status = response.head.status;
    offered && if *method == Method::CONNECT { (200..300).contains(&status) } else { status == 101 }
}

/// A response head, when the buffer has one.
fn read_head<IO: AsyncRead + AsyncWrite + Unpin>(
    transport: &mut Transport<IO>,
    scanner: &mut HeadScanner,
    limits: &Limits,
    method: &Method,
) -> Result<Option<ParsedResponse>, Refusal> {
    let buffer = &mut transport.read;
    let start = buffer.len().min(5);
    if buffer[..start] != b"HTTP/"[..start] {
        return Err(Refusal::Malformed("the first bytes are not HTTP/; is this another protocol?"));
    }
    let Some(end) = scanner.scan(buffer, limits, 1)? else { return Ok(None) };
    h1_response::parse(buffer.split_to(end.length).freeze(), end, method).map(Some)
}

#[cfg(test)]
#[path = "h1_client_tests.rs"]
mod tests;
