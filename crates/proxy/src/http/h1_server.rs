//! The server side of a connection: one request after the other, until one side has enough.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use runtime::DrainWatch;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::body::{Body, BodyError};
use super::deadline::Deadline;
use super::h1::Limits;
use super::h1_encode::{self, Framing, ResponseRules};
use super::h1_exchange::{BodyWriter, RequestBody, Shared, Tunnel};
use super::h1_head_reader::HeadReader;
use super::h1_request::ParsedRequest;
use super::h2c::{self, Switched};
use super::handler::{Handler, Informational};
use super::head::{BodyLength, RequestHead, ResponseHead, Version};
use super::hop::ConnectionFields;
use super::on_wake::OnWake;
use super::refusal::Refusal;

pub use super::h1_request::{RequestRules, Underscores};

/// Bytes of an unread request body that are read and dropped to keep a connection, and that are taken from a connection
/// that is being closed so that the client sees the answer and not a reset.
const DRAIN_LIMIT: usize = 64 * 1024;
/// How long a connection that is being closed waits for the client to see the answer.
const LINGER: Duration = Duration::from_secs(1);
/// How long an idle connection may still send a request once the drain has begun. Closing it at once would lose the
/// request that is on its way; this one is answered, with `connection: close`.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Limits and rules of a server connection. A timeout of zero is off.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Bounds of heads and trailers.
    pub limits: Limits,
    /// What heads may say.
    pub rules: RequestRules,
    /// From the first byte of a head to its last. Envoy's `request_headers_timeout`.
    pub header_timeout: Duration,
    /// Between two requests. Envoy's `idle_timeout`.
    pub idle_timeout: Duration,
    /// While the client owes bytes of a body or does not take the response.
    pub stall_timeout: Duration,
    /// Requests before the connection is closed; `None`: no limit. Envoy's `max_requests_per_connection`.
    pub max_requests: Option<u32>,
    /// Age at which the connection is closed, between two requests or after the response it is at; `None`: no limit.
    /// Envoy's `max_connection_duration`.
    pub max_duration: Option<Duration>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        ServerOptions {
            limits: Limits::default(),
            rules: RequestRules::default(),
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(3600),
            stall_timeout: Duration::from_secs(300),
            max_requests: None,
            max_duration: None,
        }
    }
}

/// Why a connection ended in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The client closed it between two requests.
    ByClient,
    /// The client, the response or the version asked for it.
    AfterResponse,
    /// Nothing came for the idle timeout.
    Idle,
    /// The proxy drains.
    Drained,
    /// It reached its age.
    Aged,
    /// A head was refused, and answered.
    Refused(Refusal),
}

/// How the HTTP/1 part of a connection ended.
#[derive(Debug)]
pub enum Ended<IO> {
    /// The connection ended.
    Closed(Closed),
    /// It goes on in HTTP/2, with the request that asked for it.
    Http2(Box<Switched<IO>>),
}

/// Why a connection broke.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The client closed while its request was being answered, or in the middle of a head.
    #[error("the client closed the connection before the end of its exchange")]
    ClientGone,
    /// The client owed or refused bytes for longer than the stall timeout.
    #[error("the client took or sent nothing for longer than the stall timeout")]
    Stalled,
    /// The connection failed.
    #[error("the connection to the client failed: {0}")]
    Io(#[from] io::Error),
    /// The response's body broke off, so the connection did.
    #[error("the response was aborted: {0}")]
    ResponseBroken(BodyError),
}

/// Serves requests on `io` until either side closes. All of it happens in the task that polls the future; dropping the
/// future closes the connection. The rules must not allow a switch to HTTP/2.
pub async fn serve<IO>(
    io: IO,
    handler: &dyn Handler,
    options: &ServerOptions,
    drain: &DrainWatch,
) -> Result<Closed, ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    match serve_or_switch(io, handler, options, drain).await? {
        Ended::Closed(closed) => Ok(closed),
        Ended::Http2(_) => Ok(Closed::AfterResponse),
    }
}

/// The same for a connection that may go on in HTTP/2.
pub async fn serve_or_switch<IO>(
    io: IO,
    handler: &dyn Handler,
    options: &ServerOptions,
    drain: &DrainWatch,
) -> Result<Ended<IO>, ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let shared = Rc::new(RefCell::new(Shared::new(io, options.stall_timeout, options.rules.underscores)));
    let drained = RefCell::new(OnWake::new(drain.started()));
    let (leaving, requests) = (Cell::new(false), Cell::new(0));
    let ends = options.max_duration.map(|age| Instant::now() + age);
    let connection = Connection { shared, handler, options, drained, leaving, requests, ends };
    let mut waiting = Deadline::default();
    loop {
        let mut reader = HeadReader::default();
        waiting.set(Some(options.idle_timeout));
        connection.shorten(&mut waiting);
        let next = poll_fn(|cx| connection.poll_head(cx, &mut reader, &mut waiting)).await;
        match next? {
            Next::Request(request) => {
                if let Some(settings) = connection.switch(&request).await? {
                    return connection.into_http2(settings, request.head).map(Ended::Http2);
                }
                if !connection.exchange(*request).await? {
                    connection.close().await;
                    let closed =
                        if connection.is_draining() { Closed::Drained } else { Closed::AfterResponse };
                    return Ok(Ended::Closed(closed));
                }
            }
            Next::Refused(refusal) => {
                connection.refuse(refusal).await?;
                connection.close().await;
                return Ok(Ended::Closed(Closed::Refused(refusal)));
            }
            Next::Closed(closed) => {
                // TLS has a last word, and a client that does not read leaves no room for it.
                let shutdown = poll_fn(|cx| connection.shared.borrow_mut().transport.poll_shutdown(cx));
                let _ = tokio::time::timeout(LINGER, shutdown).await;
                return Ok(Ended::Closed(closed));
            }
        }
    }
}

enum Next {
    Request(Box<ParsedRequest>),
    Refused(Refusal),
    Closed(Closed),
}

struct Connection<'h, IO, F> {
    shared: Rc<RefCell<Shared<IO>>>,
    handler: &'h dyn Handler,
    options: &'h ServerOptions,
    drained: RefCell<OnWake<F>>,
    /// The drain was seen while the connection was idle.
    leaving: Cell<bool>,
    requests: Cell<u32>,
    /// When its age is reached.
    ends: Option<Instant>,
}

impl<IO, F> Connection<'_, IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = ()>,
{
    fn is_draining(&self) -> bool {
        self.drained.borrow_mut().is_ready()
    }

    fn is_aged(&self) -> bool {
        self.ends.is_some_and(|ends| ends <= Instant::now())
    }

    /// Nothing waits longer than the connection lives.
    fn shorten(&self, waiting: &mut Deadline) {
        if let Some(ends) = self.ends {
            let left = ends.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let idle = self.options.idle_timeout;
            waiting.set(Some(if idle.is_zero() { left } else { left.min(idle) }));
        }
    }

    fn poll_head(
        &self,
        cx: &mut Context<'_>,
        reader: &mut HeadReader,
        waiting: &mut Deadline,
    ) -> Poll<Result<Next, ConnectionError>> {
        let transport = &mut self.shared.borrow_mut().transport;
        loop {
            let had_begun = reader.begun;
            match reader.read(&mut transport.read, &self.options.limits, &self.options.rules) {
                Ok(Some(request)) => return Poll::Ready(Ok(Next::Request(Box::new(request)))),
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Ok(Next::Refused(refusal))),
            }
            if reader.begun && !had_begun {
                waiting.set(Some(self.options.header_timeout));
            }
            match transport.poll_fill(cx, 1) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(_) if reader.begun => return Poll::Ready(Err(ConnectionError::ClientGone)),
                // A reset between two requests is a close without manners.
                Poll::Ready(_) => return Poll::Ready(Ok(Next::Closed(Closed::ByClient))),
                Poll::Pending => break,
            }
        }
        if reader.begun {
            let limit = self.options.header_timeout;
            let refusal = Refusal::HeadTimeout { limit, seen: transport.read.len() };
            return waiting.poll(cx).map(|()| Ok(Next::Refused(refusal)));
        }
        transport.shrink();
        if self.drained.borrow_mut().poll(cx).is_pending() {
            let why = |()| Next::Closed(if self.is_aged() { Closed::Aged } else { Closed::Idle });
            return waiting.poll(cx).map(why).map(Ok);
        }
        if !self.leaving.replace(true) {
            waiting.set(Some(LAST_CALL));
        }
        waiting.poll(cx).map(|()| Ok(Next::Closed(Closed::Drained)))
    }

    /// Accepts an offer to go on in HTTP/2, if the request makes one and nothing else uses the connection: the client's
    /// settings.
    async fn switch(&self, request: &ParsedRequest) -> Result<Option<Bytes>, ConnectionError> {
        let Some(settings) = &request.h2c else { return Ok(None) };
        if self.requests.get() > 0 || Rc::strong_count(&self.shared) > 1 || self.is_draining() {
            return Ok(None);
        }
        self.shared.borrow_mut().transport.out.extend_from_slice(h2c::ACCEPT);
        poll_fn(|cx| self.shared.borrow_mut().poll_flush(cx)).await?;
        Ok(Some(settings.clone()))
    }

    /// The connection as HTTP/2 goes on with it.
    fn into_http2(self, settings: Bytes, head: RequestHead) -> Result<Box<Switched<IO>>, ConnectionError> {
        let Ok(shared) = Rc::try_unwrap(self.shared) else { return Err(ConnectionError::ClientGone) };
        let (io, read) = shared.into_inner().transport.into_parts();
        Ok(Box::new(Switched::new(io, read, settings, head)))
    }

    /// Answers one request; says whether another one may follow.
    async fn exchange(&self, request: ParsedRequest) -> Result<bool, ConnectionError> {
        let ParsedRequest { head, keep_alive, expects_continue, h2c: _ } = request;
        self.requests.set(self.requests.get().saturating_add(1));
        let last = self.options.max_requests.is_some_and(|limit| self.requests.get() >= limit);
        let (client, to_head) = (head.version, head.method == http::Method::HEAD);
        let (offered, connect) = (head.is_tunnel(), head.is_connect());
        let length = if offered { BodyLength::None } else { head.length };
        let interim = client != Version::Http10;
        let number = {
            let mut shared = self.shared.borrow_mut();
            shared.begin(length, self.options.limits, expects_continue, interim);
            shared.tunnel = if offered { Tunnel::Offered(None) } else { Tunnel::None };
            shared.exchange
        };
        let body = match head.length {
            BodyLength::None | BodyLength::Known(0) => Body::empty(),
            _ => Body::stream(RequestBody { shared: self.shared.clone(), exchange: number, tunnel: offered }),
        };
        let sink = if interim { Informational::new(self.shared.clone()) } else { Informational::none() };
        let mut answer = self.handler.handle(head, body, sink);
        let (head, body) = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Ok(answer)),
            Poll::Pending => self.shared.borrow_mut().poll_idle_side(cx).map(Err),
        })
        .await?;
        drop(answer);
        let accepted =
            if connect { (200..300).contains(&head.status) } else { offered && head.status == 101 };
        let tunnel = self.shared.borrow_mut().decide_tunnel(accepted);
        // Nobody knows whether what follows a CONNECT that was not accepted is a request.
        let close = last || !keep_alive || connect || self.must_close(&head);
        let rules = ResponseRules { client, to_head, close: close || tunnel, tunnel };
        let closed = self.respond(&head, body, rules).await?;
        // A body that outlives its exchange finds another number.
        self.shared.borrow_mut().exchange += 1;
        Ok(!closed && self.finish_request().await)
    }

    fn must_close(&self, head: &ResponseHead) -> bool {
        let mut asked = ConnectionFields::default();
        head.headers.get_all("connection").for_each(|value| asked.push(Bytes::copy_from_slice(value)));
        let shared = self.shared.borrow();
        shared.broken || shared.continue_pending || asked.has("close") || self.is_aged() || self.is_draining()
    }

    /// Writes a response; says whether the connection must close.
    async fn respond(
        &self,
        head: &ResponseHead,
        body: Body,
        rules: ResponseRules,
    ) -> Result<bool, ConnectionError> {
        let mut head_length = head.length;
        if head_length == BodyLength::None {
            // A body at hand is never lost to a head that does not mention it.
            head_length = body.length();
        }
        let framing = {
            let mut shared = self.shared.borrow_mut();
            shared.interim_allowed = false;
            shared.read_stall.clear();
            if head_length == head.length {
                h1_encode::response_head(&mut shared.transport.out, head, rules)
            } else {
                let head = ResponseHead { length: head_length, ..head.clone() };
                h1_encode::response_head(&mut shared.transport.out, &head, rules)
            }
        };
        let mut writer = BodyWriter::new(body, framing);
        poll_fn(|cx| writer.poll_response(&self.shared, cx)).await?;
        Ok(rules.close || framing == Framing::UntilClose || self.shared.borrow().broken)
    }

    /// Brings the connection to the start of the next request; says whether that worked.
    async fn finish_request(&self) -> bool {
        if self.shared.borrow().decoder.is_done() {
            return true;
        }
        let mut limit = DRAIN_LIMIT;
        self.shared.borrow_mut().read_stall.set(Some(LINGER));
        let done = poll_fn(|cx| self.shared.borrow_mut().poll_drain(cx, &mut limit)).await;
        self.shared.borrow_mut().read_stall.clear();
        done
    }

    async fn refuse(&self, refusal: Refusal) -> Result<(), ConnectionError> {
        let (head, body) = self.handler.refuse(&refusal, Version::Http11);
        let rules = ResponseRules { client: Version::Http11, to_head: false, close: true, tunnel: false };
        self.shared.borrow_mut().broken = true;
        self.respond(&head, body, rules).await.map(drop)
    }

    /// Closes the write side, and reads on for a moment: closing a socket with unread bytes makes the kernel reset it, and
    /// the client would lose the answer.
    async fn close(&self) {
        let mut limit = DRAIN_LIMIT;
        self.shared.borrow_mut().read_stall.set(Some(LINGER));
        poll_fn(|cx| {
            let shared = &mut *self.shared.borrow_mut();
            if shared.transport.poll_shutdown(cx).is_pending() {
                return shared.read_stall.poll(cx);
            }
            loop {
                shared.transport.read.clear();
                match shared.transport.poll_fill(cx, 1) {
                    Poll::Ready(Ok(read @ 1..)) if read < limit => limit -= read,
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return shared.read_stall.poll(cx),
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
#[path = "h1_server_tests.rs"]
mod tests;
