//! Writes a body as DATA as fast as the peer's windows and the connection allow: not more than two pieces of it are held.

use std::cell::RefCell;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Blame, Reason};
use bytes::Bytes;

use super::connection::Core;
use super::fields_written;
use crate::http::body::{Body, BodyError, Frame};
use crate::http::deadline::Deadline;

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    /// All of it is queued.
    Whole,
    /// The stream takes nothing more.
    Gone,
    /// The peer took nothing for too long.
    Stalled,
    /// It broke off.
    Broken(BodyError),
}

/// A body on its way.
pub(crate) struct Sender {
    pub body: Body,
    piece: Bytes,
    /// What was behind the piece when the end was looked for.
    ahead: Option<Result<Frame, BodyError>>,
    /// What `content-length` still promises.
    missing: Option<u64>,
    /// No trailers can follow the last byte.
    ends_at_length: bool,
    /// Of a stream that has failed, the body says why.
    asks_body: bool,
    /// Something was asked of the body.
    pub touched: bool,
    stall: Deadline,
    stall_timeout: Option<Duration>,
}

impl Sender {
    pub(crate) fn new(body: Body) -> Self {
        Sender {
            body,
            piece: Bytes::new(),
            ahead: None,
            missing: None,
            ends_at_length: false,
            asks_body: false,
            touched: false,
            stall: Deadline::default(),
            stall_timeout: None,
        }
    }

    /// Holds the body to its length; `exact`: nothing follows its last byte.
    pub(crate) fn with_length(mut self, length: Option<u64>, exact: bool) -> Self {
        (self.missing, self.ends_at_length) = (length, exact);
        self
    }

    /// When the stream has failed, the body is asked once more: it may know why.
    pub(crate) fn asking_body(mut self) -> Self {
        self.asks_body = true;
        self
    }

    /// The peer may take nothing for so long; `None`: for ever.
    pub(crate) fn with_stall(mut self, timeout: Option<Duration>) -> Self {
        self.stall_timeout = timeout;
        self
    }

    /// Sends what can be sent. The stream's writer is woken when more can be, or when it fails.
    pub(crate) fn poll(&mut self, core: &RefCell<Core>, id: u32, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            if self.piece.is_empty() {
                let sends = sends(core, id);
                if !sends && !self.asks_body {
                    return Poll::Ready(Sent::Gone);
                }
                let next = match self.ahead.take() {
                    Some(next) => Some(next),
                    None => match self.body.poll_frame(cx) {
                        Poll::Ready(next) => {
                            self.touched = true;
                            next
                        }
                        Poll::Pending if sends => return Poll::Pending,
                        Poll::Pending => return Poll::Ready(Sent::Gone),
                    },
                };
                match next {
                    Some(Ok(Frame::Data(data))) => {
                        if let Some(missing) = &mut self.missing {
                            let Some(left) = missing.checked_sub(data.len() as u64) else {
                                return Poll::Ready(mismatch("the body is longer than its content-length"));
                            };
                            *missing = left;
                        }
                        self.piece = data;
                        if self.piece.is_empty() {
                            continue;
                        }
                    }
                    Some(Ok(Frame::Trailers(trailers))) => {
                        return Poll::Ready(self.end(core, id, Some(&trailers)));
                    }
                    None => return Poll::Ready(self.end(core, id, None)),
                    Some(Err(error)) => return Poll::Ready(Sent::Broken(error)),
                }
            }
            if let Some(sent) = std::task::ready!(self.poll_piece(core, id, cx)) {
                return Poll::Ready(sent);
            }
        }
    }

    /// Sends as much of the piece as there is room for; `None` when that was something and not the end.
    fn poll_piece(&mut self, core: &RefCell<Core>, id: u32, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        let room = core.borrow_mut().room(id);
        if room == 0 {
            if !sends(core, id) {
                return Poll::Ready(Some(Sent::Gone));
            }
            if !self.stall.is_set() {
                self.stall.set(self.stall_timeout);
            }
            return self.stall.poll(cx).map(|()| Some(Sent::Stalled));
        }
        self.stall.clear();
        let part = if self.piece.len() <= room {
            std::mem::take(&mut self.piece)
        } else {
            self.piece.split_to(room)
        };
        let last = self.piece.is_empty() && self.is_last(cx);
        core.borrow_mut().send_data(id, part, last);
        Poll::Ready(last.then_some(Sent::Whole))
    }

    /// Whether nothing comes behind the last piece: then it carries the end.
    fn is_last(&mut self, cx: &mut Context<'_>) -> bool {
        if self.missing == Some(0) && self.ends_at_length {
            return true;
        }
        match self.body.poll_frame(cx) {
            Poll::Ready(None) => self.missing.is_none_or(|missing| missing == 0),
            Poll::Ready(Some(next)) => {
                self.ahead = Some(next);
                false
            }
            Poll::Pending => false,
        }
    }

    fn end(&mut self, core: &RefCell<Core>, id: u32, trailers: Option<&crate::http::Headers>) -> Sent {
        if self.missing.is_some_and(|missing| missing > 0) {
            return mismatch("the body is shorter than its content-length");
        }
        let mut core = core.borrow_mut();
        match trailers.filter(|trailers| fields_written::has_trailers(trailers)) {
            None => core.send_data(id, Bytes::new(), true),
            Some(trailers) => {
                if core.send_trailers(id, trailers).is_err() {
                    let what = "trailers that cannot be written on HTTP/2";
                    return Sent::Broken(BodyError::new(Blame::Local, Reason::UpstreamProtocol, what));
                }
            }
        }
        Sent::Whole
    }
}

fn sends(core: &RefCell<Core>, id: u32) -> bool {
    core.borrow().streams.get(id).is_some_and(|stream| stream.sends)
}

fn mismatch(what: &'static str) -> Sent {
    Sent::Broken(BodyError::new(Blame::Local, Reason::UpstreamProtocol, what))
}
