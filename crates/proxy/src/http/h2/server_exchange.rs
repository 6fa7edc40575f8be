//! One stream of a server: its request, the handler's answer, its response. Polled in place by its connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Blame, Reason};

use super::code::Code;
use super::connection::{Accepted, Core};
use super::receiver::{Interim, RequestBody};
use super::sender::{Sender, Sent};
use super::server::ServerOptions;
use super::streams::Failure;
use crate::http::body::{Body, BodyError};
use crate::http::h1_request::{Underscores, apply_underscores};
use crate::http::handler::{Gone, Handler, Informational, LocalBoxFuture};
use crate::http::head::{BodyLength, RequestHead, ResponseHead, Version};
use crate::http::refusal::Refusal;

/// What an exchange needs of its connection.
pub(crate) struct Serving<'h> {
    /// Answers.
    pub handler: &'h dyn Handler,
    /// Limits.
    pub options: &'h ServerOptions,
    pub core: Rc<RefCell<Core>>,
}

/// A stream at work.
pub(crate) struct Exchange<'h> {
    pub id: u32,
    state: State<'h>,
    /// The request was HEAD.
    to_head: bool,
    interim: Option<Rc<Interim>>,
    stall_timeout: Option<Duration>,
}

enum State<'h> {
    Answering(LocalBoxFuture<'h, (ResponseHead, Body)>),
    Sending(Sender),
    Over,
}

impl<'h> Exchange<'h> {
    /// Gives the request to the handler.
    pub(crate) fn begin(serving: &Serving<'h>, accepted: Accepted) -> Self {
        let options = serving.options;
        let mut exchange = Exchange {
            id: accepted.id,
            state: State::Over,
            to_head: false,
            interim: None,
            stall_timeout: None,
        };
        let head = accepted.request.and_then(|mut head| {
            if options.underscores != Underscores::Allow {
                apply_underscores(&mut head.headers, options.underscores)?;
            }
            Ok(head)
        });
        match head {
            Ok(head) => exchange.ask(serving, head),
            Err(refusal) => exchange.refuse(serving, &refusal),
        }
        exchange
    }

    fn refuse(&mut self, serving: &Serving<'h>, refusal: &Refusal) {
        let (head, body) = serving.handler.refuse(refusal, Version::Http2);
        serving.core.borrow_mut().discard(self.id);
        self.respond(serving, head, body);
    }

    fn ask(&mut self, serving: &Serving<'h>, mut head: RequestHead) {
        self.to_head = head.method == http::Method::HEAD;
        let stall = serving.options.stall_timeout;
        // A tunnel may be silent in one direction; the idle timeout of the stream sees both.
        self.stall_timeout = (!head.is_tunnel() && !stall.is_zero()).then_some(stall);
        let interim = Interim::new(serving.core.clone(), self.id);
        let body = self.body(serving, &mut head, &interim);
        let informational = Informational::new(interim.clone());
        self.interim = Some(interim);
        self.state = State::Answering(serving.handler.handle(head, body, informational));
    }

    fn body(&self, serving: &Serving<'h>, head: &mut RequestHead, interim: &Rc<Interim>) -> Body {
        let core = &serving.core;
        let ended =
            core.borrow().streams.get(self.id).is_none_or(|stream| {
                !stream.receives && stream.events.is_empty() && stream.failure.is_none()
            });
        if matches!(head.length, BodyLength::None | BodyLength::Known(0)) && ended {
            return Body::empty();
        }
        let expects = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        let waits = head.headers.get("expect").is_some_and(expects);
        if waits {
            head.headers.remove("expect");
        }
        let continues = waits.then(|| interim.clone());
        let underscores = serving.options.underscores;
        Body::stream(RequestBody::new(core.clone(), self.id, continues, underscores, self.stall_timeout))
    }

    /// Moves it on; ready when it has ended and the stream is forgotten.
    pub(crate) fn poll(&mut self, serving: &Serving<'h>, cx: &mut Context<'_>) -> Poll<()> {
        if let State::Answering(answer) = &mut self.state {
            match answer.as_mut().poll(cx) {
                Poll::Ready((head, body)) => {
                    self.state = State::Over;
                    self.respond(serving, head, body);
                }
                Poll::Pending => return self.poll_failure(serving),
            }
        }
        let State::Sending(sender) = &mut self.state else { return Poll::Ready(()) };
        match sender.poll(&serving.core, self.id, cx) {
            Poll::Pending => return self.poll_failure(serving),
            Poll::Ready(Sent::Whole) => self.end_well(serving),
            Poll::Ready(Sent::Gone) => self.gone(serving),
            Poll::Ready(Sent::Stalled) => {
                tracing::debug!("a stream was reset: its client took nothing");
                self.give_up(serving, Code::CANCEL);
            }
            Poll::Ready(Sent::Broken(error)) => {
                tracing::debug!("a stream was reset: {error}");
                self.give_up(serving, code_of(&error));
            }
        }
        Poll::Ready(())
    }

    fn respond(&mut self, serving: &Serving<'h>, mut head: ResponseHead, body: Body) {
        if head.length == BodyLength::None && !self.to_head {
            // A body at hand is never lost to a head that does not mention it.
            head.length = body.length();
        }
        let bodiless = self.to_head || matches!(head.status, 204 | 304) || body.is_end();
        if let Some(interim) = self.interim.take() {
            interim.end();
        }
        if serving.core.borrow().failure(self.id).is_some() {
            self.state = State::Sending(Sender::new(body));
            return self.gone(serving);
        }
        if serving.core.borrow_mut().send_response(self.id, &head, bodiless).is_err() {
            tracing::debug!("a stream was reset: its response cannot be written on HTTP/2");
            return self.give_up(serving, Code::INTERNAL_ERROR);
        }
        if bodiless {
            return self.end_well(serving);
        }
        let missing = match head.length {
            BodyLength::Known(bytes) => Some(bytes),
            BodyLength::None | BodyLength::Unknown => None,
        };
        let exact = head.version != Version::Http2;
        let sender = Sender::new(body).with_length(missing, exact).with_stall(self.stall_timeout);
        self.state = State::Sending(sender.asking_body());
    }

    /// Ready when the stream can be answered no more: everything is let go of.
    fn poll_failure(&mut self, serving: &Serving<'h>) -> Poll<()> {
        if serving.core.borrow().failure(self.id).is_none() {
            return Poll::Pending;
        }
        self.gone(serving);
        Poll::Ready(())
    }

    fn end_well(&mut self, serving: &Serving<'h>) {
        self.state = State::Over;
        let mut core = serving.core.borrow_mut();
        core.ended_well();
        // Of a request that has not ended, the rest is not wanted (RFC 9113, section 8.1).
        core.forget(self.id, Code::NO_ERROR);
    }

    fn give_up(&mut self, serving: &Serving<'h>, code: Code) {
        self.state = State::Over;
        serving.core.borrow_mut().forget(self.id, code);
    }

    /// Lets go of what belongs to a stream that its client has ended, or with its connection.
    fn gone(&mut self, serving: &Serving<'h>) {
        let how = match serving.core.borrow().failure(self.id) {
            Some(Failure::Malformed(_) | Failure::Broken(_)) => Gone::Malformed,
            Some(Failure::Reset(_)) => Gone::Reset,
            _ => Gone::Disconnected,
        };
        serving.handler.client_gone(how);
        self.state = State::Over;
        self.interim = None;
        serving.handler.client_gone(Gone::Disconnected);
        serving.core.borrow_mut().forget(self.id, Code::CANCEL);
    }
}

/// What the client is told about a body that broke off.
fn code_of(error: &BodyError) -> Code {
    match (error.blame, error.reason) {
        (Blame::Downstream, Reason::BadRequest) => Code::PROTOCOL_ERROR,
        (Blame::Downstream, _) => Code::CANCEL,
        _ => Code::INTERNAL_ERROR,
    }
}
