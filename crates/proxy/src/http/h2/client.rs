//! The client side of an HTTP/2 connection (RFC 9113): many exchanges at once, bounded windows both ways.
//!
//! A job of the worker moves the bytes of the connection; it ends when the last handle is gone and the last stream has
//! ended, when the host closes, or when a ping is not answered.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Blame, Reason};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::client_exchange::{Ended, Exchange};
use super::code::Code;
use super::connection::{Core, Over, Role, Rules};
use super::floods::FloodLimits;
use super::reader::{Read, Reader};
use super::settings::Local;
use crate::http::body::Body;
use crate::http::deadline::Deadline;
use crate::http::h1::Limits;
use crate::http::h1_client::SendError;
use crate::http::handler::Informational;
use crate::http::head::{RequestHead, ResponseHead};

pub use super::client_exchange::OnEnd;

/// How long a connection that nobody needs may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// What a field counts beside name and value (RFC 9113, section 6.5.2).
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

impl Options {
    fn rules(&self) -> Rules {
        let fields = self.limits.max_headers_bytes + self.limits.max_headers_count * FIELD_OVERHEAD;
        Rules {
            role: Role::Client,
            limits: self.limits,
            local: Local {
                header_table_size: self.header_table_size,
                max_concurrent_streams: None,
                stream_window: self.stream_window,
                max_header_list_size: u32::try_from(fields).unwrap_or(u32::MAX),
                connect_protocol: false,
                no_push: true,
            },
            connection_window: self.connection_window,
            floods: FloodLimits::OF_UPSTREAM,
            max_interim: self.max_informational,
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
    handle: Rc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Rc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.unneeded.set(true);
        self.shared.core.borrow_mut().touched();
    }
}

/// What handles, exchanges and the job share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub core: RefCell<Core>,
    /// No handle is left.
    unneeded: Cell<bool>,
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
        let core = RefCell::new(Core::new(options.rules()));
        let shared = Rc::new(Shared { core, unneeded: Cell::new(false) });
        let pings = options.keepalive.map(Pings::new);
        let mut driver = Driver {
            io,
            reader: Reader::default(),
            shared: shared.clone(),
            pings,
            goodbye: Deadline::default(),
        };
        poll_fn(|cx| match driver.poll(cx) {
            Poll::Ready(why) => Poll::Ready(Err(format!("HTTP/2 handshake: {why}"))),
            Poll::Pending if driver.shared.core.borrow().is_greeted() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        runtime::thread::background("http2 client", async move {
            let why = poll_fn(|cx| driver.poll(cx)).await;
            tracing::debug!("an HTTP/2 connection to an upstream ended: {why}");
            drop(driver);
            drop(keep);
        });
        Ok(Connection { handle: Rc::new(Handle { shared }) })
    }

    /// Whether a new stream can be opened: the host has not said GOAWAY and the connection lives.
    pub fn is_open(&self) -> bool {
        self.handle.shared.core.borrow().opens()
    }

    /// Streams that the host allows at once.
    pub fn max_streams(&self) -> usize {
        self.handle.shared.core.borrow().max_streams()
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
        let ended = Ended::new(on_end);
        let shared = &self.handle.shared;
        let unsent = |reason, detail, body| {
            let mut error = SendError::upstream(reason, detail);
            error.safe_to_retry = true;
            error.body = Some(body);
            error
        };
        if head.upgrade.is_some() && !shared.core.borrow().takes_connect() {
            let detail = "the upstream does not take upgrades on HTTP/2 (extended CONNECT, RFC 8441)";
            return Err(unsent(Reason::UpstreamProtocol, detail, body));
        }
        poll_fn(|cx| shared.core.borrow_mut().poll_opening(cx)).await;
        if !self.is_open() {
            let detail = "HTTP/2: the connection takes no more requests";
            return Err(unsent(Reason::UpstreamRefusedStream, detail, body));
        }
        let ends = body.is_end() && !head.is_tunnel();
        let sent = shared.core.borrow_mut().send_request(head, ends);
        let Ok(id) = sent else {
            let detail = "the request cannot be written on HTTP/2: its target, authority or a field";
            let mut error = unsent(Reason::BadRequest, detail, body);
            error.safe_to_retry = false;
            error.blame = Blame::Downstream;
            return Err(error);
        };
        Exchange::new(shared.clone(), id, body, ended).run(informational).await
    }
}

/// Moves the bytes of a connection.
struct Driver<IO> {
    io: IO,
    reader: Reader,
    shared: Rc<Shared>,
    pings: Option<Pings>,
    goodbye: Deadline,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    /// Ready when the connection has ended, and why.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        self.shared.core.borrow_mut().begin_driving(cx);
        let polled = self.drive(cx);
        let mut core = self.shared.core.borrow_mut();
        if polled.is_ready() {
            core.end(Over::Closed);
        }
        core.end_driving();
        polled
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        let shared = self.shared.clone();
        let mut core = shared.core.borrow_mut();
        loop {
            let mut moved = false;
            if core.reads() {
                match self.reader.poll_read(&mut self.io, cx, &mut *core) {
                    Poll::Pending => {}
                    Poll::Ready(Ok(Read::Some)) => moved = true,
                    Poll::Ready(Ok(Read::Violation(violation))) => {
                        core.end(Over::Violation(violation));
                        self.goodbye.set(Some(GOODBYE));
                    }
                    Poll::Ready(Ok(Read::End | Read::Cut)) => {
                        return Poll::Ready("the host closed the connection".to_owned());
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(error.to_string()),
                }
            }
            if core.over.is_none()
                && let Some(pings) = &mut self.pings
                && pings.poll_dead(&mut core, cx).is_ready()
            {
                return Poll::Ready("a ping was not answered".to_owned());
            }
            let unneeded = shared.unneeded.get() || core.peer_leaves();
            if core.over.is_none() && core.streams.is_empty() && unneeded {
                core.end_with(Code::NO_ERROR);
                self.goodbye.set(Some(GOODBYE));
            }
            let before = core.out.waiting();
            let flushed = match core.out.is_empty() {
                true => Poll::Ready(Ok(())),
                false => core.out.poll_flush(&mut self.io, cx),
            };
            if before > 0 {
                core.written();
                moved |= core.out.waiting() < before && !core.reads();
                if core.streams.is_empty() {
                    core.out.shrink();
                }
            }
            if let Poll::Ready(Err(error)) = flushed {
                return Poll::Ready(error.to_string());
            }
            if core.over.is_some() {
                return self.poll_goodbye(&core, flushed, cx);
            }
            if !moved {
                return Poll::Pending;
            }
        }
    }

    /// Ready when the last frames are written, or the host does not take them.
    fn poll_goodbye(
        &mut self,
        core: &Core,
        flushed: Poll<io::Result<()>>,
        cx: &mut Context<'_>,
    ) -> Poll<String> {
        if flushed.is_pending() && self.goodbye.poll(cx).is_pending() {
            return Poll::Pending;
        }
        // Nobody waits for the end of the other side.
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        Poll::Ready(match core.over {
            Some(Over::Violation(violation)) => format!("the host broke a rule of HTTP/2: {violation}"),
            _ => "nobody needs it".to_owned(),
        })
    }
}

struct Pings {
    rules: Keepalive,
    waiting: bool,
    next: Pin<Box<Sleep>>,
}

impl Pings {
    fn new(rules: Keepalive) -> Self {
        Pings { rules, waiting: false, next: Box::pin(tokio::time::sleep(rules.interval)) }
    }

    /// Ready when a ping was not answered in time.
    fn poll_dead(&mut self, core: &mut Core, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting {
                if !core.alive {
                    return self.next.as_mut().poll(cx);
                }
                self.waiting = false;
                self.next.as_mut().reset(Instant::now() + self.rules.interval);
            }
            if self.next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            core.look_for_peer();
            self.waiting = true;
            self.next.as_mut().reset(Instant::now() + self.rules.timeout);
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
