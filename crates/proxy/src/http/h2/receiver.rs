//! The body of a request, read from its stream as it is polled: the peer's window follows the reader.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use base::{Blame, Reason};

use super::connection::Core;
use super::streams::{Event, Failure};
use crate::http::body::{BodyError, BodyStream, Frame};
use crate::http::deadline::Deadline;
use crate::http::h1_request::{Underscores, apply_underscores};
use crate::http::handler::InformationalSink;
use crate::http::head::{BodyLength, ResponseHead};

/// Interim responses before the final one; more of them are dropped.
const MAX_INTERIM: u32 = 32;

/// Sends interim responses of a stream, until the final one.
pub(crate) struct Interim {
    core: Rc<RefCell<Core>>,
    id: u32,
    left: Cell<u32>,
}

impl Interim {
    pub(crate) fn new(core: Rc<RefCell<Core>>, id: u32) -> Rc<Self> {
        Rc::new(Interim { core, id, left: Cell::new(MAX_INTERIM) })
    }

    /// The final head is next: no interim response may follow it.
    pub(crate) fn end(&self) {
        self.left.set(0);
    }

    fn put(&self, head: &ResponseHead) {
        let Some(left) = self.left.get().checked_sub(1) else { return };
        self.left.set(left);
        // One that cannot be written is nothing that anybody waits for.
        let _ = self.core.borrow_mut().send_response(self.id, head, false);
    }
}

impl InformationalSink for Interim {
    fn send(&self, head: ResponseHead) {
        if (102..200).contains(&head.status) {
            self.put(&head);
        }
    }
}

/// The body of a request.
pub(crate) struct RequestBody {
    core: Rc<RefCell<Core>>,
    id: u32,
    /// Bytes that were given out; the client may send as many when the next ones are asked for.
    lent: usize,
    /// The client waits for `100 Continue`.
    continues: Option<Rc<Interim>>,
    underscores: Underscores,
    stall: Deadline,
    stall_timeout: Option<Duration>,
    ended: bool,
}

impl RequestBody {
    /// `continues`: the client waits for `100 Continue`. `stall_timeout`: it owes bytes for so long.
    pub(crate) fn new(
        core: Rc<RefCell<Core>>,
        id: u32,
        continues: Option<Rc<Interim>>,
        underscores: Underscores,
        stall_timeout: Option<Duration>,
    ) -> Self {
        let stall = Deadline::default();
        RequestBody { core, id, lent: 0, continues, underscores, stall, stall_timeout, ended: false }
    }
}

impl BodyStream for RequestBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(interim) = self.continues.take() {
            interim.put(&ResponseHead::new(100, BodyLength::None));
        }
        let polled = {
            let mut core = self.core.borrow_mut();
            let lent = std::mem::take(&mut self.lent);
            if lent > 0 {
                core.release_stream(self.id, lent);
            }
            core.poll_event(self.id, cx)
        };
        match polled {
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(Event::Data(data)))) => {
                self.lent = data.len();
                self.stall.clear();
                Poll::Ready(Some(Ok(Frame::Data(data))))
            }
            Poll::Ready(Some(Ok(Event::Trailers(mut trailers)))) => {
                self.ended = true;
                let applied = apply_underscores(&mut trailers, self.underscores);
                Poll::Ready(Some(match applied {
                    Ok(()) => Ok(Frame::Trailers(trailers)),
                    Err(refusal) => Err(broken(&refusal.to_string())),
                }))
            }
            Poll::Ready(Some(Err(Failure::Broken(what)))) => Poll::Ready(Some(Err(broken(what)))),
            Poll::Ready(Some(Err(Failure::Refused(refusal)))) => {
                Poll::Ready(Some(Err(broken(&refusal.to_string()))))
            }
            // A client that gave up, or that breaks the rules of messages, is nobody's error: its stream sees it, or its
            // connection, and lets go of everything.
            Poll::Ready(Some(Err(_) | Ok(Event::Head(_)))) => Poll::Pending,
            Poll::Pending => {
                if !self.stall.is_set() {
                    self.stall.set(self.stall_timeout);
                }
                self.stall.poll(cx).map(|()| {
                    let seconds = self.stall_timeout.unwrap_or_default().as_secs();
                    let detail = format!("request body: the client sent nothing for {seconds} s");
                    Some(Err(BodyError::new(Blame::Downstream, Reason::Timeout, detail)))
                })
            }
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended {
            self.core.borrow_mut().discard(self.id);
        }
    }
}

fn broken(what: &str) -> BodyError {
    BodyError::new(Blame::Downstream, Reason::BadRequest, format!("request body: {what}"))
}
