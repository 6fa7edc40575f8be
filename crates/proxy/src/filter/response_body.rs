//! The response's body on its way to the client: counted, held to the route's timeout, and its end noticed.

use std::task::{Context, Poll};

use base::{Blame, Reason};

use super::exchange::{Exchange, grpc_status};
use super::router::RouteTimer;
use crate::http::{Body, BodyError, BodyLength, BodyStream, Frame};
use crate::telemetry::ResponseFlags;
use crate::telemetry::labels::Protocol;

/// A response's body that ends its exchange.
pub struct RecordedBody {
    inner: Body,
    expected: Option<u64>,
    timer: RouteTimer,
    exchange: Option<Box<Exchange>>,
}

impl RecordedBody {
    /// Ties the body to its exchange; one that is empty has ended.
    pub fn wrap(inner: Body, length: BodyLength, timer: RouteTimer, mut exchange: Box<Exchange>) -> Body {
        if inner.is_end() {
            exchange.end();
            return inner;
        }
        let expected = match length {
            BodyLength::Known(bytes) => Some(bytes),
            BodyLength::None => Some(0),
            BodyLength::Unknown => None,
        };
        Body::stream(Self { inner, expected, timer, exchange: Some(exchange) })
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.end();
        }
    }

    fn fail(&mut self, error: &BodyError) {
        if let Some(exchange) = &mut self.exchange {
            let details = match error.reason {
                Reason::Timeout => "response_timeout",
                Reason::UpstreamProtocol => "upstream_reset_after_response_started{protocol_error}",
                Reason::UpstreamReset => "upstream_reset_after_response_started{connection_termination}",
                _ => "downstream_request_body_error",
            };
            exchange.flag(ResponseFlags::of(error.reason), details);
        }
        self.finish();
    }
}

impl BodyStream for RecordedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.record.response_body_bytes += data.len() as u64;
                }
                if self.inner.is_end() {
                    self.finish();
                }
            }
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                if let Some(exchange) = &mut self.exchange {
                    if let Protocol::Grpc(None) = exchange.protocol {
                        exchange.protocol = Protocol::Grpc(grpc_status(trailers.get("grpc-status")));
                    }
                    let chain = exchange.chain.clone();
                    chain.logs.capture_trailers(trailers, &mut exchange.record);
                }
                self.finish();
            }
            Poll::Ready(Some(Err(error))) => {
                let error = error.clone();
                self.fail(&error);
            }
            Poll::Ready(None) => self.finish(),
            Poll::Pending => {
                let request_ended = self.exchange.as_ref().is_none_or(|exchange| exchange.progress.end.get().is_some());
                if self.timer.poll_passed(cx, request_ended).is_ready() {
                    let error = BodyError::new(Blame::Upstream, Reason::Timeout, "the route's timeout passed");
                    self.fail(&error);
                    // Drops the upstream connection at once.
                    self.inner = Body::empty();
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        polled
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        // A codec that has written all bytes of a body of known length need not ask for its end.
        if let (Some(exchange), Some(expected)) = (&mut self.exchange, self.expected)
            && exchange.record.response_body_bytes >= expected
        {
            exchange.end();
        }
    }
}
