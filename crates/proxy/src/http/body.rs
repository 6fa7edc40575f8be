//! Bodies as pulled streams of frames: nothing is read from a peer before somebody asks for it.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use base::{Blame, Reason};
use bytes::{Bytes, BytesMut};

use super::head::BodyLength;
use super::headers::Headers;

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Bytes of the body; never empty when a codec made it.
    Data(Bytes),
    /// The fields after the body; nothing follows.
    Trailers(Headers),
}

/// Why a body ended before its end. Whoever forwards the body must abort its own message: a clean end would be a lie.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off ({reason}): {detail}")]
pub struct BodyError {
    /// Who broke it.
    pub blame: Blame,
    /// The stable code.
    pub reason: Reason,
    /// What happened, with the sizes or the limit in question.
    pub detail: Cow<'static, str>,
}

impl BodyError {
    /// An error with the blame that `blame` says, which may differ from the usual blame of `reason`.
    pub fn new(blame: Blame, reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        BodyError { blame, reason, detail: detail.into() }
    }
}

/// Where frames come from. Lives on one worker, so it need not be `Send`.
pub trait BodyStream {
    /// The next frame; `None` at the clean end. After `None` or an error it is not polled again.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>>;
}

enum Inner {
    Empty,
    Full(Bytes),
    Stream(Box<dyn BodyStream>),
}

/// The body of a request or a response.
///
/// Dropping a body before its end aborts the exchange that it belongs to.
pub struct Body {
    inner: Inner,
}

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Body { inner: Inner::Empty }
    }

    /// The bytes at hand.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Body { inner: if bytes.is_empty() { Inner::Empty } else { Inner::Full(bytes) } }
    }

    /// A stream of frames.
    pub fn stream(stream: impl BodyStream + 'static) -> Self {
        Body { inner: Inner::Stream(Box::new(stream)) }
    }

    /// The length, when it is known without reading; a stream says `Unknown`.
    pub fn length(&self) -> BodyLength {
        match &self.inner {
            Inner::Empty => BodyLength::None,
            Inner::Full(bytes) => BodyLength::Known(bytes.len() as u64),
            Inner::Stream(_) => BodyLength::Unknown,
        }
    }

    /// Whether the end was reached: nothing is left to poll.
    pub fn is_end(&self) -> bool {
        matches!(self.inner, Inner::Empty)
    }

    /// The next frame; `None` at the clean end, and ever after.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        match &mut self.inner {
            Inner::Empty => Poll::Ready(None),
            Inner::Full(bytes) => {
                let data = std::mem::take(bytes);
                self.inner = Inner::Empty;
                Poll::Ready(Some(Ok(Frame::Data(data))))
            }
            Inner::Stream(stream) => {
                let polled = stream.poll_frame(cx);
                if matches!(polled, Poll::Ready(None | Some(Err(_)) | Some(Ok(Frame::Trailers(_))))) {
                    self.inner = Inner::Empty;
                }
                polled
            }
        }
    }

    /// The next frame; `None` at the clean end.
    pub async fn frame(&mut self) -> Option<Result<Frame, BodyError>> {
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// All data in one piece, trailers dropped; fails when it is longer than `limit` bytes.
    pub async fn collect(mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut all = BytesMut::new();
        while let Some(frame) = self.frame().await {
            let Frame::Data(data) = frame? else { continue };
            if all.len() + data.len() > limit {
                let detail = format!("longer than the limit of {limit} bytes");
                return Err(BodyError::new(Blame::Local, Reason::BadRequest, detail));
            }
            all.extend_from_slice(&data);
        }
        Ok(all.freeze())
    }
}

impl Default for Body {
    fn default() -> Self {
        Body::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", self.length())
    }
}
