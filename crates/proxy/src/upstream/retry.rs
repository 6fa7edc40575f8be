//! Whether a request is sent again, and after which wait: Envoy's conditions, and the care of the mesh's default policy.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::model::{HeaderMatcher, RateLimitedBackOff, RetryOn, RetryPolicy};
use decide::RequestView;
use http::Method;

use crate::http::{Headers, RequestHead, ResponseHead};
use crate::telemetry::Random;

/// What came of a try.
#[derive(Debug, Clone, Copy)]
pub enum Tried<'a> {
    /// An answer. The marks are those of a peer in the mesh.
    Answer(&'a ResponseHead, Marks),
    /// No connection.
    NotConnected,
    /// No answer, and the host refused the request unprocessed, or nothing of it was written.
    Refused,
    /// No answer to a request that was sent, at least in part.
    Reset,
    /// The per-try timeout passed.
    TimedOut,
}

/// What a proxy of the mesh says about an answer that it gives, in [`Marks::HEADER`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// It made the answer itself, and the application never saw the request.
    pub unprocessed: bool,
    /// It, or one behind it, has retried already, or was not allowed to.
    pub retried: bool,
}

impl Marks {
    /// The header between proxies of the mesh. It is believed only from a verified peer, and never leaves the mesh.
    pub const HEADER: &'static str = "x-tulle-failure";

    /// What the header says.
    pub fn read(headers: &Headers) -> Self {
        let value = headers.get(Self::HEADER).unwrap_or_default();
        let has = |word: &[u8]| value.split(|byte| *byte == b',').any(|part| part.trim_ascii() == word);
        Marks { unprocessed: has(b"unprocessed"), retried: has(b"retried") }
    }

    /// The header's value; `None`: nothing to say.
    pub const fn text(self) -> Option<&'static str> {
        match (self.unprocessed, self.retried) {
            (true, true) => Some("unprocessed,retried"),
            (true, false) => Some("unprocessed"),
            (false, true) => Some("retried"),
            (false, false) => None,
        }
    }
}

/// The retries of one request.
#[derive(Debug)]
pub struct Retries<'a> {
    policy: &'a RetryPolicy,
    on: RetryOn,
    left: u32,
    /// Retries so far.
    pub done: u32,
    idempotent: bool,
}

impl<'a> Retries<'a> {
    /// What the policy allows for that request; `None`: nothing.
    pub fn of(policy: &'a RetryPolicy, head: &RequestHead) -> Option<Self> {
        let wanted = &policy.request_headers;
        let applies = wanted.is_empty() || wanted.iter().any(|one| has(one, &head.headers));
        (!policy.on.is_empty() && applies).then(|| Retries {
            policy,
            on: policy.on,
            left: policy.retries,
            done: 0,
            idempotent: is_idempotent(&head.method),
        })
    }

    /// Whether a further try is wanted, if there are any left.
    pub fn wants(&self, tried: Tried<'_>) -> bool {
        let any_reset = RetryOn::RESET.with(RetryOn::SERVER_ERROR).with(RetryOn::GATEWAY_ERROR);
        match tried {
            Tried::Answer(head, marks) => {
                self.wants_after(head)
                    && (!self.policy.is_default || (!marks.retried && (self.idempotent || marks.unprocessed)))
            }
            Tried::NotConnected => {
                let conditions = any_reset.with(RetryOn::CONNECT_FAILURE).with(RetryOn::RESET_BEFORE_REQUEST);
                self.on.has(conditions)
            }
            Tried::Refused => {
                let conditions = any_reset.with(RetryOn::REFUSED_STREAM).with(RetryOn::RESET_BEFORE_REQUEST);
                self.on.has(conditions)
            }
            Tried::Reset | Tried::TimedOut => self.on.has(any_reset),
        }
    }

    fn wants_after(&self, head: &ResponseHead) -> bool {
        let (on, status) = (self.on, head.status);
        if head.headers.contains("x-envoy-ratelimited") {
            return on.has(RetryOn::RATE_LIMITED);
        }
        (on.has(RetryOn::SERVER_ERROR) && (500..600).contains(&status))
            || (on.has(RetryOn::GATEWAY_ERROR) && matches!(status, 502..=504))
            || (on.has(RetryOn::RETRIABLE_4XX) && status == 409)
            || (on.has(RetryOn::RETRIABLE_STATUS_CODES) && self.policy.status_codes.contains(&status))
            || (on.has(RetryOn::RETRIABLE_HEADERS)
                && self.policy.headers.iter().any(|one| has(one, &head.headers)))
            || grpc_status(&head.headers).and_then(condition).is_some_and(|condition| on.has(condition))
    }

    /// Uses one retry up; false: none was left.
    pub fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// How long to wait before the retry that was just taken: what the answer asks for, else at random below a bound
    /// that doubles.
    pub fn wait(&mut self, answer: Option<&Headers>, random: &Random) -> Duration {
        let asked = self.policy.rate_limited.as_ref().zip(answer);
        if let Some(interval) = asked.and_then(|(rules, headers)| asked_for(rules, headers)) {
            let spread = u64::try_from(interval.as_millis() / 2).unwrap_or(u64::MAX);
            return interval + Duration::from_millis(random.below(spread));
        }
        let back_off = &self.policy.back_off;
        let bound = back_off.base.saturating_mul(1 << self.done.min(20)).min(back_off.max);
        Duration::from_micros(random.below(u64::try_from(bound.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Whether a retry goes to a host that was not tried.
    pub fn other_hosts(&self) -> Option<u32> {
        self.policy.other_hosts.then_some(self.policy.host_selection_attempts)
    }
}

/// RFC 9110, section 9.2.2.
pub fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
}

fn condition(status: u8) -> Option<RetryOn> {
    match status {
        1 => Some(RetryOn::GRPC_CANCELLED),
        4 => Some(RetryOn::GRPC_DEADLINE_EXCEEDED),
        8 => Some(RetryOn::GRPC_RESOURCE_EXHAUSTED),
        13 => Some(RetryOn::GRPC_INTERNAL),
        14 => Some(RetryOn::GRPC_UNAVAILABLE),
        _ => None,
    }
}

/// The gRPC status of an answer that consists of trailers only.
pub fn grpc_status(headers: &Headers) -> Option<u8> {
    std::str::from_utf8(headers.get("grpc-status")?).ok()?.parse().ok()
}

/// The HTTP status that a gRPC status stands for, as Envoy has it.
pub fn http_of_grpc(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// The wait that an answer asks for, when it is not too long.
fn asked_for(rules: &RateLimitedBackOff, headers: &Headers) -> Option<Duration> {
    rules.headers.iter().find_map(|header| {
        let number: u64 = std::str::from_utf8(headers.get(&header.name)?).ok()?.trim().parse().ok()?;
        let asked = Duration::from_secs(number);
        let interval = if header.unix_time {
            asked.checked_sub(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())?
        } else {
            asked
        };
        (interval <= rules.max).then_some(interval)
    })
}

fn has(matcher: &HeaderMatcher, headers: &Headers) -> bool {
    decide::header_matches(matcher, &Fields(headers))
}

/// Header fields alone, in the eyes of `decide`.
struct Fields<'a>(&'a Headers);

impl RequestView for Fields<'_> {
    fn method(&self) -> &[u8] {
        b""
    }

    fn scheme(&self) -> &str {
        ""
    }

    fn authority(&self) -> &[u8] {
        b""
    }

    fn target(&self) -> &[u8] {
        b""
    }

    fn header_values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        self.0.get_all(name)
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;
