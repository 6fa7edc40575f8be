//! The server side of an HTTP/2 connection (RFC 9113): all of its streams live in the future that moves its bytes.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use runtime::DrainWatch;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::code::{Code, Violation};
use super::connection::{Core, Over, Role, Rules};
use super::reader::{Read, Reader};
use super::ready::Ready;
use super::server_exchange::{Exchange, Serving};
use super::settings::{Local, Remote};
use super::streams::Failure;
use crate::http::deadline::Deadline;
use crate::http::h1::Limits;
use crate::http::h1_request::Underscores;
use crate::http::handler::Handler;
use crate::http::head::{RequestHead, Version};
use crate::http::on_wake::OnWake;

pub use super::floods::{Flood, FloodLimits};

/// How long a client may take from the first GOAWAY to the end of its last requests being on their way, when it does not
/// answer the PING that asks.
const LAST_CALL: Duration = Duration::from_secs(1);
/// How long the last frames may take to be written.
const FAREWELL: Duration = Duration::from_secs(2);
/// Bytes that are read and dropped after the last frame was written, so that the client sees it and not a reset.
const LINGER_BYTES: usize = 64 * 1024;
/// How long that may take.
const LINGER: Duration = Duration::from_secs(1);
/// What a field counts beside its name and value (RFC 9113, section 6.5.2).
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
    /// The largest header block that is read whole. What is beyond the limits and within this is answered in words.
    fn head_list_bytes(&self) -> usize {
        let fields = self.limits.max_headers_count.saturating_mul(FIELD_OVERHEAD);
        self.limits.max_headers_bytes.saturating_add(fields).saturating_mul(2)
    }

    fn rules(&self) -> Rules {
        Rules {
            role: Role::Server,
            limits: self.limits,
            local: Local {
                header_table_size: self.header_table_size,
                max_concurrent_streams: Some(self.max_concurrent_streams),
                stream_window: self.stream_window,
                max_header_list_size: u32::try_from(self.head_list_bytes()).unwrap_or(u32::MAX),
                connect_protocol: self.allow_connect,
                no_push: false,
            },
            connection_window: self.connection_window,
            floods: self.flood,
            max_interim: 0,
        }
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
}

/// Why a connection broke.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// No preface in time.
    #[error("the client sent no HTTP/2 preface for {0:?}")]
    NoPreface(Duration),
    /// The client broke a rule.
    #[error("the client broke a rule of HTTP/2: {0}")]
    Violation(#[from] Violation),
    /// The connection failed.
    #[error("the HTTP/2 connection failed: {0}")]
    Io(#[from] io::Error),
}

/// A request with which an HTTP/1 connection became an HTTP/2 one: its response is that of stream 1 (RFC 7540, section 3.2).
#[derive(Debug)]
pub struct Upgraded {
    /// The request, which has no body.
    pub head: RequestHead,
    /// What `http2-settings` holds, decoded.
    pub settings: Bytes,
    /// What was read behind the request.
    pub read: BytesMut,
}

/// Whether these are settings that a client may have.
pub(crate) fn are_settings(payload: &[u8]) -> bool {
    Remote::default().read(payload, false).is_ok()
}

/// Serves requests on `io` until either side closes. All of it happens in the task that polls the future; dropping the
/// future closes the connection and drops every exchange.
///
/// # Errors
/// The connection failed, or the client broke a rule of the protocol.
pub async fn serve<IO>(
    io: IO,
    handler: &dyn Handler,
    options: &ServerOptions,
    drain: &DrainWatch,
) -> Result<Closed, ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    serve_from(io, None, handler, options, drain).await
}

/// The same behind an HTTP/1 request that has asked for it and was answered with 101; `io` begins with the client's preface.
/// Nobody sees the request before the client has begun to speak HTTP/2.
///
/// # Errors
/// As [`serve`], and where the settings of the request are none.
pub async fn serve_upgraded<IO>(
    io: IO,
    first: Upgraded,
    handler: &dyn Handler,
    options: &ServerOptions,
    drain: &DrainWatch,
) -> Result<Closed, ConnectionError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    serve_from(io, Some(first), handler, options, drain).await
}

async fn serve_from<IO: AsyncRead + AsyncWrite + Unpin>(
    io: IO,
    first: Option<Upgraded>,
    handler: &dyn Handler,
    options: &ServerOptions,
    drain: &DrainWatch,
) -> Result<Closed, ConnectionError> {
    let mut core = Core::new(options.rules());
    let mut read = BytesMut::new();
    if let Some(first) = first {
        core.begin_with(&first.settings, first.head)?;
        read = first.read;
    }
    let core = Rc::new(RefCell::new(core));
    let mut age = Deadline::default();
    age.set(options.max_duration);
    // Without a preface it has no stream, so that it is idle too.
    let limits = [options.header_timeout, options.idle_timeout];
    let greeting_limit = limits.into_iter().filter(|limit| !limit.is_zero()).min().unwrap_or_default();
    let mut greeting = Deadline::default();
    greeting.set(Some(greeting_limit));
    let mut connection = Connection {
        io,
        reader: Reader::behind_preface(read),
        serving: Serving { handler, options, core },
        exchanges: Vec::new(),
        free: Vec::new(),
        ready: Ready::new(),
        drained: OnWake::new(drain.started()),
        requests: 0,
        leaving: None,
        ending: None,
        greeting,
        greeting_limit,
        age,
        idle: Deadline::default(),
        stuck: false,
        head: Deadline::default(),
        farewell: Deadline::default(),
        lingering: None,
    };
    poll_fn(|cx| connection.poll(cx)).await
}

/// How a connection ends, once its last frames are written.
type Ending = Result<Closed, ConnectionError>;

struct Connection<'h, IO, F> {
    io: IO,
    reader: Reader,
    // Before the exchanges are dropped, which have bodies that know it too.
    serving: Serving<'h>,
    exchanges: Vec<Option<Exchange<'h>>>,
    free: Vec<usize>,
    ready: Ready,
    drained: OnWake<F>,
    requests: u32,
    /// The client was told to go, and why.
    leaving: Option<Closed>,
    /// No stream is looked at any more: the last frames are on their way.
    ending: Option<Ending>,
    greeting: Deadline,
    greeting_limit: Duration,
    age: Deadline,
    idle: Deadline,
    /// `idle` counts for a client that does not take the end of its responses.
    stuck: bool,
    head: Deadline,
    /// Until when the last frames must be written, or the last requests must come.
    farewell: Deadline,
    lingering: Option<usize>,
}

impl<IO, F> Connection<'_, IO, F>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = ()>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.serving.core.borrow_mut().begin_driving(cx);
        self.ready.awake();
        let polled = self.drive(cx);
        if polled.is_ready() {
            self.let_go();
        }
        self.serving.core.borrow_mut().end_driving();
        polled
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        while self.ending.is_none() {
            let mut moved = false;
            match self.poll_read(cx) {
                Poll::Ready(Ok(())) => moved = true,
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                Poll::Pending => {}
            }
            self.accept();
            while let Some(place) = self.ready.next() {
                self.run(place);
                moved = true;
            }
            if self.ending.is_some() {
                break;
            }
            if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
                return Poll::Ready(self.broken(error));
            }
            if !moved && !self.watch(cx) && self.ready.sleep(cx) {
                return Poll::Pending;
            }
        }
        self.poll_ending(cx)
    }

    /// Reads once. An error is how the connection has ended already.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let mut core = self.serving.core.borrow_mut();
        if !core.reads() {
            return Poll::Pending;
        }
        let polled = self.reader.poll_read(&mut self.io, cx, &mut *core);
        drop(core);
        let Poll::Ready(read) = polled else { return Poll::Pending };
        match read {
            Ok(Read::Some) => {}
            Ok(Read::End) => return Poll::Ready(Err(Ok(self.cause()))),
            Ok(Read::Cut) => return Poll::Ready(Err(self.broken(io::ErrorKind::UnexpectedEof.into()))),
            Err(error) => return Poll::Ready(Err(self.broken(error))),
            Ok(Read::Violation(violation)) if !self.reader.is_past_preface() => {
                return Poll::Ready(Err(Err(violation.into())));
            }
            Ok(Read::Violation(violation)) => self.violated(violation),
        }
        Poll::Ready(Ok(()))
    }

    /// A broken connection without a stream is a close without manners.
    fn broken(&self, error: io::Error) -> Ending {
        if self.running() == 0 { Ok(self.cause()) } else { Err(error.into()) }
    }

    /// The client broke a rule: what it has sent before is looked at once more, and that is all.
    fn violated(&mut self, violation: Violation) {
        self.serving.core.borrow_mut().end(Over::Violation(violation));
        self.accept();
        while let Some(place) = self.ready.next() {
            self.run(place);
        }
        self.finish(match violation.flood {
            Some(flood) => Ok(Closed::Flooded(flood)),
            None => Err(violation.into()),
        });
    }

    fn cause(&self) -> Closed {
        self.leaving.unwrap_or(Closed::ByClient)
    }

    fn running(&self) -> usize {
        self.exchanges.len() - self.free.len()
    }

    /// Begins what has come.
    fn accept(&mut self) {
        let unanswered = std::mem::take(&mut self.serving.core.borrow_mut().unanswered);
        for what in unanswered {
            self.serving.handler.unanswered(what, Version::Http2);
        }
        loop {
            let Some(accepted) = self.serving.core.borrow_mut().accepted.pop_front() else { return };
            self.requests = self.requests.saturating_add(1);
            self.idle.clear();
            if self.serving.options.max_requests.is_some_and(|limit| self.requests >= limit) {
                self.leave(Closed::LastRequest);
            }
            {
                let mut core = self.serving.core.borrow_mut();
                if matches!(core.failure(accepted.id), Some(Failure::Reset(_) | Failure::Closed)) {
                    core.forget(accepted.id, Code::CANCEL);
                    continue;
                }
            }
            let place = self.free.pop().unwrap_or(self.exchanges.len());
            let waker = self.ready.waker(place);
            if let Some(stream) = self.serving.core.borrow_mut().streams.get_mut(accepted.id) {
                stream.writer = Some(waker);
            }
            let exchange = Exchange::begin(&self.serving, accepted);
            if place == self.exchanges.len() {
                self.exchanges.push(None);
            }
            self.exchanges[place] = Some(exchange);
            self.run(place);
        }
    }

    /// Moves one exchange on.
    fn run(&mut self, place: usize) {
        let Some(Some(exchange)) = self.exchanges.get_mut(place) else { return };
        let mut cx = Context::from_waker(self.ready.known(place));
        if exchange.poll(&self.serving, &mut cx).is_ready() {
            self.exchanges[place] = None;
            self.free.push(place);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut core = self.serving.core.borrow_mut();
        if core.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let polled = core.out.poll_flush(&mut self.io, cx);
        core.written();
        if core.streams.is_empty() {
            core.out.shrink();
        }
        polled
    }

    /// Looks at what may end the connection; says whether something was done that has to be written.
    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        let options = self.serving.options;
        if self.reader.is_past_preface() {
            self.greeting.clear();
        } else if self.greeting.poll(cx).is_ready() {
            self.finish(Err(ConnectionError::NoPreface(self.greeting_limit)));
            return true;
        }
        if !self.reader.is_inside_head() && !self.serving.core.borrow().is_in_block() {
            self.head.clear();
        } else if !self.head.is_set() {
            self.head.set(Some(options.header_timeout));
        }
        if self.head.poll(cx).is_ready() {
            self.end(Code::PROTOCOL_ERROR, Closed::HeadTimeout);
            return true;
        }
        if self.leaving.is_none() && self.drained.poll(cx).is_ready() {
            return self.leave(Closed::Drained);
        }
        if self.leaving.is_none() && self.age.poll(cx).is_ready() {
            return self.leave(Closed::Aged);
        }
        self.watch_leaving(cx) || self.watch_idle(cx)
    }

    /// Whether the client has heard that it is to go, and nothing is left to do for it.
    fn watch_leaving(&mut self, cx: &mut Context<'_>) -> bool {
        let running = self.running();
        let mut core = self.serving.core.borrow_mut();
        if self.leaving.is_none() && !core.peer_leaves() {
            return false;
        }
        if !core.has_said_last() && core.has_heard() && (self.leaving.is_some() || running == 0) {
            core.say_last();
        }
        if running > 0 {
            self.farewell.clear();
            return false;
        }
        if !core.has_said_last() {
            // The client has not answered the PING behind the first GOAWAY.
            if !self.farewell.is_set() {
                self.farewell.set(Some(LAST_CALL));
            }
            if self.farewell.poll(cx).is_pending() {
                return false;
            }
            core.say_last();
        }
        drop(core);
        self.finish(Ok(self.cause()));
        true
    }

    fn watch_idle(&mut self, cx: &mut Context<'_>) -> bool {
        if self.running() > 0 {
            self.idle.clear();
            return false;
        }
        if self.leaving.is_some() {
            return false;
        }
        let options = self.serving.options;
        // A client that does not take the end of its responses is not idle, it is stuck.
        let stuck = !self.serving.core.borrow().out.is_empty() && !options.stall_timeout.is_zero();
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
        self.serving.core.borrow_mut().announce_end();
        true
    }

    /// Ends the connection with all of its streams.
    fn end(&mut self, code: Code, why: Closed) {
        self.leaving = Some(why);
        self.serving.core.borrow_mut().end_with(code);
        self.finish(Ok(why));
    }

    /// Drops all exchanges, the newest first.
    fn let_go(&mut self) {
        let mut exchanges: Vec<_> = self.exchanges.drain(..).flatten().collect();
        exchanges.sort_by_key(|exchange| exchange.id);
        while exchanges.pop().is_some() {}
        self.free.clear();
    }

    /// Nothing is left to do but to write the last frames.
    fn finish(&mut self, ending: Ending) {
        self.let_go();
        self.serving.core.borrow_mut().end(Over::Ended);
        self.farewell.set(Some(FAREWELL));
        self.ending = Some(ending);
    }

    /// Writes the last frames and closes the write side, and reads on for a moment: closing a socket with unread bytes makes
    /// the kernel reset it, and the client would not learn from the GOAWAY which of its requests were not looked at.
    fn poll_ending(&mut self, cx: &mut Context<'_>) -> Poll<Ending> {
        if self.lingering.is_none() {
            match self.poll_flush(cx) {
                Poll::Pending if self.farewell.poll(cx).is_pending() => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                Poll::Pending | Poll::Ready(Err(_)) => return Poll::Ready(self.result()),
            }
            self.lingering = Some(LINGER_BYTES);
            self.farewell.set(Some(LINGER));
        }
        match Pin::new(&mut self.io).poll_shutdown(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(self.result()),
            Poll::Pending => return self.farewell.poll(cx).map(|()| self.result()),
        }
        let mut scratch = [0; 4096];
        while let Some(left) = self.lingering {
            let mut piece = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    self.lingering = left.checked_sub(piece.filled().len());
                }
                Poll::Ready(_) => break,
                Poll::Pending => return self.farewell.poll(cx).map(|()| self.result()),
            }
        }
        Poll::Ready(self.result())
    }

    fn result(&mut self) -> Ending {
        self.ending.take().unwrap_or(Ok(Closed::ByClient))
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
