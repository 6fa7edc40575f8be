//! Why a message was refused before anybody saw it.

use std::time::Duration;

use base::Reason;

use super::head::Version;

/// A message that breaks the rules of its protocol, or a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The head is larger than the limit.
    #[error("the head has {seen} bytes or more, the limit is {limit} bytes (raise max_headers_bytes)")]
    HeadTooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// How many bytes had arrived when the limit was noticed.
        seen: usize,
    },
    /// The head has more fields than the limit.
    #[error("the head has {seen} fields or more, the limit is {limit} (raise max_headers_count)")]
    TooManyHeaders {
        /// The limit, in fields.
        limit: usize,
        /// How many fields had been counted when the limit was noticed.
        seen: usize,
    },
    /// A rule of the protocol is broken.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// A broken rule for which Envoy's logs have a word of its own.
    #[error("malformed: {what}")]
    Invalid {
        /// The rule.
        what: &'static str,
        /// Envoy's `%RESPONSE_CODE_DETAILS%`.
        details: &'static str,
    },
    /// Well formed, but nothing here can do it.
    #[error("not supported: {what}")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
        /// `%RESPONSE_CODE_DETAILS%`.
        details: &'static str,
    },
    /// A CONNECT where nobody takes one.
    #[error("CONNECT: nothing here takes it")]
    Tunnel,
    /// HTTP/1.0 or older where only HTTP/1.1 is spoken (`accept_http_10`).
    #[error("Upgrade Required")]
    OldVersion,
    /// A head that did not arrive in time.
    #[error("the head was not complete after {limit:?} ({seen} bytes had arrived)")]
    HeadTimeout {
        /// The limit.
        limit: Duration,
        /// How many bytes had arrived.
        seen: usize,
    },
}

impl Refusal {
    /// A request without `host`.
    pub(crate) const NO_HOST: Refusal =
        Refusal::Invalid { what: "host is missing", details: "missing_host_header" };
    /// A target that no path comes of.
    pub(crate) const NO_PATH: Refusal = Refusal::Invalid {
        what: "the target has a fragment or a byte outside ASCII",
        details: "path_normalization_failed",
    };

    /// The status to answer with, when it is a request that was refused.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::HeadTooLarge { .. } | Refusal::TooManyHeaders { .. } => 431,
            Refusal::Malformed(_) | Refusal::Invalid { .. } => 400,
            Refusal::Unsupported { .. } => 501,
            Refusal::Tunnel => 404,
            Refusal::OldVersion => 426,
            Refusal::HeadTimeout { .. } => 408,
        }
    }

    /// The stable code, when it is a request that was refused.
    pub fn reason(self) -> Reason {
        match self {
            Refusal::NO_PATH => Reason::PathNotCanonical,
            Refusal::HeadTooLarge { .. } | Refusal::TooManyHeaders { .. } => Reason::HeadersTooLarge,
            Refusal::Malformed(_) | Refusal::Invalid { .. } => Reason::BadRequest,
            Refusal::Unsupported { .. } => Reason::Unsupported,
            Refusal::Tunnel => Reason::NoRoute,
            Refusal::OldVersion => Reason::OldHttp,
            Refusal::HeadTimeout { .. } => Reason::HeadTimeout,
        }
    }

    /// `%RESPONSE_CODE_DETAILS%`, Envoy's words.
    pub const fn details(self, version: Version) -> &'static str {
        match self {
            Refusal::HeadTooLarge { .. } if version.is_http2() => "http2.headers_too_large",
            Refusal::TooManyHeaders { .. } if version.is_http2() => "http2.too_many_headers",
            Refusal::HeadTooLarge { .. } => "http1.headers_too_large",
            Refusal::TooManyHeaders { .. } => "http1.too_many_headers",
            Refusal::Malformed(_) => "http1.codec_error",
            Refusal::Invalid { details, .. } | Refusal::Unsupported { details, .. } => details,
            Refusal::Tunnel => "route_not_found",
            Refusal::OldVersion => "low_version",
            Refusal::HeadTimeout { .. } => "request_header_timeout",
        }
    }

    /// Whether Envoy counts it as a protocol error (`DPE`): not a head that is late, or whole and of no use.
    pub fn breaks_protocol(self) -> bool {
        !matches!(self, Refusal::HeadTimeout { .. } | Refusal::Tunnel)
            && self != Refusal::NO_HOST
            && self != Refusal::NO_PATH
    }
}
