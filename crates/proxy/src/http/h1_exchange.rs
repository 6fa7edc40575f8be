//! What one request and its response share with their server connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base::{Blame, Reason};
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Body, BodyError, BodyStream, Frame};
use super::deadline::Deadline;
use super::h1::Limits;
use super::h1_buffers::{HIGH_WATER, Transport};
use super::h1_decode::{BodyDecoder, Step};
use super::h1_encode::{self, Framing};
use super::h1_request::{Underscores, apply_underscores};
use super::h1_server::ConnectionError;
use super::handler::InformationalSink;
use super::head::{BodyLength, ResponseHead};
use super::headers::Headers;

/// Bytes of later requests that are read while one is being answered, which shows whether the client is still there.
const MAX_PIPELINED: usize = 16 * 1024;
/// Bytes of interim responses that may wait for a slow client; more of them are dropped.
const MAX_INTERIM: usize = 16 * 1024;

/// The bytes of a client that has offered an upgrade, or asked to be connected. Until the offer is accepted they are its next request, whatever it
/// thinks they are: nothing of them goes to the upstream.
#[derive(Debug, Default)]
pub(crate) enum Tunnel {
    /// There is no offer, or it was not accepted.
    #[default]
    None,
    /// Not decided; whoever wants the bytes is woken.
    Offered(Option<Waker>),
    /// They belong to the other protocol.
    Open,
}

/// The connection as its parts see it; all of them live in one task.
pub(crate) struct Shared<IO> {
    pub transport: Transport<IO>,
    /// The body of the current request.
    pub decoder: BodyDecoder,
    /// Number of the current exchange: a body that outlives its exchange reads nothing.
    pub exchange: u64,
    /// What becomes of the bytes behind an offer to upgrade.
    pub tunnel: Tunnel,
    /// The client waits for `100 Continue`.
    pub continue_pending: bool,
    /// No byte of the final response is queued, and the client understands interim ones.
    pub interim_allowed: bool,
    /// The request's body broke a rule or the connection broke: nothing after it can be read.
    pub broken: bool,
    /// The client does not send what is due.
    pub read_stall: Deadline,
    /// The client does not take what it is sent.
    write_stall: Deadline,
    stall_timeout: Duration,
    /// Names in trailers are held to the rule of heads.
    underscores: Underscores,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Shared<IO> {
    pub(crate) fn new(io: IO, stall_timeout: Duration, underscores: Underscores) -> Self {
        Shared {
            transport: Transport::new(io),
            decoder: BodyDecoder::Done,
            exchange: 0,
            tunnel: Tunnel::None,
            continue_pending: false,
            interim_allowed: false,
            broken: false,
            read_stall: Deadline::default(),
            write_stall: Deadline::default(),
            stall_timeout,
            underscores,
        }
    }

    /// Starts the next exchange.
    pub(crate) fn begin(
        &mut self,
        length: BodyLength,
        limits: Limits,
        expects_continue: bool,
        interim: bool,
    ) {
        self.exchange += 1;
        self.decoder = BodyDecoder::marked(length, limits);
        // A client that has begun to send does not wait any more (RFC 9110, section 10.1.1).
        self.continue_pending = expects_continue && self.transport.read.is_empty();
        self.interim_allowed = interim;
    }

    /// Writes what waits, and notices a client that went away or stalls, while somebody else is the one to act.
    pub(crate) fn poll_idle_side(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return Poll::Ready(error);
        }
        if !self.decoder.is_done() {
            return Poll::Pending;
        }
        loop {
            if self.transport.read.len() >= MAX_PIPELINED {
                return Poll::Pending;
            }
            match self.transport.poll_fill(cx, 1) {
                Poll::Ready(Ok(0)) => return Poll::Ready(ConnectionError::ClientGone),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(ConnectionError::Io(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Writes all that is queued; fails when the client takes nothing for too long.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let before = self.transport.written();
        let polled = self.transport.poll_flush(cx);
        if polled.is_ready() || self.transport.written() != before {
            self.write_stall.clear();
        }
        match polled {
            Poll::Ready(result) => Poll::Ready(result.map_err(ConnectionError::Io)),
            Poll::Pending => poll_stall(&mut self.write_stall, self.stall_timeout, cx)
                .map(|()| Err(ConnectionError::Stalled)),
        }
    }

    /// The offer is accepted or not; says which.
    pub(crate) fn decide_tunnel(&mut self, accepted: bool) -> bool {
        let Tunnel::Offered(waker) = std::mem::take(&mut self.tunnel) else { return false };
        if accepted {
            self.tunnel = Tunnel::Open;
            // The end of the client's side is no end of the exchange.
            self.decoder = BodyDecoder::UntilClose;
        }
        if let Some(waker) = waker {
            waker.wake();
        }
        accepted
    }

    /// The raw bytes of the client, until it half-closes.
    fn poll_tunnel(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.tunnel {
            Tunnel::None => return Poll::Ready(None),
            Tunnel::Offered(waker) => {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Tunnel::Open => {}
        }
        while self.transport.read.is_empty() {
            match self.transport.poll_fill(cx, usize::MAX) {
                Poll::Ready(Ok(0)) => return Poll::Ready(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    return self.break_body(Reason::DownstreamReset, error.to_string());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Some(Ok(Frame::Data(self.transport.read.split().freeze()))))
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if std::mem::take(&mut self.continue_pending) && self.interim_allowed {
            self.transport.out.put_slice(h1_encode::CONTINUE);
        }
        loop {
            match self.decoder.decode(&mut self.transport.read) {
                Ok(Step::Data(data)) => {
                    self.read_stall.clear();
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Ok(Step::Trailers(mut trailers)) => {
                    return match apply_underscores(&mut trailers, self.underscores) {
                        Ok(()) => Poll::Ready(Some(Ok(Frame::Trailers(trailers)))),
                        Err(refusal) => self.break_body(Reason::BadRequest, refusal.to_string()),
                    };
                }
                Ok(Step::End) => return Poll::Ready(None),
                Ok(Step::NeedMore) => {}
                Err(refusal) => return self.break_body(Reason::BadRequest, refusal.to_string()),
            }
            match self.transport.poll_fill(cx, self.decoder.wants()) {
                Poll::Ready(Ok(0)) => {
                    return self
                        .break_body(Reason::DownstreamReset, "the client closed the connection".to_owned());
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    return self.break_body(Reason::DownstreamReset, error.to_string());
                }
                Poll::Pending => break,
            }
        }
        if let Poll::Ready(Err(error)) = self.poll_flush(cx) {
            return self.break_body(Reason::DownstreamReset, error.to_string());
        }
        if poll_stall(&mut self.read_stall, self.stall_timeout, cx).is_ready() {
            let detail = format!("the client sent nothing for {} s", self.stall_timeout.as_secs());
            return self.break_body(Reason::Timeout, detail);
        }
        Poll::Pending
    }

    fn break_body(&mut self, reason: Reason, what: String) -> Poll<Option<Result<Frame, BodyError>>> {
        self.broken = true;
        let detail = format!("request body: {what}");
        Poll::Ready(Some(Err(BodyError::new(Blame::Downstream, reason, detail))))
    }

    /// Reads and drops the rest of the request's body, at most `limit` bytes. Ready with whether its end was reached.
    pub(crate) fn poll_drain(&mut self, cx: &mut Context<'_>, limit: &mut usize) -> Poll<bool> {
        loop {
            match self.decoder.decode(&mut self.transport.read) {
                Ok(Step::Data(data)) => match limit.checked_sub(data.len()) {
                    Some(left) => *limit = left,
                    None => return Poll::Ready(false),
                },
                Ok(Step::Trailers(_) | Step::End) => return Poll::Ready(true),
                Ok(Step::NeedMore) => match self.transport.poll_fill(cx, self.decoder.wants()) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Pending => return self.read_stall.poll(cx).map(|()| false),
                },
                Err(_) => return Poll::Ready(false),
            }
        }
    }
}

/// Runs from the first wait; whoever sees progress clears it.
fn poll_stall(stall: &mut Deadline, timeout: Duration, cx: &mut Context<'_>) -> Poll<()> {
    if !stall.is_set() {
        stall.set(Some(timeout));
    }
    stall.poll(cx)
}

impl<IO: AsyncRead + AsyncWrite + Unpin> InformationalSink for RefCell<Shared<IO>> {
    fn send(&self, head: ResponseHead) {
        let mut shared = self.borrow_mut();
        let interim = (102..200).contains(&head.status);
        if interim && shared.interim_allowed && shared.transport.queued_bytes() < MAX_INTERIM {
            h1_encode::informational(&mut shared.transport.out, head.status, &head.headers);
        }
    }
}

/// The body of a request, read from the connection as it is polled.
pub(crate) struct RequestBody<IO> {
    pub shared: Rc<RefCell<Shared<IO>>>,
    pub exchange: u64,
    /// It is what follows an offer to upgrade.
    pub tunnel: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> BodyStream for RequestBody<IO> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let mut shared = self.shared.borrow_mut();
        if shared.exchange != self.exchange {
            let detail = "request body: its response has ended";
            return Poll::Ready(Some(Err(BodyError::new(Blame::Local, Reason::DownstreamReset, detail))));
        }
        if self.tunnel { shared.poll_tunnel(cx) } else { shared.poll_body(cx) }
    }
}

/// Writes a body behind its head, as fast as the peer takes it.
pub(crate) struct BodyWriter {
    body: Body,
    framing: Framing,
    finished: bool,
}

/// What happened when a frame was asked for.
pub(crate) enum Pulled {
    /// A frame was queued.
    Queued,
    /// All of the body is queued.
    Finished,
    /// The source has nothing yet.
    Waiting,
}

impl BodyWriter {
    pub(crate) fn new(body: Body, framing: Framing) -> Self {
        let finished = matches!(framing, Framing::None | Framing::Known(0));
        let body = if finished { Body::empty() } else { body };
        BodyWriter { body, framing, finished }
    }

    /// Whether all of the body is queued.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Takes the body back.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// Asks the source for one frame. The result must be queued with [`BodyWriter::queue`]; no connection may be borrowed
    /// while the source runs, since it may read from that connection.
    pub(crate) fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.body.poll_frame(cx)
    }

    /// Queues what the source gave.
    pub(crate) fn queue<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        frame: Poll<Option<Result<Frame, BodyError>>>,
        transport: &mut Transport<IO>,
    ) -> Result<Pulled, BodyError> {
        let mismatch = |what: &'static str| Err(BodyError::new(Blame::Local, Reason::UpstreamProtocol, what));
        match frame {
            Poll::Pending => return Ok(Pulled::Waiting),
            Poll::Ready(Some(Err(error))) => return Err(error),
            Poll::Ready(Some(Ok(Frame::Data(data)))) => match &mut self.framing {
                Framing::Known(missing) => {
                    let Some(left) = missing.checked_sub(data.len() as u64) else {
                        return mismatch("the body is longer than its content-length");
                    };
                    *missing = left;
                    self.finished = left == 0;
                    transport.push(data);
                }
                Framing::Chunked if !data.is_empty() => {
                    h1_encode::chunk_line(&mut transport.out, data.len());
                    transport.push(data);
                    transport.out.put_slice(b"\r\n");
                }
                _ => transport.push(data),
            },
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => self.end(&trailers, &mut transport.out)?,
            Poll::Ready(None) => self.end(&Headers::new(), &mut transport.out)?,
        }
        Ok(if self.finished { Pulled::Finished } else { Pulled::Queued })
    }

    fn end(&mut self, trailers: &Headers, out: &mut BytesMut) -> Result<(), BodyError> {
        match self.framing {
            Framing::Known(1..) => {
                let detail = "the body is shorter than its content-length";
                return Err(BodyError::new(Blame::Local, Reason::UpstreamProtocol, detail));
            }
            Framing::Chunked => h1_encode::last_chunk(out, trailers),
            _ => {}
        }
        self.finished = true;
        Ok(())
    }

    /// Writes the body of a response; ready when all of it is written.
    pub(crate) fn poll_response<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        shared: &RefCell<Shared<IO>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ConnectionError>> {
        loop {
            if self.finished || shared.borrow().transport.queued_bytes() >= HIGH_WATER {
                let Poll::Ready(()) = shared.borrow_mut().poll_flush(cx)? else { return Poll::Pending };
                if self.finished {
                    return Poll::Ready(Ok(()));
                }
            }
            let frame = self.poll_source(cx);
            let mut shared = shared.borrow_mut();
            match self.queue(frame, &mut shared.transport) {
                Ok(Pulled::Queued | Pulled::Finished) => {}
                Ok(Pulled::Waiting) => return shared.poll_idle_side(cx).map(Err),
                Err(error) => {
                    // What was good goes out; then the connection breaks, so that the client knows.
                    let _ = shared.poll_flush(cx);
                    return Poll::Ready(Err(ConnectionError::ResponseBroken(error)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_again_has_all_of_its_time_again() {
        let (mut client, server) = duplex(8);
        let mut shared = Shared::new(server, Duration::from_secs(3600), Underscores::Allow);
        let mut cx = Context::from_waker(Waker::noop());
        shared.transport.push(Bytes::from_static(b"0123456789"));
        assert!(shared.poll_flush(&mut cx).is_pending() && shared.write_stall.is_set());
        client.read_exact(&mut [0; 8]).await.unwrap();
        assert!(matches!(shared.poll_flush(&mut cx), Poll::Ready(Ok(()))));
        assert!(!shared.write_stall.is_set());
    }
}
