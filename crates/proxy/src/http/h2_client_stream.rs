//! One exchange on an HTTP/2 client connection: the upload, the response's head, its body.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

use base::{Blame, Reason};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::Response;

use super::body::{Body, BodyError, BodyStream, Frame};
use super::h1::Limits;
use super::h1_client::SendError;
use super::h2_fields;
use super::h2_watch::Watch;
use super::handler::Informational;
use super::head::{RequestHead, ResponseHead};
use super::refusal::Refusal;

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

/// What an error of the codec means: whom to blame, and whether the host promises that it did nothing.
pub(crate) fn failure(error: &h2::Error) -> SendError {
    let (reason, safe) = reason(error);
    let mut failed = SendError::upstream(reason, format!("HTTP/2: {error}"));
    failed.safe_to_retry = safe;
    failed
}

fn reason(error: &h2::Error) -> (Reason, bool) {
    if error.is_remote() {
        return match error.reason() {
            // The stream was beyond the last one that the host will answer (RFC 9113, section 6.8).
            _ if error.is_go_away() => (Reason::UpstreamRefusedStream, true),
            Some(h2::Reason::REFUSED_STREAM) => (Reason::UpstreamRefusedStream, true),
            Some(h2::Reason::PROTOCOL_ERROR) if error.is_reset() => (Reason::UpstreamProtocol, false),
            _ => (Reason::UpstreamResetStream, false),
        };
    }
    // The codec found that the host broke a rule; anything else is the connection that ended.
    let broke = error.is_library();
    (if broke { Reason::UpstreamProtocol } else { Reason::UpstreamReset }, false)
}

/// A request's body on its way.
pub(crate) struct Upload {
    stream: SendStream<Bytes>,
    body: Body,
    /// Something was asked of the body.
    touched: bool,
    done: bool,
}

impl Upload {
    pub(crate) fn new(stream: SendStream<Bytes>, body: Body, done: bool) -> Self {
        Upload { stream, body, touched: false, done }
    }

    /// Moves the upload on as far as the host's window and the body allow. What the host does to the stream shows in
    /// its response; only a body that breaks off is an error here.
    fn poll(&mut self, cx: &mut Context<'_>) -> Result<(), BodyError> {
        while !self.done {
            self.stream.reserve_capacity(1);
            if self.stream.capacity() == 0 {
                match self.stream.poll_capacity(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(_)) | None) => {
                        self.done = true;
                        return Ok(());
                    }
                }
            }
            let frame = self.body.poll_frame(cx);
            self.touched |= frame.is_ready();
            let sent = match frame {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                    self.done = self.body.is_end();
                    self.stream.send_data(data, self.done)
                }
                Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                    self.done = true;
                    match h2_fields::write_trailers(&trailers) {
                        Ok(fields) if !fields.is_empty() => self.stream.send_trailers(fields),
                        Ok(_) => self.stream.send_data(Bytes::new(), true),
                        Err(refusal) => {
                            self.stream.send_reset(h2::Reason::CANCEL);
                            let detail = format!("request trailers: {refusal}");
                            return Err(BodyError::new(Blame::Downstream, Reason::BadRequest, detail));
                        }
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    self.done = true;
                    self.stream.send_reset(h2::Reason::CANCEL);
                    return Err(error);
                }
                Poll::Ready(None) => {
                    self.done = true;
                    self.stream.send_data(Bytes::new(), true)
                }
            };
            // The host has reset the stream, or the connection is gone.
            self.done |= sent.is_err();
        }
        Ok(())
    }
}

/// A request on its way to the head of its response.
pub(crate) struct Exchange {
    pub response: ResponseFuture,
    /// Sees what the codec hides of the response.
    pub watch: Watch,
    pub upload: Upload,
    pub limits: Limits,
    /// Interim responses that may still come.
    pub interim: usize,
    pub ended: Ended,
}

impl Exchange {
    pub(crate) async fn run(
        mut self,
        head: &RequestHead,
        informational: &Informational,
    ) -> Result<(ResponseHead, Body), SendError> {
        match poll_fn(|cx| self.poll_head(cx, head, informational)).await {
            Ok((response, mut stream)) => {
                // Such a head ends its response whatever the host does: it goes on only when nothing else came.
                if matches!(response.status, 204 | 304)
                    && let Err(error) = poll_fn(|cx| self.poll_no_content(cx, &mut stream)).await
                {
                    return Err(error);
                }
                let Exchange { upload, watch, limits, ended, .. } = self;
                let body = if stream.is_end_stream() {
                    Body::empty()
                } else {
                    Body::stream(ResponseBody { stream, upload, watch, limits, ended: Some(ended) })
                };
                Ok((response, body))
            }
            Err(mut error) => {
                error.body = (!self.upload.touched).then(|| std::mem::take(&mut self.upload.body));
                Err(error)
            }
        }
    }

    /// Ready at the end of a response that has no content (RFC 9110, section 6.4.1).
    fn poll_no_content(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut RecvStream,
    ) -> Poll<Result<(), SendError>> {
        self.poll_upload(cx)?;
        loop {
            match stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Ready(Some(Ok(_))) => {
                    let detail = "HTTP/2: content in a response with status 204 or 304";
                    return Poll::Ready(Err(SendError::upstream(Reason::UpstreamProtocol, detail)));
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(failure(&error))),
            }
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), SendError> {
        self.upload.poll(cx).map_err(|error| {
            let mut failed = SendError::upstream(error.reason, error.detail);
            failed.blame = error.blame;
            failed
        })
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &RequestHead,
        informational: &Informational,
    ) -> Poll<Result<(ResponseHead, RecvStream), SendError>> {
        self.poll_upload(cx)?;
        if let Some(what) = self.watch.fault_of_head() {
            self.upload.stream.send_reset(h2::Reason::PROTOCOL_ERROR);
            return Poll::Ready(Err(SendError::upstream(Reason::UpstreamProtocol, what)));
        }
        while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let interim = match interim {
                Ok(interim) => interim,
                Err(error) => return Poll::Ready(Err(failure(&error))),
            };
            let Some(left) = self.interim.checked_sub(1) else {
                let detail = "more interim responses than allowed";
                return Poll::Ready(Err(SendError::upstream(Reason::UpstreamProtocol, detail)));
            };
            self.interim = left;
            match h2_fields::read_response(interim, false, head, &self.limits) {
                // Each hop answers `expect: 100-continue` itself.
                Ok(interim) if interim.status == 100 => {}
                Ok(interim) => informational.send(interim),
                Err(refusal) => return Poll::Ready(Err(refused(&refusal))),
            }
        }
        let response = match Pin::new(&mut self.response).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(response)) => response,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(failure(&error))),
        };
        let (parts, stream) = response.into_parts();
        let response = Response::from_parts(parts, ());
        let read = h2_fields::read_response(response, stream.is_end_stream(), head, &self.limits);
        Poll::Ready(read.map(|read| (read, stream)).map_err(|refusal| refused(&refusal)))
    }
}

fn refused(refusal: &Refusal) -> SendError {
    SendError::upstream(Reason::UpstreamProtocol, format!("the response was refused: {refusal}"))
}

/// Frames of a response; polling it also moves the rest of the request's upload.
struct ResponseBody {
    stream: RecvStream,
    upload: Upload,
    watch: Watch,
    limits: Limits,
    ended: Option<Ended>,
}

impl ResponseBody {
    fn fail(&mut self, reason: Reason, detail: String) -> Poll<Option<Result<Frame, BodyError>>> {
        self.ended = None;
        Poll::Ready(Some(Err(BodyError::new(Blame::Upstream, reason, detail))))
    }
}

impl BodyStream for ResponseBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.ended.is_none() {
            return Poll::Ready(None);
        }
        if let Err(error) = self.upload.poll(cx) {
            self.ended = None;
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(data))) => {
                    // Whoever asks for a piece has passed on the one before: the window follows the reader.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    if self.stream.is_end_stream() {
                        self.ended = None;
                    }
                    if data.is_empty() {
                        if self.ended.is_none() {
                            return Poll::Ready(None);
                        }
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Poll::Ready(Some(Err(error))) => {
                    return self.fail(reason(&error).0, format!("response body: HTTP/2: {error}"));
                }
                Poll::Ready(None) => break,
            }
        }
        if let Some(what) = self.watch.fault_of_trailers() {
            self.upload.stream.send_reset(h2::Reason::PROTOCOL_ERROR);
            return self.fail(Reason::UpstreamProtocol, what.to_owned());
        }
        match self.stream.poll_trailers(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(None)) => {
                self.ended = None;
                Poll::Ready(None)
            }
            Poll::Ready(Ok(Some(fields))) => match h2_fields::read_trailers(&fields, &self.limits) {
                Ok(trailers) => {
                    self.ended = None;
                    Poll::Ready(Some(Ok(Frame::Trailers(trailers))))
                }
                Err(refusal) => self.fail(Reason::UpstreamProtocol, format!("response trailers: {refusal}")),
            },
            Poll::Ready(Err(error)) => {
                self.fail(reason(&error).0, format!("response trailers: HTTP/2: {error}"))
            }
        }
    }
}
