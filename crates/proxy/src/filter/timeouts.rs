//! How long a request may take, from the route, its gRPC deadline and the connection manager: Envoy's rules.

use std::time::Duration;

use config::model::{Forward, HttpConnectionManager, RetryPolicy};

use super::deadlines::Limits;
use crate::http::Headers;

/// The times of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Limits of the request as a whole.
    pub limits: Limits,
    /// Limit of one try.
    pub per_try: Option<Duration>,
}

impl Timeouts {
    /// For a request on that route; rewrites its `grpc-timeout` where the route holds it to another time.
    pub fn of(
        forward: &Forward,
        policy: Option<&RetryPolicy>,
        config: &HttpConnectionManager,
        headers: &mut Headers,
        grpc: bool,
    ) -> Self {
        let route = route_timeout(forward, headers, grpc);
        let per_try = policy.and_then(|policy| policy.per_try_timeout);
        // A try that may take as long as all of them needs no clock of its own.
        let per_try = per_try.filter(|limit| route.is_none_or(|route| *limit < route));
        let limits = Limits {
            route,
            request: config.request_timeout,
            idle: forward.idle_timeout.unwrap_or(config.stream_idle_timeout),
            duration: stream_duration(forward, config, headers, grpc),
        };
        Timeouts { limits, per_try }
    }

    /// What the upstream is told that it has, once so much of the time has passed.
    pub fn expected(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.limits.route.map(|route| route.saturating_sub(elapsed).max(Duration::from_millis(1)));
        match (self.per_try, left) {
            (Some(per_try), Some(left)) => Some(per_try.min(left)),
            (per_try, left) => per_try.or(left),
        }
    }
}

/// From the end of the request to the end of the response. A route with `max_stream_duration` has no other limit.
fn route_timeout(forward: &Forward, headers: &mut Headers, grpc: bool) -> Option<Duration> {
    if forward.max_stream_duration.is_some() {
        return None;
    }
    let Some(max) = forward.max_grpc_timeout.filter(|_| grpc) else { return forward.timeout };
    let asked = headers.get("grpc-timeout").and_then(grpc_timeout);
    // Never down to zero, which would be no limit.
    let asked = asked.map(|asked| match forward.grpc_timeout_offset {
        Some(offset) if offset < asked => asked - offset,
        _ => asked,
    });
    let asked = asked.filter(|asked| !asked.is_zero());
    let max = Some(max).filter(|max| !max.is_zero());
    let limit = match (asked, max) {
        (Some(asked), Some(max)) => Some(asked.min(max)),
        (asked, max) => asked.or(max),
    };
    // The upstream is told the same.
    if let Some(limit) = limit {
        headers.set("grpc-timeout", grpc_timeout_text(limit));
    }
    limit
}

/// From the head of the request on.
fn stream_duration(
    forward: &Forward,
    config: &HttpConnectionManager,
    headers: &mut Headers,
    grpc: bool,
) -> Option<Duration> {
    let Some(rules) = &forward.max_stream_duration else { return config.max_stream_duration };
    let asked = headers.get("grpc-timeout").and_then(grpc_timeout);
    let limit = match (asked, rules.grpc_header_max) {
        (Some(asked), Some(max)) => {
            let capped = if max.is_zero() { asked } else { asked.min(max) };
            Some(capped.saturating_sub(rules.grpc_header_offset.unwrap_or_default()))
        }
        _ => match rules.duration {
            Some(duration) => Some(duration).filter(|duration| !duration.is_zero()),
            None => config.max_stream_duration,
        },
    };
    if grpc {
        match limit {
            Some(limit) => headers.set("grpc-timeout", grpc_timeout_text(limit)),
            None => drop(headers.remove("grpc-timeout")),
        }
    }
    limit
}

/// `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3_600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The same as text, in the finest unit of milliseconds and above that fits.
fn grpc_timeout_text(limit: Duration) -> String {
    const MOST: u128 = 99_999_999;
    let units = [(1u128, 'm'), (1_000, 'S'), (60_000, 'M'), (3_600_000, 'H')];
    let milliseconds = limit.as_millis();
    let fitting = units.into_iter().find(|(size, _)| milliseconds / size <= MOST);
    fitting.map_or_else(|| format!("{MOST}H"), |(size, unit)| format!("{}{unit}", milliseconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{forward, manager};
    use config::model::{ClusterSpecifier, MaxStreamDuration};

    const S: Duration = Duration::from_secs(1);

    fn of(header: Option<&'static str>, edit: impl FnOnce(&mut Forward)) -> (Limits, Headers) {
        let mut forward = forward(ClusterSpecifier::Cluster("a".into()));
        forward.timeout = Some(15 * S);
        edit(&mut forward);
        let mut headers = Headers::new();
        if let Some(header) = header {
            headers.set("grpc-timeout", header);
        }
        let timeouts = Timeouts::of(&forward, None, &manager(), &mut headers, true);
        (timeouts.limits, headers)
    }

    #[test]
    fn a_grpc_deadline_counts_where_the_route_says_so_and_up_to_its_limit() {
        assert_eq!(of(Some("3S"), |_| ()).0.route, Some(15 * S));
        let limited = |header, max, offset| {
            of(header, |forward| {
                forward.max_grpc_timeout = Some(max);
                forward.grpc_timeout_offset = offset;
            })
            .0
            .route
        };
        assert_eq!(limited(Some("3S"), 10 * S, None), Some(3 * S));
        assert_eq!(limited(Some("30S"), 10 * S, None), Some(10 * S));
        assert_eq!(limited(None, 10 * S, None), Some(10 * S));
        assert_eq!(limited(None, Duration::ZERO, None), None);
        assert_eq!(limited(Some("3S"), Duration::ZERO, Some(S)), Some(2 * S));
        assert_eq!(limited(Some("1S"), Duration::ZERO, Some(S)), Some(S), "never down to no limit");
    }

    #[test]
    fn the_streams_duration_takes_the_place_of_the_timeout() {
        let duration = |header, rules: MaxStreamDuration| {
            let (limits, headers) = of(header, |forward| forward.max_stream_duration = Some(rules));
            assert_eq!(limits.route, None);
            (limits.duration, headers.get_str("grpc-timeout").map(str::to_owned))
        };
        let rules = MaxStreamDuration { duration: Some(2 * S), ..Default::default() };
        assert_eq!(duration(Some("9S"), rules), (Some(2 * S), Some("2000m".to_owned())));
        let rules = MaxStreamDuration { grpc_header_max: Some(5 * S), ..rules };
        assert_eq!(duration(Some("9S"), rules), (Some(5 * S), Some("5000m".to_owned())));
        assert_eq!(duration(None, rules), (Some(2 * S), Some("2000m".to_owned())));
        let rules =
            MaxStreamDuration { grpc_header_offset: Some(S), grpc_header_max: Some(5 * S), duration: None };
        assert_eq!(duration(Some("3S"), rules), (Some(2 * S), Some("2000m".to_owned())));
    }

    #[test]
    fn the_connection_manager_limits_the_request() {
        let forward = forward(ClusterSpecifier::Cluster("a".into()));
        for limit in [None, Some(2 * S)] {
            let config = HttpConnectionManager { request_timeout: limit, ..manager() };
            let timeouts = Timeouts::of(&forward, None, &config, &mut Headers::new(), false);
            assert_eq!(timeouts.limits.request, limit);
        }
    }

    #[test]
    fn deadlines_that_are_none_are_not_read() {
        for bad in ["", "S", "123456789S", "1", "1s", "-1S", "1.5S", " 1S"] {
            assert_eq!(grpc_timeout(bad.as_bytes()), None, "{bad:?}");
        }
        let longest = Duration::from_secs(99_999_999 * 3_600);
        assert_eq!(grpc_timeout(b"99999999H"), Some(longest));
        assert_eq!(grpc_timeout_text(longest), "99999999H");
        assert_eq!(grpc_timeout_text(150_000 * S), "150000S");
    }
}
