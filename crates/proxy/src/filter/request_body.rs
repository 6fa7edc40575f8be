//! The request's body on its way upstream: counted, and its end noticed.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::http::{Body, BodyError, BodyLength, BodyStream, Frame};
use crate::telemetry::attempts::Attempts;
use crate::telemetry::grpc_messages::GrpcMessages;

/// How far the request has come. Shared by the body and the exchange.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the body read so far.
    pub bytes: Cell<u64>,
    /// Messages of a gRPC call; `None` for any other request.
    pub messages: Cell<Option<GrpcMessages>>,
    /// When its end was read.
    pub end: Cell<Option<Instant>>,
    /// When request or response last moved; kept only where an idle timeout asks.
    pub moved: Cell<Option<Instant>>,
    /// Somebody asks.
    pub watched: Cell<bool>,
    /// Where the time of each try goes.
    pub attempts: RefCell<Attempts>,
}

/// A body whose progress is watched.
pub struct CountedBody {
    inner: Body,
    /// A body of known length ends with its last byte: nobody asks for more.
    expected: u64,
    progress: Rc<Progress>,
}

impl CountedBody {
    /// Watches a body; one that is empty has ended with its head, which came then.
    pub fn wrap(inner: Body, length: BodyLength, progress: &Rc<Progress>, came: Instant) -> Body {
        if inner.is_end() {
            progress.end.set(Some(came));
            return inner;
        }
        let expected = match length {
            BodyLength::Known(bytes) => bytes,
            BodyLength::None | BodyLength::Unknown => u64::MAX,
        };
        Body::stream(Self { inner, expected, progress: progress.clone() })
    }
}

impl BodyStream for CountedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                self.progress.bytes.set(self.progress.bytes.get() + data.len() as u64);
                if let Some(mut messages) = self.progress.messages.get() {
                    messages.saw(data);
                    self.progress.messages.set(Some(messages));
                }
                if self.progress.watched.get() {
                    self.progress.moved.set(Some(Instant::now()));
                }
                if self.inner.is_end() || self.progress.bytes.get() >= self.expected {
                    self.progress.end.set(Some(Instant::now()));
                }
            }
            Poll::Ready(None | Some(Ok(Frame::Trailers(_)))) if self.progress.end.get().is_none() => {
                self.progress.end.set(Some(Instant::now()));
            }
            _ => {}
        }
        polled
    }
}
