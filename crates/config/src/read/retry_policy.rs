//! `envoy.config.route.v3.RetryPolicy`.

use super::header_matcher::read_header_matcher;
use super::name::header_name;
use crate::context::{Context, Result, answers, number, refuse, report};
use crate::model::{BackOff, RateLimitedBackOff, ResetHeader, RetryOn, RetryPolicy};
use protos::envoy::envoy::config::route::v3 as pb;
use std::time::Duration;

/// Envoy's default of `base_interval`.
const BASE: Duration = Duration::from_millis(25);
/// Envoy's default of `rate_limited_retry_back_off.max_interval`.
const RATE_LIMITED_MAX: Duration = Duration::from_secs(300);
/// Most entries of each list.
const LIMIT: usize = 64;

/// Reads when requests are sent again.
pub fn read_retry_policy(cx: &mut Context, message: &pb::RetryPolicy) -> Result<RetryPolicy> {
    answers! { cx, message => pb::RetryPolicy {
        act {
            retry_on, num_retries, per_try_timeout, per_try_idle_timeout, retry_host_predicate,
            host_selection_retry_max_attempts, retriable_status_codes, retry_back_off,
            rate_limited_retry_back_off, retriable_headers, retriable_request_headers,
        }
        report "retries go to the same priorities as first tries" { retry_priority }
        report "a retry goes to the same cluster" { refresh_cluster_on_retry }
        refuse "extensions of retries are not supported" { retry_options_predicates }
    }}
    let other_hosts = read_predicates(cx, retry_host_predicate)?;
    let host_selection_attempts = match u32::try_from(*host_selection_retry_max_attempts) {
        Ok(0) => 1,
        Ok(attempts) => attempts,
        Err(_) => return Err(cx.refused_field("host_selection_retry_max_attempts", "is negative")),
    };
    let matchers = |cx: &mut Context, name: &str, list: &[pb::HeaderMatcher]| {
        cx.list(name, list, LIMIT, read_header_matcher)
    };
    Ok(RetryPolicy {
        on: cx.field("retry_on", |cx| read_conditions(cx, retry_on)),
        retries: number(num_retries).unwrap_or(1),
        per_try_timeout: cx.limit("per_try_timeout", per_try_timeout, None)?,
        per_try_idle_timeout: cx.limit("per_try_idle_timeout", per_try_idle_timeout, None)?,
        back_off: read_back_off(cx, retry_back_off)?,
        rate_limited: read_rate_limited(cx, rate_limited_retry_back_off)?,
        status_codes: cx.list("retriable_status_codes", retriable_status_codes, LIMIT, |cx, code| {
            u16::try_from(*code)
                .ok()
                .filter(|code| (100..1000).contains(code))
                .ok_or_else(|| cx.refused(format!("{code} is not a status")))
        })?,
        headers: matchers(cx, "retriable_headers", retriable_headers)?,
        request_headers: matchers(cx, "retriable_request_headers", retriable_request_headers)?,
        other_hosts,
        host_selection_attempts,
        is_default: false,
    })
}

/// The conditions of a list; those that are not known are reported, as a user's slip must not be silent.
pub fn read_conditions(cx: &mut Context, text: &str) -> RetryOn {
    let mut on = RetryOn::NONE;
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        match (RetryOn::named(name), name) {
            (Some(condition), _) => on = on.with(condition),
            (None, "http3-post-connect-failure") => cx.note("there is no HTTP/3"),
            (None, _) => {
                let shown: String = name.chars().take(64).collect();
                cx.note(format!("{shown:?} is not a condition that is known"));
            }
        }
    }
    on
}

fn read_predicates(cx: &mut Context, list: &[pb::retry_policy::RetryHostPredicate]) -> Result<bool> {
    let read = cx.list("retry_host_predicate", list, LIMIT, |cx, message| {
        let pb::retry_policy::RetryHostPredicate { name, config_type } = message;
        let url = match config_type {
            Some(pb::retry_policy::retry_host_predicate::ConfigType::TypedConfig(any)) => {
                any.type_url.as_str()
            }
            None => "",
        };
        let previous = match url {
            "" => name.ends_with("previous_hosts"),
            url => url.ends_with("previous_hosts.v3.PreviousHostsPredicate"),
        };
        if !previous {
            cx.note("only previous_hosts chooses another host");
        }
        Ok(previous)
    })?;
    Ok(read.contains(&true))
}

fn read_back_off(cx: &mut Context, message: &Option<pb::retry_policy::RetryBackOff>) -> Result<BackOff> {
    let Some(pb::retry_policy::RetryBackOff { base_interval, max_interval }) = message else {
        return Ok(BackOff { base: BASE, max: BASE * 10 });
    };
    cx.field("retry_back_off", |cx| {
        let base = match cx.duration("base_interval", base_interval)? {
            None | Some(Duration::ZERO) => {
                return Err(cx.refused_field("base_interval", "is missing or 0: it must be longer"));
            }
            Some(base) => base.max(Duration::from_millis(1)),
        };
        let max = cx.duration("max_interval", max_interval)?.unwrap_or(base * 10);
        if max < base {
            return Err(cx.refused_field("max_interval", "is shorter than base_interval"));
        }
        Ok(BackOff { base, max })
    })
}

fn read_rate_limited(
    cx: &mut Context,
    message: &Option<pb::retry_policy::RateLimitedRetryBackOff>,
) -> Result<Option<RateLimitedBackOff>> {
    let Some(pb::retry_policy::RateLimitedRetryBackOff { reset_headers, max_interval }) = message else {
        return Ok(None);
    };
    cx.field("rate_limited_retry_back_off", |cx| {
        let headers = cx.list("reset_headers", reset_headers, LIMIT, |cx, header| {
            use pb::retry_policy::ResetHeaderFormat as Format;
            let pb::retry_policy::ResetHeader { name, format } = header;
            let unix_time = matches!(cx.enumeration("format", *format)?, Format::UnixTimestamp);
            Ok(ResetHeader { name: header_name(cx, "name", name, false)?, unix_time })
        })?;
        if headers.is_empty() {
            return Err(cx.refused_field("reset_headers", "is empty"));
        }
        let max = match cx.duration("max_interval", max_interval)? {
            Some(Duration::ZERO) => return Err(cx.refused_field("max_interval", "is 0: it must be longer")),
            given => given.unwrap_or(RATE_LIMITED_MAX),
        };
        Ok(Some(RateLimitedBackOff { headers, max }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::{Duration as PbDuration, UInt32Value};

    fn read(change: impl FnOnce(&mut pb::RetryPolicy)) -> Result<crate::Read<RetryPolicy>> {
        let mut message = pb::RetryPolicy::default();
        change(&mut message);
        Context::read(|cx| read_retry_policy(cx, &message))
    }

    #[test]
    fn defaults_are_envoys() {
        let read = read(|message| message.retry_on = "5xx, connect-failure".into()).unwrap();
        assert!(read.notes.is_empty());
        let policy = read.value;
        assert!(policy.on.has(RetryOn::SERVER_ERROR) && policy.on.has(RetryOn::CONNECT_FAILURE));
        assert!(!policy.on.has(RetryOn::RESET));
        assert_eq!((policy.retries, policy.other_hosts, policy.host_selection_attempts), (1, false, 1));
        assert_eq!(policy.back_off, BackOff { base: BASE, max: Duration::from_millis(250) });
    }

    #[test]
    fn a_condition_that_nobody_knows_is_reported() {
        let read = read(|message| message.retry_on = "5XX,reset,http3-post-connect-failure".into()).unwrap();
        let notes: Vec<_> = read.notes.into_iter().map(|note| (note.path, note.reason)).collect();
        assert_eq!(notes.len(), 2);
        assert_eq!(notes[0], ("retry_on".into(), "\"5XX\" is not a condition that is known".into()));
        assert_eq!(read.value.on, RetryOn::RESET);
    }

    #[test]
    fn times_that_make_no_sense_are_refused() {
        let ms = |ms: i32| Some(PbDuration { seconds: 0, nanos: ms * 1_000_000 });
        let back_off =
            |base, max| Some(pb::retry_policy::RetryBackOff { base_interval: base, max_interval: max });
        let refused =
            |base, max| read(|message| message.retry_back_off = back_off(base, max)).unwrap_err().path;
        assert_eq!(refused(None, None), "retry_back_off.base_interval");
        assert_eq!(refused(ms(0), None), "retry_back_off.base_interval");
        assert_eq!(refused(ms(20), ms(10)), "retry_back_off.max_interval");
        let good = read(|message| message.retry_back_off = back_off(ms(20), ms(30))).unwrap().value;
        assert_eq!(good.back_off.max, Duration::from_millis(30));
        let codes = read(|message| message.retriable_status_codes = vec![503, 99]).unwrap_err();
        assert_eq!(codes.path, "retriable_status_codes[1]");
        let many = read(|message| message.num_retries = Some(UInt32Value { value: 0 })).unwrap().value;
        assert_eq!(many.retries, 0);
    }
}
