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
    /// Why the proxy answers.
    pub reason: Reason,
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
    /// An answer with the flag of its reason.
    pub fn new(
        reason: Reason,
        status: u16,
        body: impl Into<Bytes>,
        details: impl Into<Cow<'static, str>>,
    ) -> Self {
        let body = body.into();
        let mut headers = Headers::new();
        if !body.is_empty() {
            headers.append("content-type", "text/plain");
        }
        Self {
            status,
            body,
            reason,
            details: details.into(),
            flags: ResponseFlags::of(reason),
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
        let (status, text) = (refusal.status(), refusal.to_string());
        let reply = Self::new(refusal.reason(), status, text, refusal.details(version));
        let broken = refusal.breaks_protocol();
        Self {
            flags: if broken { ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR } else { ResponseFlags::NONE },
            ..reply
        }
    }

    /// To a path that is not served as it was sent.
    pub fn not_canonical(not: NotCanonical) -> Self {
        match not {
            NotCanonical::Redirect(location) => {
                Self { reason: Reason::PathNotCanonical, ..Self::redirect(307, location, NOT_CANONICAL) }
            }
            NotCanonical::Refused => {
                Self { close: true, ..Self::new(Reason::PathNotCanonical, 400, "", NOT_CANONICAL) }
            }
        }
    }

    /// No route matches.
    pub fn no_route() -> Self {
        Self::new(Reason::NoRoute, 404, "", "route_not_found")
    }

    /// The route names a cluster that is not there.
    pub fn no_cluster(status: u16) -> Self {
        Self::new(Reason::NoCluster, status, "", "cluster_not_found").unprocessed()
    }

    /// The route's timeout passed before the response began.
    pub fn timeout() -> Self {
        Self::new(Reason::Timeout, 504, "upstream request timeout", "response_timeout")
    }

    /// A redirect to `location`.
    pub fn redirect(status: u16, location: impl Into<Bytes>, details: &'static str) -> Self {
        let mut reply = Self::new(Reason::Redirect, status, "", details);
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
            CallFailure::NoHost(reason) => {
                Self::new(*reason, 503, "no healthy upstream", "no_healthy_upstream")
            }
            CallFailure::Overflow(_) => {
                let mut reply = Self::upstream_reset(Reason::Overflow, "overflow", None, retried);
                reply.headers.append("x-envoy-overloaded", "true");
                reply
            }
            CallFailure::Connect(failure) => {
                if failure.timed_out {
                    return Self::upstream_reset(failure.reason, "connection timeout", None, retried);
                }
                let what = if failure.is_tls() { "TLS_error" } else { "delayed connect error" };
                let text = Some(format!("{what}: {}", failure.detail));
                Self::upstream_reset(failure.reason, "remote connection failure", text, retried)
            }
            CallFailure::PerTryTimeout => Self::per_try_timeout("upstream_per_try_timeout"),
            CallFailure::PerTryIdleTimeout => Self::per_try_timeout("upstream_per_try_idle_timeout"),
            CallFailure::Send { blame: Blame::Upstream, reason, .. } => {
                let cause = match reason {
                    Reason::UpstreamProtocol => "protocol error",
                    Reason::UpstreamResetStream => "remote reset",
                    Reason::UpstreamRefusedStream => "remote refused stream reset",
                    _ => "connection termination",
                };
                Self::upstream_reset(*reason, cause, None, retried)
            }
            // The client's own body broke a rule, or broke off: then whatever is said here, it hardly arrives.
            CallFailure::Send { reason: Reason::BadRequest, .. } => {
                Self { close: true, ..Self::new(Reason::BadRequest, 400, "Bad Request", "http1.codec_error") }
            }
            // The codec's clock ran out a moment before the stream's own.
            CallFailure::Send { blame: Blame::Downstream, reason: Reason::Timeout, .. } => {
                Passed::Idle.reply(false)
            }
            CallFailure::Send { reason, .. } => Self::new(*reason, 400, "", "downstream_request_body_error"),
        }
    }

    /// One try took too long; `details`: in which way.
    pub fn per_try_timeout(details: &'static str) -> Self {
        Self { reason: Reason::PerTryTimeout, details: details.into(), ..Self::timeout() }
    }

    fn upstream_reset(reason: Reason, cause: &'static str, transport: Option<String>, retried: bool) -> Self {
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
        let details = format!("upstream_reset_before_response_started{{{details}}}");
        let mut reply =
            Self::new(reason, if reason == Reason::UpstreamProtocol { 502 } else { 503 }, body, details);
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
        let reply = LocalReply::of_failure(&CallFailure::NoHost(Reason::NoHealthyUpstream), false);
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
        let (head, body) = LocalReply::new(Reason::PolicyDenied, 403, "no", "x").into_response(true);
        assert!(body.is_end());
        assert_eq!((head.length, head.headers.get_str("content-length")), (BodyLength::None, Some("2")));
        let (head, _) = LocalReply::no_route().into_response(false);
        assert_eq!((head.status, head.headers.len()), (404, 0));
    }
}
