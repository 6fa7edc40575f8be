//! The conditions one by one, the default policy's care, and the waits.

use super::*;
use crate::http::{BodyLength, Scheme, Version};
use config::model::{BackOff, HeaderMatch, ResetHeader, StringMatcher};

fn policy(on: &str) -> RetryPolicy {
    RetryPolicy {
        on: on.split(',').filter_map(RetryOn::named).fold(RetryOn::NONE, RetryOn::with),
        retries: 2,
        per_try_timeout: None,
        per_try_idle_timeout: None,
        back_off: BackOff { base: Duration::from_millis(25), max: Duration::from_millis(250) },
        rate_limited: None,
        status_codes: vec![418],
        headers: vec![],
        request_headers: vec![],
        other_hosts: false,
        host_selection_attempts: 1,
        is_default: false,
    }
}

fn request(method: Method) -> RequestHead {
    RequestHead {
        method,
        scheme: Scheme::Http,
        authority: "a".into(),
        target: "/".into(),
        version: Version::Http11,
        headers: Headers::new(),
        length: BodyLength::None,
        upgrade: None,
    }
}

fn answer(status: u16, fields: &[(&'static str, &'static str)]) -> ResponseHead {
    let mut head = ResponseHead::new(status, BodyLength::None);
    head.headers = fields.iter().copied().collect();
    head
}

fn wants(policy: &RetryPolicy, tried: Tried<'_>) -> bool {
    Retries::of(policy, &request(Method::POST)).is_some_and(|retries| retries.wants(tried))
}

fn after(on: &str, status: u16, fields: &[(&'static str, &'static str)]) -> bool {
    wants(&policy(on), Tried::Answer(&answer(status, fields), Marks::default()))
}

#[test]
fn answers_are_retried_by_status_header_and_grpc_status() {
    for (on, status, wanted) in [
        ("5xx", 500, true),
        ("5xx", 599, true),
        ("5xx", 499, false),
        ("gateway-error", 500, false),
        ("gateway-error", 502, true),
        ("gateway-error", 504, true),
        ("retriable-4xx", 409, true),
        ("retriable-4xx", 404, false),
        ("retriable-status-codes", 418, true),
        ("retriable-status-codes", 503, false),
        ("connect-failure,refused-stream,reset", 503, false),
    ] {
        assert_eq!(after(on, status, &[]), wanted, "{on} {status}");
    }
    for (on, status) in [
        ("cancelled", "1"),
        ("deadline-exceeded", "4"),
        ("resource-exhausted", "8"),
        ("internal", "13"),
        ("unavailable", "14"),
    ] {
        assert!(after(on, 200, &[("grpc-status", status)]), "{on}");
        assert!(!after(on, 200, &[("grpc-status", "2")]), "{on}");
    }
    let mut by_header = policy("retriable-headers");
    by_header.headers = vec![HeaderMatcher {
        name: "x-again".into(),
        condition: HeaderMatch::Value(StringMatcher::exact("yes")),
        invert: false,
        treat_missing_as_empty: false,
    }];
    let says = |value| answer(200, &[("x-again", value)]);
    assert!(wants(&by_header, Tried::Answer(&says("yes"), Marks::default())));
    assert!(!wants(&by_header, Tried::Answer(&says("no"), Marks::default())));
}

#[test]
fn a_host_that_limits_its_rate_is_left_alone() {
    assert!(!after("5xx", 503, &[("x-envoy-ratelimited", "true")]));
    assert!(after("envoy-ratelimited", 429, &[("x-envoy-ratelimited", "true")]));
}

#[test]
fn failures_are_retried_by_how_far_they_came() {
    let all = ["5xx", "gateway-error", "reset"];
    for on in all {
        for tried in [Tried::NotConnected, Tried::Refused, Tried::Reset, Tried::TimedOut] {
            assert!(wants(&policy(on), tried), "{on} {tried:?}");
        }
    }
    let only = |on: &str| {
        [Tried::NotConnected, Tried::Refused, Tried::Reset, Tried::TimedOut]
            .map(|tried| wants(&policy(on), tried))
    };
    assert_eq!(only("connect-failure"), [true, false, false, false]);
    assert_eq!(only("refused-stream"), [false, true, false, false]);
    assert_eq!(only("reset-before-request"), [true, true, false, false]);
    assert_eq!(only("unavailable"), [false; 4]);
}

#[test]
fn the_default_policy_repeats_nothing_that_may_have_been_done() {
    let mut default = policy("connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes");
    default.status_codes = vec![503];
    default.is_default = true;
    let busy = answer(503, &[]);
    let wants = |method: Method, tried| Retries::of(&default, &request(method)).unwrap().wants(tried);
    let unprocessed = Marks { unprocessed: true, retried: false };
    for (method, marks, wanted) in [
        (Method::GET, Marks::default(), true),
        (Method::PUT, Marks::default(), true),
        (Method::POST, Marks::default(), false),
        (Method::PATCH, Marks::default(), false),
        (Method::POST, unprocessed, true),
        (Method::GET, Marks { retried: true, ..unprocessed }, false),
    ] {
        assert_eq!(wants(method.clone(), Tried::Answer(&busy, marks)), wanted, "{method} {marks:?}");
    }
    assert!(wants(Method::POST, Tried::NotConnected) && wants(Method::POST, Tried::Refused));
    assert!(!wants(Method::GET, Tried::Reset), "not asked for");
    // A policy that somebody wrote runs as written.
    default.is_default = false;
    let written = Retries::of(&default, &request(Method::POST)).unwrap();
    assert!(written.wants(Tried::Answer(&busy, Marks { retried: true, ..Marks::default() })));
}

#[test]
fn only_requests_with_the_header_are_retried() {
    let mut limited = policy("5xx");
    limited.request_headers = vec![HeaderMatcher {
        name: "x-retry".into(),
        condition: HeaderMatch::Present(true),
        invert: false,
        treat_missing_as_empty: false,
    }];
    let mut head = request(Method::GET);
    assert!(Retries::of(&limited, &head).is_none());
    head.headers.set("x-retry", "1");
    assert!(Retries::of(&limited, &head).is_some());
    assert!(Retries::of(&policy(""), &head).is_none(), "no condition");
}

#[test]
fn the_wait_is_random_below_a_bound_that_doubles_up_to_its_limit() {
    let (policy, random) = (policy("5xx"), Random::seeded(7));
    for (done, bound) in [(0, 25), (1, 50), (2, 100), (3, 200), (4, 250), (40, 250)] {
        let mut retries = Retries::of(&policy, &request(Method::GET)).unwrap();
        retries.done = done;
        let longest = (0..2_000).map(|_| retries.wait(None, &random)).max().unwrap();
        let bound = Duration::from_millis(bound);
        assert!(longest < bound && longest > bound * 9 / 10, "{done}: {longest:?}");
    }
}

#[test]
fn an_answer_may_ask_for_a_wait_that_is_not_too_long() {
    let mut limited = policy("retriable-status-codes");
    let header = |name: &str, unix_time| ResetHeader { name: name.into(), unix_time };
    limited.rate_limited = Some(RateLimitedBackOff {
        headers: vec![header("retry-after", false), header("x-reset", true)],
        max: Duration::from_secs(60),
    });
    let random = Random::seeded(7);
    let wait = |name: &'static str, value: String| {
        let mut headers = Headers::new();
        headers.set(name, value);
        Retries::of(&limited, &request(Method::GET)).unwrap().wait(Some(&headers), &random).as_millis()
    };
    assert!((10_000..15_000).contains(&wait("retry-after", "10".into())));
    assert!(wait("retry-after", "61".into()) < 25, "too long: as if it were not there");
    assert!(wait("retry-after", "soon".into()) < 25);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!((18_000..30_000).contains(&wait("x-reset", (now + 20).to_string())));
}

#[test]
fn marks_are_written_as_they_are_read() {
    for (unprocessed, retried) in [(true, true), (true, false), (false, true)] {
        let marks = Marks { unprocessed, retried };
        let mut headers = Headers::new();
        headers.set(Marks::HEADER, marks.text().unwrap());
        assert_eq!(Marks::read(&headers), marks);
    }
    assert_eq!(Marks::default().text(), None);
    assert_eq!(Marks::read(&answer(200, &[(Marks::HEADER, "unprocessedly")]).headers), Marks::default());
}
