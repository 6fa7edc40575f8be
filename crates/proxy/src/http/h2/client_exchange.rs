//! One exchange on an HTTP/2 client connection: the upload, the response's head, its body.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use base::{Blame, Reason};

use super::client::Shared;
use super::code::Code;
use super::sender::{Sender, Sent};
use super::streams::{Event, Failure};
use crate::http::body::{Body, BodyError, BodyStream, Frame};
use crate::http::h1_client::SendError;
use crate::http::handler::Informational;
use crate::http::head::ResponseHead;

/// Told once that an exchange has ended.
pub type OnEnd = Box<dyn FnOnce()>;

/// Calls what it holds when it is dropped.
pub(crate) struct Ended(Option<OnEnd>);

impl Ended {
    pub(crate) fn new(on_end: OnEnd) -> Self {
        Ended(Some(on_end))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(on_end) = self.0.take() {
            on_end();
        }
    }
}

/// Whom to blame for the end of a stream, and whether the host promises that it did nothing.
fn reason(failure: Failure) -> (Reason, bool) {
    match failure {
        // The stream was beyond the last one that the host will answer (RFC 9113, section 6.8).
        Failure::GoneAway | Failure::Reset(Code::REFUSED_STREAM) => (Reason::UpstreamRefusedStream, true),
        Failure::Reset(Code::PROTOCOL_ERROR)
        | Failure::Broken(_)
        | Failure::Malformed(_)
        | Failure::Refused(_) => (Reason::UpstreamProtocol, false),
        Failure::Reset(_) => (Reason::UpstreamResetStream, false),
        Failure::Closed => (Reason::UpstreamReset, false),
    }
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::GoneAway => "HTTP/2: the host said GOAWAY before it came to this stream".to_owned(),
        Failure::Reset(code) => format!("HTTP/2: the host reset the stream with {code}"),
        Failure::Broken(what) | Failure::Malformed(what) => format!("HTTP/2: {what}"),
        Failure::Refused(refusal) => format!("the response was refused: {refusal}"),
        Failure::Closed => "HTTP/2: the connection ended".to_owned(),
    }
}

fn failed(failure: Failure) -> SendError {
    let (reason, safe) = reason(failure);
    let mut error = SendError::upstream(reason, words(failure));
    error.safe_to_retry = safe;
    error
}

/// A stream and the request's body on its way.
struct Half {
    shared: Rc<Shared>,
    id: u32,
    /// `None`: all of it is sent, or is not wanted any more.
    upload: Option<Sender>,
    ended: Option<Ended>,
}

impl Half {
    /// Moves the upload on as far as the host's window and the body allow. What the host does to the stream shows in its
    /// response; only a body that breaks off is an error here.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        match upload.poll(&self.shared.core, self.id, cx) {
            Poll::Pending => {
                let mut core = self.shared.core.borrow_mut();
                if let Some(stream) = core.streams.get_mut(self.id)
                    && stream.writer.as_ref().is_none_or(|writer| !writer.will_wake(cx.waker()))
                {
                    stream.writer = Some(cx.waker().clone());
                }
                Ok(())
            }
            Poll::Ready(Sent::Broken(error)) => {
                self.end(Code::CANCEL);
                Err(error)
            }
            Poll::Ready(Sent::Whole | Sent::Gone | Sent::Stalled) => {
                // Kept where nothing was asked of it: the request may be sent again.
                if upload.touched {
                    self.upload = None;
                }
                Ok(())
            }
        }
    }

    /// The exchange is over; what is open of the stream is reset.
    fn end(&mut self, code: Code) {
        if let Some(ended) = self.ended.take() {
            self.shared.core.borrow_mut().forget(self.id, code);
            drop(ended);
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        self.end(Code::CANCEL);
    }
}

/// A request on its way to the head of its response.
pub(crate) struct Exchange {
    half: Half,
}

impl Exchange {
    pub(crate) fn new(shared: Rc<Shared>, id: u32, body: Body, ended: Ended) -> Self {
        let sends = shared.core.borrow().streams.get(id).is_some_and(|stream| stream.sends);
        let upload = sends.then(|| Sender::new(body));
        Exchange { half: Half { shared, id, upload, ended: Some(ended) } }
    }

    pub(crate) async fn run(
        mut self,
        informational: &Informational,
    ) -> Result<(ResponseHead, Body), SendError> {
        match poll_fn(|cx| self.poll_head(cx, informational)).await {
            Ok(head) => {
                // Such a head ends its response whatever the host does: it goes on only when nothing else came.
                if matches!(head.status, 204 | 304) {
                    poll_fn(|cx| self.poll_no_content(cx)).await?;
                }
                let mut half = self.half;
                let receives = half.shared.core.borrow().streams.get(half.id).is_some_and(|stream| {
                    stream.receives || stream.failure.is_some() || !stream.events.is_empty()
                });
                if receives {
                    return Ok((head, Body::stream(ResponseBody { half, lent: 0 })));
                }
                half.end(Code::CANCEL);
                Ok((head, Body::empty()))
            }
            Err(mut error) => {
                if let Some(upload) = &mut self.half.upload
                    && !upload.touched
                {
                    error.body = Some(std::mem::take(&mut upload.body));
                }
                Err(error)
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        self.half.poll_upload(cx).map_err(|error| {
            let mut failed = SendError::upstream(error.reason, error.detail);
            failed.blame = error.blame;
            failed
        })
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        informational: &Informational,
    ) -> Poll<Result<ResponseHead, SendError>> {
        self.poll_upload(cx)?;
        loop {
            let polled = self.half.shared.core.borrow_mut().poll_event(self.half.id, cx);
            let Poll::Ready(event) = polled else { return Poll::Pending };
            match event {
                // Each hop answers `expect: 100-continue` itself.
                Some(Ok(Event::Head(head))) if head.status == 100 => {}
                Some(Ok(Event::Head(head))) if head.status < 200 && head.status != 101 => {
                    informational.send(head);
                }
                Some(Ok(Event::Head(head))) => return Poll::Ready(Ok(head)),
                Some(Err(failure)) => return Poll::Ready(Err(failed(failure))),
                // The core lets nothing pass before the head.
                Some(Ok(Event::Data(_) | Event::Trailers(_))) | None => {
                    return Poll::Ready(Err(failed(Failure::Broken("no head in a response"))));
                }
            }
        }
    }

    /// Ready at the end of a response that has no content (RFC 9110, section 6.4.1).
    fn poll_no_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_upload(cx)?;
        loop {
            let polled = self.half.shared.core.borrow_mut().poll_event(self.half.id, cx);
            let Poll::Ready(event) = polled else { return Poll::Pending };
            match event {
                None => return Poll::Ready(Ok(())),
                Some(Ok(Event::Data(_))) => {
                    let what = "content in a response with status 204 or 304";
                    return Poll::Ready(Err(failed(Failure::Broken(what))));
                }
                Some(Ok(Event::Head(_) | Event::Trailers(_))) => {}
                Some(Err(failure)) => return Poll::Ready(Err(failed(failure))),
            }
        }
    }
}

/// Frames of a response; polling it also moves the rest of the request's upload.
struct ResponseBody {
    half: Half,
    /// Bytes that were given out; the host may send as many when the next ones are asked for.
    lent: usize,
}

impl BodyStream for ResponseBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.half.ended.is_none() {
            return Poll::Ready(None);
        }
        if let Err(error) = self.half.poll_upload(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let polled = {
            let mut core = self.half.shared.core.borrow_mut();
            let lent = std::mem::take(&mut self.lent);
            if lent > 0 {
                core.release_stream(self.half.id, lent);
            }
            core.poll_event(self.half.id, cx)
        };
        let Poll::Ready(event) = polled else { return Poll::Pending };
        Poll::Ready(match event {
            Some(Ok(Event::Data(data))) => {
                self.lent = data.len();
                Some(Ok(Frame::Data(data)))
            }
            Some(Ok(Event::Trailers(trailers))) => {
                self.half.end(Code::CANCEL);
                Some(Ok(Frame::Trailers(trailers)))
            }
            Some(Ok(Event::Head(_))) | None => {
                self.half.end(Code::CANCEL);
                None
            }
            Some(Err(failure)) => {
                self.half.end(Code::CANCEL);
                let detail = format!("response body: {}", words(failure));
                Some(Err(BodyError::new(Blame::Upstream, reason(failure).0, detail)))
            }
        })
    }
}
