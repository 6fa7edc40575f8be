//! The two bodies of a stream: the request's, whose window opens as it is taken, and the response's, which waits for the
//! client's window.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Blame, Reason};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};

use super::body::{Body, BodyError, BodyStream, Frame};
use super::deadline::Deadline;
use super::h1::Limits;
use super::h1_request::{Underscores, apply_underscores};
use super::h2_fields;
use super::handler::InformationalSink;
use super::head::ResponseHead;

/// Interim responses before the final one; more of them are dropped.
const MAX_INTERIM: u32 = 32;

/// The side of a stream that answers, until the final head goes out.
pub(crate) struct Reply {
    /// The stream.
    pub send: SendResponse<Bytes>,
    /// Interim responses that may still be sent.
    interim_left: u32,
}

impl Reply {
    pub(crate) fn new(send: SendResponse<Bytes>) -> Self {
        Reply { send, interim_left: MAX_INTERIM }
    }

    /// The final head is next: no interim response may follow it.
    pub(crate) fn end_interim(&mut self) {
        self.interim_left = 0;
    }

    fn interim(&mut self, head: &ResponseHead) {
        let Some(left) = self.interim_left.checked_sub(1) else { return };
        self.interim_left = left;
        if let Ok(response) = h2_fields::write_response(head) {
            // A stream that is gone is noticed by whoever waits for it.
            let _ = self.send.send_informational(response);
        }
    }
}

impl InformationalSink for RefCell<Reply> {
    fn send(&self, head: ResponseHead) {
        if (102..200).contains(&head.status) {
            self.borrow_mut().interim(&head);
        }
    }
}

/// The body of a request, read from its stream as it is polled.
pub(crate) struct RequestBody {
    recv: RecvStream,
    /// Bytes that were given out; the client may send as many when the next ones are asked for.
    lent: usize,
    /// The client waits for `100 Continue`.
    continue_pending: Option<Rc<RefCell<Reply>>>,
    in_trailers: bool,
    stall: Deadline,
    rules: BodyRules,
    /// Whether the trailers broke a rule that the codec does not see.
    malformed: Box<dyn Fn() -> bool>,
}

/// What the bodies of one stream are held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyRules {
    /// Of trailers.
    pub limits: Limits,
    /// Of trailers.
    pub underscores: Underscores,
    /// The client owes bytes, or takes none, for so long; `None`: for ever.
    pub stall_timeout: Option<Duration>,
}

impl RequestBody {
    pub(crate) fn new(
        recv: RecvStream,
        continue_pending: Option<Rc<RefCell<Reply>>>,
        rules: BodyRules,
        malformed: Box<dyn Fn() -> bool>,
    ) -> Self {
        let stall = Deadline::default();
        RequestBody { recv, lent: 0, continue_pending, in_trailers: false, stall, rules, malformed }
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let fields = match self.recv.poll_trailers(cx) {
            Poll::Pending => return Poll::Pending,
            // The stream sees it too, and lets go of everything.
            Poll::Ready(Ok(_)) if (self.malformed)() => return Poll::Pending,
            Poll::Ready(Ok(None)) => return Poll::Ready(None),
            Poll::Ready(Ok(Some(fields))) => fields,
            Poll::Ready(Err(error)) => return broken(&error),
        };
        let trailers = h2_fields::read_trailers(&fields, &self.rules.limits).and_then(|mut trailers| {
            apply_underscores(&mut trailers, self.rules.underscores).map(|()| trailers)
        });
        Poll::Ready(Some(trailers.map(Frame::Trailers).map_err(|refusal| {
            let detail = format!("request body: {refusal}");
            BodyError::new(Blame::Downstream, Reason::BadRequest, detail)
        })))
    }
}

impl BodyStream for RequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(reply) = self.continue_pending.take() {
            reply.borrow_mut().interim(&ResponseHead::new(100, super::head::BodyLength::None));
        }
        let lent = std::mem::take(&mut self.lent);
        if lent > 0
            && let Err(error) = self.recv.flow_control().release_capacity(lent)
        {
            return broken(&error);
        }
        while !self.in_trailers {
            match self.recv.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(data))) => {
                    self.lent = data.len();
                    self.stall.clear();
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Poll::Ready(Some(Err(_))) if (self.malformed)() => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => return broken(&error),
                Poll::Ready(None) => self.in_trailers = true,
                Poll::Pending => break,
            }
        }
        if self.in_trailers
            && let Poll::Ready(end) = self.poll_trailers(cx)
        {
            return Poll::Ready(end);
        }
        if !self.stall.is_set() {
            self.stall.set(self.rules.stall_timeout);
        }
        self.stall.poll(cx).map(|()| {
            let seconds = self.rules.stall_timeout.unwrap_or_default().as_secs();
            let detail = format!("request body: the client sent nothing for {seconds} s");
            Some(Err(BodyError::new(Blame::Downstream, Reason::Timeout, detail)))
        })
    }
}

/// A stream that ended before its body. A rule that was broken (a length that is not true, a window that is too large, a
/// frame that cannot be read, a flood) is an error of the body; our own codec names it. A client that gave up is nobody's
/// error: its stream sees the reset, or its connection the end, and lets go of everything.
fn broken(error: &h2::Error) -> Poll<Option<Result<Frame, BodyError>>> {
    let no_error = matches!(error.reason(), None | Some(h2::Reason::NO_ERROR | h2::Reason::CANCEL));
    if !error.is_library() || no_error {
        return Poll::Pending;
    }
    let detail = format!("request body: {error}");
    Poll::Ready(Some(Err(BodyError::new(Blame::Downstream, Reason::BadRequest, detail))))
}

/// How the response of a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of it is queued.
    Whole,
    /// The client reset the stream, or is gone.
    Gone,
    /// The client took nothing for too long.
    Stalled,
    /// The rest of the request broke a rule.
    Malformed,
    /// The body broke off.
    Broken(BodyError),
}

/// Writes the body of a response as fast as the client's window allows: not more than one piece of it is held.
pub(crate) struct ResponseSender {
    send: SendStream<Bytes>,
    body: Body,
    /// What `content-length` still promises.
    missing: Option<u64>,
    /// No trailers can follow the last byte.
    ends_at_length: bool,
    piece: Bytes,
    stall: Deadline,
    stall_timeout: Option<Duration>,
}

impl ResponseSender {
    pub(crate) fn new(
        send: SendStream<Bytes>,
        body: Body,
        missing: Option<u64>,
        ends_at_length: bool,
        stall_timeout: Option<Duration>,
    ) -> Self {
        let stall = Deadline::default();
        ResponseSender { send, body, missing, ends_at_length, piece: Bytes::new(), stall, stall_timeout }
    }

    /// Sends all of it; to be called once. `malformed`: whether the rest of the request breaks a rule.
    pub(crate) async fn run(&mut self, malformed: impl Fn() -> bool) -> Sent {
        let sent = poll_fn(|cx| match self.poll(cx) {
            Poll::Pending if malformed() => Poll::Ready(Sent::Malformed),
            polled => polled,
        })
        .await;
        match &sent {
            Sent::Whole | Sent::Gone => {}
            Sent::Malformed => self.send.send_reset(h2::Reason::PROTOCOL_ERROR),
            Sent::Stalled => self.send.send_reset(h2::Reason::CANCEL),
            Sent::Broken(error) => self.send.send_reset(reset_reason(error)),
        }
        sent
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            while !self.piece.is_empty() {
                match self.poll_piece(cx) {
                    Poll::Ready(None) => {}
                    Poll::Ready(Some(sent)) => return Poll::Ready(sent),
                    Poll::Pending => return Poll::Pending,
                }
            }
            match self.body.poll_frame(cx) {
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    if let Some(missing) = &mut self.missing {
                        let Some(left) = missing.checked_sub(data.len() as u64) else {
                            return Poll::Ready(mismatch("the body is longer than its content-length"));
                        };
                        *missing = left;
                    }
                    self.send.reserve_capacity(data.len());
                    self.piece = data;
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                    return Poll::Ready(self.end(&trailers));
                }
                Poll::Ready(None) => return Poll::Ready(self.end(&super::Headers::new())),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Sent::Broken(error)),
                Poll::Pending => return self.send.poll_reset(cx).map(|_| Sent::Gone),
            }
        }
    }

    /// Sends as much of the piece as fits; `None` when that was something.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        while self.send.capacity() == 0 {
            match self.send.poll_capacity(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(Some(Sent::Gone)),
                Poll::Pending => {
                    if self.send.poll_reset(cx).is_ready() {
                        return Poll::Ready(Some(Sent::Gone));
                    }
                    if !self.stall.is_set() {
                        self.stall.set(self.stall_timeout);
                    }
                    return self.stall.poll(cx).map(|()| Some(Sent::Stalled));
                }
            }
        }
        self.stall.clear();
        let fits = self.send.capacity().min(self.piece.len());
        let part = self.piece.split_to(fits);
        let last = self.piece.is_empty() && self.ends_at_length && self.missing == Some(0);
        if self.send.send_data(part, last).is_err() {
            return Poll::Ready(Some(Sent::Gone));
        }
        Poll::Ready(last.then_some(Sent::Whole))
    }

    fn end(&mut self, trailers: &super::Headers) -> Sent {
        if self.missing.is_some_and(|missing| missing > 0) {
            return mismatch("the body is shorter than its content-length");
        }
        let sent = if trailers.is_empty() {
            self.send.send_data(Bytes::new(), true)
        } else {
            match h2_fields::write_trailers(trailers) {
                Ok(fields) => self.send.send_trailers(fields),
                Err(refusal) => {
                    let detail = format!("response trailers: {refusal}");
                    return Sent::Broken(BodyError::new(Blame::Upstream, Reason::UpstreamProtocol, detail));
                }
            }
        };
        if sent.is_ok() { Sent::Whole } else { Sent::Gone }
    }
}

fn mismatch(what: &'static str) -> Sent {
    Sent::Broken(BodyError::new(Blame::Local, Reason::UpstreamProtocol, what))
}

/// What the client is told about a body that broke off.
fn reset_reason(error: &BodyError) -> h2::Reason {
    match (error.blame, error.reason) {
        (Blame::Downstream, Reason::BadRequest) => h2::Reason::PROTOCOL_ERROR,
        (Blame::Downstream, _) => h2::Reason::CANCEL,
        _ => h2::Reason::INTERNAL_ERROR,
    }
}
