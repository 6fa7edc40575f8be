//! When a request is sent again.

use super::HeaderMatcher;
use std::sync::Arc;
use std::time::Duration;

/// `envoy.config.route.v3.RetryPolicy`, defaults resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// On what.
    pub on: RetryOn,
    /// Most retries.
    pub retries: u32,
    /// Limit of one try, from the end of the request to the head of the response.
    pub per_try_timeout: Option<Duration>,
    /// Limit of silence in one try, until the end of the response.
    pub per_try_idle_timeout: Option<Duration>,
    /// Wait before a retry.
    pub back_off: BackOff,
    /// Wait that a response asks for.
    pub rate_limited: Option<RateLimitedBackOff>,
    /// Statuses for [`RetryOn::RETRIABLE_STATUS_CODES`].
    pub status_codes: Vec<u16>,
    /// Response headers for [`RetryOn::RETRIABLE_HEADERS`]: any of them.
    pub headers: Vec<HeaderMatcher>,
    /// Only requests that have one of these headers are retried; empty: all.
    pub request_headers: Vec<HeaderMatcher>,
    /// A retry goes to a host that was not tried, where there is one.
    pub other_hosts: bool,
    /// So many hosts that were tried are passed over, then the last one is taken.
    pub host_selection_attempts: u32,
    /// The mesh's default, which nobody wrote: it repeats nothing that may have reached the application, unless the
    /// method is idempotent.
    pub is_default: bool,
}

/// The exponential wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// The first retry waits at most this long; each further one at most twice as long.
    pub base: Duration,
    /// The most.
    pub max: Duration,
}

/// Waits that a response asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateLimitedBackOff {
    /// The first that is there and not too long counts.
    pub headers: Vec<ResetHeader>,
    /// Longer waits are not believed.
    pub max: Duration,
}

/// A header that says when to come again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResetHeader {
    /// Name in lower case.
    pub name: Arc<str>,
    /// Seconds since 1970 rather than from now.
    pub unix_time: bool,
}

/// A set of conditions of `retry_on`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn(u32);

/// The conditions by name; the position is the bit.
const CONDITIONS: [(&str, RetryOn); 15] = [
    ("5xx", RetryOn::SERVER_ERROR),
    ("gateway-error", RetryOn::GATEWAY_ERROR),
    ("reset", RetryOn::RESET),
    ("reset-before-request", RetryOn::RESET_BEFORE_REQUEST),
    ("connect-failure", RetryOn::CONNECT_FAILURE),
    ("envoy-ratelimited", RetryOn::RATE_LIMITED),
    ("retriable-4xx", RetryOn::RETRIABLE_4XX),
    ("refused-stream", RetryOn::REFUSED_STREAM),
    ("retriable-status-codes", RetryOn::RETRIABLE_STATUS_CODES),
    ("retriable-headers", RetryOn::RETRIABLE_HEADERS),
    ("cancelled", RetryOn::GRPC_CANCELLED),
    ("deadline-exceeded", RetryOn::GRPC_DEADLINE_EXCEEDED),
    ("internal", RetryOn::GRPC_INTERNAL),
    ("resource-exhausted", RetryOn::GRPC_RESOURCE_EXHAUSTED),
    ("unavailable", RetryOn::GRPC_UNAVAILABLE),
];

impl RetryOn {
    /// No condition.
    pub const NONE: RetryOn = RetryOn(0);
    /// An answer of 5xx, or none.
    pub const SERVER_ERROR: RetryOn = RetryOn(1);
    /// An answer of 502, 503 or 504, or none.
    pub const GATEWAY_ERROR: RetryOn = RetryOn(1 << 1);
    /// No answer.
    pub const RESET: RetryOn = RetryOn(1 << 2);
    /// No answer, and nothing of the request was sent.
    pub const RESET_BEFORE_REQUEST: RetryOn = RetryOn(1 << 3);
    /// No connection.
    pub const CONNECT_FAILURE: RetryOn = RetryOn(1 << 4);
    /// An answer with `x-envoy-ratelimited`.
    pub const RATE_LIMITED: RetryOn = RetryOn(1 << 5);
    /// An answer of 409.
    pub const RETRIABLE_4XX: RetryOn = RetryOn(1 << 6);
    /// The stream was refused, or lies above a GOAWAY's last: not processed.
    pub const REFUSED_STREAM: RetryOn = RetryOn(1 << 7);
    /// An answer with one of the policy's statuses.
    pub const RETRIABLE_STATUS_CODES: RetryOn = RetryOn(1 << 8);
    /// An answer with one of the policy's headers.
    pub const RETRIABLE_HEADERS: RetryOn = RetryOn(1 << 9);
    /// gRPC status 1.
    pub const GRPC_CANCELLED: RetryOn = RetryOn(1 << 10);
    /// gRPC status 4.
    pub const GRPC_DEADLINE_EXCEEDED: RetryOn = RetryOn(1 << 11);
    /// gRPC status 13.
    pub const GRPC_INTERNAL: RetryOn = RetryOn(1 << 12);
    /// gRPC status 8.
    pub const GRPC_RESOURCE_EXHAUSTED: RetryOn = RetryOn(1 << 13);
    /// gRPC status 14.
    pub const GRPC_UNAVAILABLE: RetryOn = RetryOn(1 << 14);

    /// The condition of that name.
    pub fn named(name: &str) -> Option<RetryOn> {
        CONDITIONS.iter().find(|(known, _)| *known == name).map(|(_, condition)| *condition)
    }

    /// The names of the conditions in the set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        CONDITIONS.iter().filter(move |(_, condition)| self.has(*condition)).map(|(name, _)| *name)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: RetryOn) -> RetryOn {
        RetryOn(self.0 | other.0)
    }

    /// Whether any condition of `other` is in the set.
    pub const fn has(self, other: RetryOn) -> bool {
        self.0 & other.0 != 0
    }

    /// No condition at all.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}
