//! Answers that the proxy makes itself, with Envoy's status, text and details.

use std::borrow::Cow;

use base::{Blame, Reason};
use bytes::Bytes;

use super::deadlines::Passed;
use crate::http::{Body, BodyLength, Headers, Refusal, ResponseHead, Version};
use crate::route::canonical::NotCanonical;
use crate::telemetry::ResponseFlags;
use crate::upstream::CallFailure;
use crate::upstream::retry::Marks;

/// An answer of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalReply {
    /// Status.
    pub status: u16,
    /// Body; a text when it is not empty.
    pub body: Bytes,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: Cow<'static, str>,
    /// Short flags.
    pub flags: ResponseFlags,
    /// `%UPSTREAM_TRANSPORT_FAILURE_REASON%`.
    pub transport_failure: Cow<'static, str>,
    /// Fields of the answer, without `content-length`.
    pub headers: Headers,
    /// `grpc-status` for a gRPC client; `None`: the one that stands for the HTTP status.
    pub grpc_status: Option<u8>,
    /// The connection ends after the answer.
    pub close: bool,
    /// What a proxy of the mesh that gets the answer should know.
    pub marks: Marks,
}

/// Details of an answer to a path that is not served as it was sent.
const NOT_CANONICAL: &str = "path_normalization_failed";

impl LocalReply {
    /// An answer without flags.
    pub fn new(status: u16, body: impl Into<Bytes>, details: impl Into<Cow<'static, str>>) -> Self {
        let body = body.into();
        let mut headers = Headers::new();
        if !body.is_empty() {
            headers.append("content-type", "text/plain");
        }
        Self {
            status,
            body,
            details: details.into(),
            flags: ResponseFlags::NONE,
            transport_failure: Cow::Borrowed(""),
            headers,
            grpc_status: None,
            close: false,
            marks: Marks::default(),
        }
    }

    /// To a head that was refused; the codec closes the connection.
    pub fn of_refusal(refusal: Refusal, version: Version) -> Self {
        if refusal == Refusal::Tunnel {
            return Self::no_route();
        }
        let reply = Self::new(refusal.status(), refusal.to_string(), refusal.details(version));
        if refusal.breaks_protocol() { reply.flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR) } else { reply }
    }

    /// To a path that is not served as it was sent.
    pub fn not_canonical(not: NotCanonical) -> Self {
        match not {
            NotCanonical::Redirect(location) => Self::redirect(307, location, NOT_CANONICAL),
            NotCanonical::Refused => Self { close: true, ..Self::new(400, "", NOT_CANONICAL) },
        }
    }

    /// The same with a flag.
    pub fn flag(mut self, flags: ResponseFlags) -> Self {
        self.flags = flags;
        self
    }

    /// No route matches.
    pub fn no_route() -> Self {
        Self::new(404, "", "route_not_found").flag(ResponseFlags::NO_ROUTE)
    }

    /// The route names a cluster that is not there.
    pub fn no_cluster(status: u16) -> Self {
        Self::new(status, "", "cluster_not_found").flag(ResponseFlags::NO_CLUSTER).unprocessed()
    }

    /// The route's timeout passed before the response began.
    pub fn timeout() -> Self {
        Self::new(504, "upstream request timeout", "response_timeout")
            .flag(ResponseFlags::UPSTREAM_REQUEST_TIMEOUT)
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, location: impl Into<Bytes>, details: &'static str) -> Self {
        let mut reply = Self::new(status, "", details);
        reply.headers.append("location", location);
        reply
    }

    /// The same, and the application never saw the request.
    pub fn unprocessed(mut self) -> Self {
        self.marks.unprocessed = true;
        self
    }

    /// A call that got no response; `retried`: it was tried more than once.
    pub fn of_failure(failure: &CallFailure, retried: bool) -> Self {
        match failure {
            CallFailure::NoHealthyUpstream => Self::new(503, "no healthy upstream", "no_healthy_upstream")
                .flag(ResponseFlags::NO_HEALTHY_UPSTREAM),
            CallFailure::Overflow(_) => {
                let mut reply = Self::upstream_reset(503, "overflow", None, retried);
                reply.flags = ResponseFlags::UPSTREAM_OVERFLOW;
                reply.headers.append("x-envoy-overloaded", "true");
                reply
            }
            CallFailure::Connect(failure) => {
                let mut reply = if failure.timed_out {
                    Self::upstream_reset(503, "connection timeout", None, retried)
                } else {
                    let text = match failure.reason {
                        Reason::UpstreamTls => format!("TLS_error: {}", failure.detail),
                        _ => format!("delayed connect error: {}", failure.detail),
                    };
                    Self::upstream_reset(503, "remote connection failure", Some(text), retried)
                };
                reply.flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
                reply
            }
            CallFailure::PerTryTimeout => {
                Self { details: "upstream_per_try_timeout".into(), ..Self::timeout() }
            }
            CallFailure::PerTryIdleTimeout => {
                Self { details: "upstream_per_try_idle_timeout".into(), ..Self::timeout() }
            }
            CallFailure::Send { blame: Blame::Upstream, reason, .. } => {
                let (status, cause) = match reason {
                    Reason::UpstreamProtocol => (502, "protocol error"),
                    Reason::UpstreamResetStream => (503, "remote reset"),
                    Reason::UpstreamRefusedStream => (503, "remote refused stream reset"),
                    _ => (503, "connection termination"),
                };
                let mut reply = Self::upstream_reset(status, cause, None, retried);
                reply.flags = ResponseFlags::of(*reason);
                reply
            }
            // The client's own body broke a rule, or broke off: then whatever is said here, it hardly arrives.
            CallFailure::Send { reason: Reason::BadRequest, .. } => Self {
                close: true,
                ..Self::new(400, "Bad Request", "http1.codec_error")
                    .flag(ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR)
            },
            // The codec's clock ran out a moment before the stream's own.
            CallFailure::Send { blame: Blame::Downstream, reason: Reason::Timeout, .. } => {
                Passed::Idle.reply(false)
            }
            CallFailure::Send { reason, .. } => {
                Self::new(400, "", "downstream_request_body_error").flag(ResponseFlags::of(*reason))
            }
        }
    }

    fn upstream_reset(status: u16, cause: &'static str, transport: Option<String>, retried: bool) -> Self {
        let latest = if retried { "retried and the latest reset reason" } else { "reset reason" };
        // Why the transport failed stands in the log only, as in Envoy: it is not the client's business.
        let body = format!("upstream connect error or disconnect/reset before headers. {latest}: {cause}");
        let mut details = cause.to_owned();
        if let Some(transport) = &transport {
            details.push('|');
            details.push_str(transport);
        }
        // Details are one word in a log line.
        let details = details.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
        let mut reply =
            Self::new(status, body, format!("upstream_reset_before_response_started{{{details}}}"));
        reply.transport_failure = transport.map_or(Cow::Borrowed(""), Cow::Owned);
        reply
    }

    /// Head and body for the codec; `bodyless`: the request was HEAD.
    pub fn into_response(self, bodyless: bool) -> (ResponseHead, Body) {
        let length =
            if self.body.is_empty() { BodyLength::None } else { BodyLength::Known(self.body.len() as u64) };
        let mut head = ResponseHead::new(self.status, length);
        head.headers = self.headers;
        if !self.body.is_empty() {
            if bodyless {
                head.length = BodyLength::None;
            }
            head.headers.set("content-length", self.body.len().to_string());
        }
        if self.close {
            head.headers.set("connection", "close");
        }
        let body = if bodyless { Body::empty() } else { Body::full(self.body) };
        (head, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::connect::ConnectFailure;

    #[test]
    fn texts_are_envoys() {
        let refused = |timed_out| {
            CallFailure::Connect(ConnectFailure {
                host: "127.0.0.1:1".into(),
                reason: Reason::ConnectFailed,
                detail: "Connection refused".into(),
                timed_out,
                opening: None,
            })
        };
        let reply = LocalReply::of_failure(&refused(false), false);
        assert_eq!(
            (reply.status, &reply.body[..], &*reply.details, reply.flags.to_string()),
            (
                503,
                &b"upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"[..],
                "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
                "UF".to_owned(),
            )
        );
        let reply = LocalReply::of_failure(&refused(true), true);
        assert_eq!(&*reply.details, "upstream_reset_before_response_started{connection_timeout}");
        assert_eq!(reply.flags.to_string(), "UF");
        assert!(reply.body.ends_with(b"retried and the latest reset reason: connection timeout"));
        let reset = CallFailure::Send {
            blame: Blame::Upstream,
            reason: Reason::UpstreamReset,
            detail: String::new(),
            unprocessed: false,
        };
        let reply = LocalReply::of_failure(&reset, false);
        assert_eq!((reply.status, reply.flags.to_string().as_str()), (503, "UC"));
        let reply = LocalReply::of_failure(&CallFailure::NoHealthyUpstream, false);
        assert_eq!(
            (reply.status, &reply.body[..], reply.flags.to_string().as_str()),
            (503, &b"no healthy upstream"[..], "UH")
        );
        let reply = LocalReply::of_failure(&CallFailure::Overflow("max_requests"), false);
        assert_eq!((reply.status, reply.flags.to_string().as_str()), (503, "UO"));
        assert_eq!(&*reply.details, "upstream_reset_before_response_started{overflow}");
        assert_eq!(reply.headers.get_str("x-envoy-overloaded"), Some("true"));
        assert!(reply.body.ends_with(b"reset reason: overflow"));
    }

    #[test]
    fn a_client_that_stalls_is_told_so_and_a_connect_finds_no_route() {
        let of = |blame| {
            let (reason, detail) = (Reason::Timeout, String::new());
            let failure = CallFailure::Send { blame, reason, detail, unprocessed: false };
            let reply = LocalReply::of_failure(&failure, false);
            (reply.status, reply.flags.to_string())
        };
        assert_eq!(of(Blame::Downstream), (408, "SI".to_owned()));
        assert_eq!(of(Blame::Upstream).0, 503);
        let reply = LocalReply::of_refusal(Refusal::Tunnel, Version::Http11);
        assert_eq!(
            (reply.status, &*reply.details, reply.flags.to_string().as_str()),
            (404, "route_not_found", "NR")
        );
    }

    #[test]
    fn an_answer_to_head_has_the_length_but_no_body() {
        let (head, body) = LocalReply::new(403, "no", "x").into_response(true);
        assert!(body.is_end());
        assert_eq!((head.length, head.headers.get_str("content-length")), (BodyLength::None, Some("2")));
        let (head, _) = LocalReply::no_route().into_response(false);
        assert_eq!((head.status, head.headers.len()), (404, 0));
    }
}
