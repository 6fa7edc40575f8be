//! Bodies of answers, well-behaved and not.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderMap, HeaderValue};
use tokio::time::Sleep;

use super::script::Script;
use super::socket::Control;
use crate::Error;

/// What a body of a given size is made of.
static FILLING: [u8; 64 << 10] = [b'x'; 64 << 10];

/// From the last byte to the reset, or to an end that comes too early.
const BEFORE_BREAK: Duration = Duration::from_millis(50);

/// The body of an answer.
pub enum ReplyBody {
    /// Whatever comes.
    Stream(UnsyncBoxBody<Bytes, Infallible>),
    /// What a script asked for.
    Shaped(Shaped),
    /// The request's own body, and a gRPC status at its end.
    Grpc(Incoming, Option<u8>),
}

/// A body as a script wants it.
pub struct Shaped {
    text: Option<Bytes>,
    left: u64,
    announced: u64,
    sent: u64,
    pace: Option<Duration>,
    pause: Option<Pin<Box<Sleep>>>,
    reset: Option<u64>,
    control: Arc<Control>,
}

impl Shaped {
    /// `text`, or as many bytes as the script asks for.
    pub fn new(text: Bytes, script: &Script, control: Arc<Control>) -> Shaped {
        let (text, left) = match script.bytes {
            Some(bytes) => (None, bytes),
            None => (Some(text.clone()), text.len() as u64),
        };
        let announced = script.length.unwrap_or(left);
        let (pace, reset) = (script.dribble, script.reset);
        let mut shaped = Shaped { text, left, announced, sent: 0, pace, pause: None, reset, control };
        if announced == 0 {
            // Nobody asks for a body that is announced as empty.
            shaped.finish();
        }
        shaped
    }

    /// Tells the socket that the answer is over; more than was announced goes out past the codec.
    fn finish(&mut self) {
        let excess = self.take(u64::MAX);
        self.control.finish(excess);
    }

    /// The next bytes, at most `limit`.
    fn take(&mut self, limit: u64) -> Bytes {
        let size = usize::try_from(self.left.min(limit)).unwrap_or(FILLING.len()).min(FILLING.len());
        let piece = match &mut self.text {
            Some(text) => text.split_to(size),
            None => Bytes::from_static(&FILLING[..size]),
        };
        self.left -= size as u64;
        self.sent += size as u64;
        piece
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(pace) = self.pace.filter(|_| self.left > 0) {
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace)));
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        let resets = self.reset.is_some_and(|after| self.sent >= after);
        if resets || (self.left == 0 && self.sent < self.announced) {
            // What was sent must be on the wire first: a connection that breaks takes along what waits.
            let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(BEFORE_BREAK)));
            ready!(pause.as_mut().poll(cx));
        }
        if resets {
            self.control.reset();
            return Poll::Ready(Some(Err("reset, as asked".into())));
        }
        let mut limit = self.announced - self.sent.min(self.announced);
        if self.pace.is_some() {
            limit = limit.min(1);
        }
        if let Some(after) = self.reset {
            limit = limit.min(after - self.sent);
        }
        if limit == 0 || self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.take(limit);
        if self.sent >= self.announced || self.left == 0 {
            self.finish();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.get_mut() {
            ReplyBody::Stream(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
            ReplyBody::Shaped(shaped) => shaped.poll(cx),
            ReplyBody::Grpc(body, status) => match ready!(Pin::new(body).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
                Some(Ok(_)) | None => Poll::Ready(status.take().map(|status| {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
                    Ok(Frame::trailers(trailers))
                })),
            },
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            ReplyBody::Stream(body) => body.size_hint(),
            ReplyBody::Shaped(shaped) => SizeHint::with_exact(shaped.announced - shaped.sent),
            ReplyBody::Grpc(..) => SizeHint::default(),
        }
    }
}
