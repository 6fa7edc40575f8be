//! One stream of an HTTP/2 connection: its request, the handler's answer, its response.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::Request;

use super::body::Body;
use super::h1_request::apply_underscores;
use super::h2_fields;
use super::h2_guard::Guard;
use super::h2_heads::Fault;
use super::h2_server::ServerOptions;
use super::h2_server_body::{BodyRules, Reply, RequestBody, ResponseSender, Sent};
use super::handler::{Gone, Handler, Informational};
use super::head::{BodyLength, RequestHead, ResponseHead, Version};
use super::refusal::Refusal;

/// What a stream needs of its connection.
#[derive(Clone)]
pub(crate) struct Stream<'h> {
    /// Answers.
    pub handler: &'h dyn Handler,
    /// Limits.
    pub options: &'h ServerOptions,
    /// Told how streams end.
    pub guard: Rc<Guard>,
}

impl Stream<'_> {
    /// Serves the stream to its end. Dropping the future resets it.
    pub(crate) async fn run(self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let number = respond.stream_id().as_u32();
        let stream = OneStream { stream: self, number };
        stream.run(request, respond).await;
    }
}

/// A stream with its number.
struct OneStream<'h> {
    stream: Stream<'h>,
    number: u32,
}

impl Drop for OneStream<'_> {
    fn drop(&mut self) {
        self.stream.guard.forget(self.number);
    }
}

impl OneStream<'_> {
    async fn run(self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (parts, recv) = request.into_parts();
        let reply = Rc::new(RefCell::new(Reply::new(respond)));
        let head = self.read_head(Request::from_parts(parts, ()), recv.is_end_stream());
        let mut head = match head {
            Ok(head) => head,
            Err(refusal) => {
                let (head, body) = self.stream.handler.refuse(&refusal, Version::Http2);
                self.respond(&reply, head, body, false, None).await;
                return;
            }
        };
        let (to_head, tunnel) = (head.method == http::Method::HEAD, head.is_tunnel());
        let stall = self.stream.options.stall_timeout;
        // A tunnel may be silent in one direction; the idle timeout of the stream sees both.
        let stall_timeout = (!tunnel && !stall.is_zero()).then_some(stall);
        let body = self.body(&mut head, recv, &reply, stall_timeout);
        let mut answer = self.stream.handler.handle(head, body, Informational::new(reply.clone()));
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.is_malformed() => Poll::Ready(None),
            Poll::Pending => reply.borrow_mut().send.poll_reset(cx).map(|_| None),
        })
        .await;
        let Some((head, body)) = answered else {
            if self.is_malformed() {
                reply.borrow_mut().send.send_reset(h2::Reason::PROTOCOL_ERROR);
            }
            self.gone(|| drop(answer));
            return;
        };
        drop(answer);
        self.respond(&reply, head, body, to_head, stall_timeout).await;
    }

    fn read_head(&self, request: Request<()>, ended: bool) -> Result<RequestHead, Refusal> {
        if self.stream.guard.has_fault(self.number, Fault::Fragment) {
            // The codec has cut it off: the path that it shows is not what was asked for.
            return Err(Refusal::NO_PATH);
        }
        let mut head = h2_fields::read_request(request, ended, &self.stream.options.limits)?;
        apply_underscores(&mut head.headers, self.stream.options.underscores)?;
        Ok(head)
    }

    fn body(
        &self,
        head: &mut RequestHead,
        recv: RecvStream,
        reply: &Rc<RefCell<Reply>>,
        stall_timeout: Option<std::time::Duration>,
    ) -> Body {
        if matches!(head.length, BodyLength::None | BodyLength::Known(0)) && recv.is_end_stream() {
            return Body::empty();
        }
        let expects = |value: &[u8]| value.eq_ignore_ascii_case(b"100-continue");
        let waits = head.headers.get("expect").is_some_and(expects);
        if waits {
            head.headers.remove("expect");
        }
        let rules = BodyRules {
            limits: self.stream.options.limits,
            underscores: self.stream.options.underscores,
            stall_timeout,
        };
        let malformed = {
            let (guard, number) = (self.stream.guard.clone(), self.number);
            Box::new(move || guard.has_fault(number, Fault::PseudoInTrailers))
        };
        Body::stream(RequestBody::new(recv, waits.then(|| reply.clone()), rules, malformed))
    }

    async fn respond(
        &self,
        reply: &RefCell<Reply>,
        mut head: ResponseHead,
        body: Body,
        to_head: bool,
        stall_timeout: Option<std::time::Duration>,
    ) {
        if head.length == BodyLength::None && !to_head {
            // A body at hand is never lost to a head that does not mention it.
            head.length = body.length();
        }
        let bodiless = to_head || matches!(head.status, 204 | 304) || body.is_end();
        let Ok(response) = h2_fields::write_response(&head) else {
            reply.borrow_mut().send.send_reset(h2::Reason::INTERNAL_ERROR);
            return;
        };
        let send = {
            let mut reply = reply.borrow_mut();
            reply.end_interim();
            reply.send.send_response(response, bodiless)
        };
        let Ok(send) = send else {
            self.gone(|| drop(body));
            return;
        };
        if bodiless {
            self.stream.guard.ended_well();
            return;
        }
        let missing = match head.length {
            BodyLength::Known(bytes) => Some(bytes),
            BodyLength::None | BodyLength::Unknown => None,
        };
        let ends_at_length = head.version != Version::Http2;
        let mut sender = ResponseSender::new(send, body, missing, ends_at_length, stall_timeout);
        match sender.run(|| self.is_malformed()).await {
            Sent::Whole => self.stream.guard.ended_well(),
            Sent::Gone | Sent::Malformed => self.gone(|| drop(sender)),
            Sent::Stalled => tracing::debug!("a stream was reset: its client took nothing"),
            Sent::Broken(error) => tracing::debug!("a stream was reset: {error}"),
        }
    }

    /// Whether the request broke a rule after its head: its stream ends.
    fn is_malformed(&self) -> bool {
        self.stream.guard.has_fault(self.number, Fault::PseudoInTrailers)
    }

    /// Lets go of what belongs to a stream that the client has reset.
    fn gone(&self, let_go: impl FnOnce()) {
        let handler = self.stream.handler;
        handler.client_gone(if self.is_malformed() { Gone::Malformed } else { Gone::Reset });
        let_go();
        handler.client_gone(Gone::Disconnected);
    }
}
