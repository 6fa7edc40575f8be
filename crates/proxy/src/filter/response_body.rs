//! The response's body on its way to the client: counted, held to the route's timeout, and its end noticed.

use std::task::{Context, Poll};

use base::{Blame, Reason};

use super::deadlines::{Deadlines, Passed};
use super::exchange::{Exchange, grpc_status};
use super::tracing;
use crate::http::{Body, BodyError, BodyLength, BodyStream, Frame};
use crate::telemetry::labels::Protocol;

/// A response's body that ends its exchange.
pub struct RecordedBody {
    inner: Body,
    expected: Option<u64>,
    deadlines: Option<Deadlines>,
    exchange: Option<Box<Exchange>>,
}

impl RecordedBody {
    /// Ties the body to its exchange; one that is empty has ended.
    pub fn wrap(
        inner: Body,
        length: BodyLength,
        deadlines: Option<Deadlines>,
        mut exchange: Box<Exchange>,
    ) -> Body {
        if inner.is_end() {
            exchange.end();
            return inner;
        }
        let expected = match length {
            BodyLength::Known(bytes) => Some(bytes),
            BodyLength::None => Some(0),
            BodyLength::Unknown => None,
        };
        Body::stream(Self { inner, expected, deadlines, exchange: Some(exchange) })
    }

    fn finish(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.end();
        }
    }

    fn fail(&mut self, reason: Reason, details: &'static str) {
        if let Some(exchange) = &mut self.exchange {
            exchange.fail(reason, details);
        }
        self.finish();
    }

    fn pass(&mut self, passed: Passed) {
        let ended = self.exchange.as_ref().is_some_and(|exchange| exchange.progress.end.get().is_some());
        self.fail(passed.reason(ended), passed.details());
    }

    fn give_up(&mut self, passed: Passed) -> BodyError {
        if passed == Passed::Route
            && let Some(exchange) = &self.exchange
            && let Some(cluster) = &exchange.cluster
        {
            exchange.worker.upstream.cluster(cluster).cells.timeouts.increment();
        }
        self.pass(passed);
        // Dropping it closes the upstream's connection.
        self.inner = Body::empty();
        BodyError::new(Blame::Upstream, Reason::Timeout, format!("a time limit passed: {}", passed.details()))
    }
}

/// Why a body of the upstream broke off, Envoy's words.
fn details(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout => "response_timeout",
        Reason::UpstreamProtocol | Reason::UpstreamCutBody => {
            "upstream_reset_after_response_started{protocol_error}"
        }
        Reason::UpstreamReset => "upstream_reset_after_response_started{connection_termination}",
        Reason::UpstreamResetStream => "upstream_reset_after_response_started{remote_reset}",
        Reason::UpstreamRefusedStream => "upstream_reset_after_response_started{remote_refused_stream_reset}",
        _ => "downstream_request_body_error",
    }
}

/// A host that breaks off in the middle of its answer has a row of its own.
fn in_body(reason: Reason) -> Reason {
    if reason == Reason::UpstreamReset { Reason::UpstreamResetBody } else { reason }
}

impl BodyStream for RecordedBody {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let polled = self.inner.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(Frame::Data(data)))) => {
                if let Some(exchange) = &mut self.exchange {
                    exchange.record.response_body_bytes += data.len() as u64;
                    if exchange.protocol != Protocol::Http {
                        exchange.response_messages.saw(data);
                    }
                }
                if let Some(deadlines) = &self.deadlines {
                    deadlines.moved();
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
                    let connection = exchange.connection.clone();
                    connection.chain.captures.capture_trailers(trailers, &mut exchange.record);
                    tracing::on_trailers(trailers, exchange);
                }
                self.finish();
            }
            Poll::Ready(Some(Err(error)))
                if (error.blame, error.reason) == (Blame::Downstream, Reason::Timeout) =>
            {
                self.pass(Passed::Idle);
            }
            Poll::Ready(Some(Err(error))) => self.fail(in_body(error.reason), details(error.reason)),
            Poll::Ready(None) => self.finish(),
            Poll::Pending => {
                let passed = self.deadlines.as_mut().map(|deadlines| deadlines.poll_passed(cx));
                if let Some(Poll::Ready(passed)) = passed {
                    return Poll::Ready(Some(Err(self.give_up(passed))));
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
