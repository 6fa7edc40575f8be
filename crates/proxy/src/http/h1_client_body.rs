//! The body of an upstream's response, and what becomes of the connection behind it.

use std::task::{Context, Poll};

use base::{Blame, Reason};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{BodyError, BodyStream, Frame};
use super::h1_buffers::Transport;
use super::h1_client::{Connection, Ended, OnEnd, Upload};
use super::h1_decode::{BodyDecoder, Step};

/// A connection that is in use: whatever happens, its pool is told once.
pub(crate) struct Lease<IO> {
    connection: Option<Box<Connection<IO>>>,
    on_end: Option<OnEnd<IO>>,
}

impl<IO> Lease<IO> {
    pub(crate) fn new(connection: Box<Connection<IO>>, on_end: OnEnd<IO>) -> Self {
        Lease { connection: Some(connection), on_end: Some(on_end) }
    }

    pub(crate) fn connection(&mut self) -> Option<&mut Connection<IO>> {
        self.connection.as_deref_mut()
    }

    pub(crate) fn transport(&self) -> Option<&Transport<IO>> {
        self.connection.as_ref().map(|connection| &connection.transport)
    }

    /// Ends the use. Only the first call does something.
    fn end(&mut self, reusable: bool) {
        let connection = self.connection.take().filter(|_| reusable);
        if let Some(on_end) = self.on_end.take() {
            on_end(connection.map_or(Ended::Closed, Ended::Reusable));
        }
    }
}

impl<IO> Drop for Lease<IO> {
    fn drop(&mut self) {
        self.end(false);
    }
}

/// Frames of a response; polling it also moves the rest of the request's upload.
pub(crate) struct ResponseBody<IO> {
    lease: Lease<IO>,
    upload: Upload,
    decoder: BodyDecoder,
    keep_alive: bool,
    received: u64,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> ResponseBody<IO> {
    pub(crate) fn new(lease: Lease<IO>, upload: Upload, decoder: BodyDecoder, keep_alive: bool) -> Self {
        ResponseBody { lease, upload, decoder, keep_alive, received: 0 }
    }

    /// Gives the connection back when the response has ended; says whether it has.
    pub(crate) fn finish_if_done(&mut self) -> bool {
        if !self.decoder.is_done() {
            return false;
        }
        let mut reusable = self.keep_alive && self.upload.is_complete();
        if let Some(connection) = self.lease.connection() {
            let transport = &mut connection.transport;
            // Bytes after the end would be taken for the answer to the next request.
            reusable &= transport.read.is_empty() && transport.queued_bytes() == 0 && !transport.eof;
            transport.shrink();
        }
        self.lease.end(reusable);
        true
    }

    fn fail(&mut self, reason: Reason, detail: String) -> Poll<Option<Result<Frame, BodyError>>> {
        self.lease.end(false);
        Poll::Ready(Some(Err(BodyError::new(Blame::Upstream, reason, detail))))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> BodyStream for ResponseBody<IO> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let Some(connection) = self.lease.connection.as_mut() else { return Poll::Ready(None) };
        let transport = &mut connection.transport;
        if let Err(error) = self.upload.poll(transport, cx) {
            self.lease.end(false);
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            match self.decoder.decode(&mut transport.read) {
                Ok(Step::Data(data)) => {
                    self.received += data.len() as u64;
                    self.finish_if_done();
                    return Poll::Ready(Some(Ok(Frame::Data(data))));
                }
                Ok(Step::Trailers(trailers)) => {
                    self.finish_if_done();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
                Ok(Step::End) => {
                    self.finish_if_done();
                    return Poll::Ready(None);
                }
                Ok(Step::NeedMore) => {}
                Err(refusal) => {
                    return self.fail(Reason::UpstreamProtocol, format!("response body: {refusal}"));
                }
            }
            match transport.poll_fill(cx, self.decoder.wants()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) if self.decoder.may_close() => {
                    self.lease.end(false);
                    return Poll::Ready(None);
                }
                Poll::Ready(Ok(0)) => {
                    let detail = match self.decoder {
                        BodyDecoder::Known(missing) => format!(
                            "response body: the upstream closed after {} of {} bytes",
                            self.received,
                            self.received + missing
                        ),
                        _ => format!(
                            "response body: the upstream closed after {} bytes without an end",
                            self.received
                        ),
                    };
                    return self.fail(Reason::UpstreamCutBody, detail);
                }
                Poll::Ready(Err(error)) => {
                    // As Envoy says it: a message that lacks its end breaks the protocol, another protocol is cut off.
                    let cut = self.decoder.may_close();
                    let reason = if cut { Reason::UpstreamReset } else { Reason::UpstreamCutBody };
                    return self.fail(reason, format!("response body: {error}"));
                }
            }
        }
    }
}
