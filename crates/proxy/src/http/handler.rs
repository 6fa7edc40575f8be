//! What a codec calls for every request.

use std::rc::Rc;

use super::body::Body;
use super::head::{BodyLength, RequestHead, ResponseHead, Version};
use super::refusal::Refusal;

pub use futures_util::future::LocalBoxFuture;

/// Answers requests. One handler serves all requests of a connection, one after the other on HTTP/1.
pub trait Handler {
    /// Answers one request.
    ///
    /// The body of the request is read from the client only as it is polled; it may outlive the returned future (the
    /// response's body then drives the rest of the upload). Dropping it unread is legal: the codec drains a little or
    /// closes the connection. The future is dropped when the client goes away.
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        body: Body,
        sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)>;

    /// Answers a request whose head was refused, in plain words; on HTTP/1 the connection closes after it. A host overrides
    /// it to log and count the refusal.
    fn refuse(&self, refusal: &Refusal, _version: Version) -> (ResponseHead, Body) {
        let text = refusal.to_string();
        let mut head = ResponseHead::new(refusal.status(), BodyLength::Known(text.len() as u64));
        head.headers.append("content-type", "text/plain");
        (head, Body::full(text))
    }

    /// Told of a request that gets no answer, since its head breaks a rule of the protocol: its stream ends, or its
    /// connection. A host overrides it to log and count it.
    fn unanswered(&self, _what: &'static str, _version: Version) {}

    /// Says how the client goes away whose exchange is dropped next. A codec that says nothing means
    /// [`Gone::Disconnected`].
    fn client_gone(&self, _how: Gone) {}
}

/// How a client goes away before its answer is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gone {
    /// Its connection ended.
    #[default]
    Disconnected,
    /// It reset the stream.
    Reset,
    /// What it sent of the request after the head broke a rule of the protocol.
    Malformed,
}

/// Takes interim responses on behalf of a codec.
pub trait InformationalSink {
    /// Queues a 1xx head for the client.
    fn send(&self, head: ResponseHead);
}

/// Where a handler puts interim (1xx) responses, other than `100 Continue`, which each hop answers itself.
#[derive(Clone, Default)]
pub struct Informational {
    sink: Option<Rc<dyn InformationalSink>>,
}

impl Informational {
    /// A sink that a codec provides.
    pub fn new(sink: Rc<dyn InformationalSink>) -> Self {
        Informational { sink: Some(sink) }
    }

    /// For clients that cannot take interim responses (HTTP/1.0): sends go nowhere (RFC 9110, section 15.2).
    pub const fn none() -> Self {
        Informational { sink: None }
    }

    /// Sends a 1xx head to the client, before the final response.
    pub fn send(&self, head: ResponseHead) {
        if let Some(sink) = &self.sink {
            sink.send(head);
        }
    }
}
