//! Whether a request meets the conditions of the configuration: strings, headers, query parameters, paths.

use std::borrow::Cow;

use bytes::Bytes;
use config::model::{HeaderMatch, HeaderMatcher, PathMatch, QueryMatcher, RouteMatch, StringMatch, StringMatcher};

use crate::http::RequestHead;
use crate::telemetry::Random;

/// How a header with several values is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    /// As one text joined by commas (Envoy's routes).
    Joined,
    /// One that matches is enough: each line, each part between commas, and the joined text (what denies).
    Any,
    /// Every line must match (what allows).
    All,
}

impl Values {
    /// The same question asked about the opposite.
    pub fn opposite(self) -> Self {
        match self {
            Values::Joined => Values::Joined,
            Values::Any => Values::All,
            Values::All => Values::Any,
        }
    }
}

/// Whether a text meets a condition.
pub fn string(matcher: &StringMatcher, value: &[u8]) -> bool {
    let lower: Cow<'_, [u8]> = if matcher.ignore_case && value.iter().any(u8::is_ascii_uppercase) {
        Cow::Owned(value.to_ascii_lowercase())
    } else {
        Cow::Borrowed(value)
    };
    match &matcher.pattern {
        StringMatch::Exact(text) => *lower == *text.as_bytes(),
        StringMatch::Prefix(text) => lower.starts_with(text.as_bytes()),
        StringMatch::Suffix(text) => lower.ends_with(text.as_bytes()),
        StringMatch::Contains(text) => memchr::memmem::find(&lower, text.as_bytes()).is_some(),
        // Matched against what was sent: a pattern says itself whether case counts.
        StringMatch::Regex(regex) => regex.is_full_match(value),
    }
}

/// Whether a request's header meets a condition.
pub fn header(matcher: &HeaderMatcher, head: &RequestHead, values: Values) -> bool {
    let lines = lines(head, &matcher.name);
    if let HeaderMatch::Present(wanted) = &matcher.condition {
        return (lines.is_empty() != *wanted) != matcher.invert;
    }
    if lines.is_empty() {
        return matcher.treat_missing_as_empty && (one(&matcher.condition, b"") != matcher.invert);
    }
    let test = |value: &[u8]| one(&matcher.condition, value) != matcher.invert;
    match (values, lines.as_slice()) {
        (Values::Joined, [only]) => test(only),
        (Values::Joined, _) => test(&join(&lines)),
        (Values::All, all) => all.iter().all(|line| test(line)),
        (Values::Any, all) => {
            all.iter().any(|line| test(line) || line.split(|byte| *byte == b',').any(|part| test(part.trim_ascii())))
                || (all.len() > 1 && test(&join(all)))
        }
    }
}

fn one(condition: &HeaderMatch, value: &[u8]) -> bool {
    match condition {
        HeaderMatch::Present(wanted) => *wanted,
        HeaderMatch::Range { start, end } => std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .is_some_and(|number| (*start..*end).contains(&number)),
        HeaderMatch::Value(matcher) => string(matcher, value),
    }
}

fn join(lines: &[Bytes]) -> Vec<u8> {
    lines.iter().map(|line| line.as_ref()).collect::<Vec<_>>().join(&b","[..])
}

fn lines(head: &RequestHead, name: &str) -> smallvec::SmallVec<[Bytes; 2]> {
    match name {
        ":method" => std::iter::once(Bytes::copy_from_slice(head.method.as_str().as_bytes())).collect(),
        ":path" => std::iter::once(head.target.clone()).collect(),
        ":authority" | "host" => std::iter::once(head.authority.clone()).collect(),
        ":scheme" => std::iter::once(Bytes::from_static(head.scheme.as_str().as_bytes())).collect(),
        name => head.headers.get_all(name).cloned().collect(),
    }
}

/// Whether a query parameter meets a condition. The first of several of the same name counts.
pub fn query(matcher: &QueryMatcher, query: Option<&[u8]>) -> bool {
    let parameters = query.unwrap_or_default().split(|byte| *byte == b'&');
    let value = parameters.map(|pair| match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[][..]),
    });
    let found = value.into_iter().find(|(name, _)| *name == matcher.name.as_bytes()).map(|(_, value)| value);
    match (&matcher.value, found) {
        (Some(condition), Some(value)) => string(condition, value),
        (Some(_), None) => false,
        (None, found) => found.is_some() == matcher.present,
    }
}

/// Whether a request meets all conditions of a route.
pub fn route(matcher: &RouteMatch, head: &RequestHead, ignore_parameters: bool, random: &Random) -> bool {
    path(matcher, head.path(), ignore_parameters)
        && matcher.headers.iter().all(|condition| header(condition, head, Values::Joined))
        && matcher.query_parameters.iter().all(|condition| query(condition, head.query()))
        && (!matcher.grpc || is_grpc(head))
        && matcher.runtime_fraction.is_none_or(|fraction| random.below(1_000_000) < u64::from(fraction))
}

fn is_grpc(head: &RequestHead) -> bool {
    head.headers.get("content-type").is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

fn path(matcher: &RouteMatch, path: &[u8], ignore_parameters: bool) -> bool {
    let end = if ignore_parameters { memchr::memchr(b';', path) } else { None };
    let sent = &path[..end.unwrap_or(path.len())];
    let lower;
    let path: &[u8] = if matcher.case_sensitive {
        sent
    } else {
        lower = sent.to_ascii_lowercase();
        &lower
    };
    match &matcher.path {
        PathMatch::Prefix(prefix) => path.starts_with(prefix.as_bytes()),
        PathMatch::Exact(text) => path == text.as_bytes(),
        PathMatch::SeparatedPrefix(prefix) => {
            path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
        }
        PathMatch::Regex(regex) => regex.is_full_match(sent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::get;
    use config::model::Regex;

    fn condition(pattern: StringMatch, invert: bool) -> HeaderMatcher {
        HeaderMatcher {
            name: "x-role".into(),
            condition: HeaderMatch::Value(StringMatcher { pattern, ignore_case: false }),
            invert,
            treat_missing_as_empty: false,
        }
    }

    #[test]
    fn strings_are_literals() {
        let test = |pattern, ignore_case, value: &str| string(&StringMatcher { pattern, ignore_case }, value.as_bytes());
        for special in ["a.b", "a*", "a+b", "[a]"] {
            assert!(test(StringMatch::Exact(special.into()), false, special));
            assert!(!test(StringMatch::Exact(special.into()), false, "axb"));
        }
        assert!(test(StringMatch::Suffix("/sa/b".into()), false, "x/sa/b"));
        assert!(!test(StringMatch::Prefix("A".into()), false, "a"));
        assert!(test(StringMatch::Contains("bc".into()), true, "aBCd"));
        assert!(!test(StringMatch::Regex(Regex::new("b").unwrap()), false, "abc"), "the whole value must match");
    }

    #[test]
    fn every_value_of_a_repeated_header_counts() {
        let admin = condition(StringMatch::Exact("admin".into()), false);
        let repeated = get("/", &[("X-Role", "user"), ("x-role", "admin")]);
        let listed = get("/", &[("x-role", "user, admin")]);
        for head in [&repeated, &listed] {
            assert!(header(&admin, head, Values::Any), "what denies sees each value");
            assert!(!header(&admin, head, Values::All), "what allows wants all of them");
            assert!(!header(&admin, head, Values::Joined));
        }
        assert!(header(&condition(StringMatch::Exact("user,admin".into()), false), &repeated, Values::Joined));
        let not_admin = condition(StringMatch::Exact("admin".into()), true);
        assert!(header(&not_admin, &repeated, Values::Any) && !header(&not_admin, &repeated, Values::All));
    }

    #[test]
    fn a_missing_header_matches_nothing_unless_absence_is_asked_for() {
        let head = get("/", &[]);
        for invert in [false, true] {
            assert!(!header(&condition(StringMatch::Prefix("".into()), invert), &head, Values::Joined));
        }
        let mut matcher = condition(StringMatch::Exact("".into()), false);
        matcher.treat_missing_as_empty = true;
        assert!(header(&matcher, &head, Values::Joined));
        matcher.condition = HeaderMatch::Present(false);
        assert!(header(&matcher, &head, Values::Joined));
        assert!(!header(&matcher, &get("/", &[("x-role", "")]), Values::Joined));
        matcher.condition = HeaderMatch::Range { start: 1, end: 3 };
        assert!(header(&matcher, &get("/", &[("x-role", "2")]), Values::Joined));
        assert!(!header(&matcher, &get("/", &[("x-role", "3")]), Values::Joined));
    }

    #[test]
    fn paths_and_queries() {
        let matcher = |path, case_sensitive| RouteMatch {
            path,
            case_sensitive,
            headers: vec![],
            query_parameters: vec![],
            grpc: false,
            runtime_fraction: None,
        };
        let test = |path: PathMatch, target: &'static str| {
            route(&matcher(path, true), &get(target, &[]), false, &Random::seeded(1))
        };
        assert!(test(PathMatch::Exact("/a".into()), "/a?b") && !test(PathMatch::Exact("/a".into()), "/a/"));
        assert!(test(PathMatch::SeparatedPrefix("/a".into()), "/a/b") && !test(PathMatch::SeparatedPrefix("/a".into()), "/ab"));
        assert!(test(PathMatch::Regex(Regex::new("/[0-9]+").unwrap()), "/12?x") && !test(PathMatch::Regex(Regex::new("/[0-9]+").unwrap()), "/12/"));
        let insensitive = matcher(PathMatch::Prefix("/a".into()), false);
        assert!(route(&insensitive, &get("/A", &[]), false, &Random::seeded(1)));
        let parameters = matcher(PathMatch::Exact("/a".into()), true);
        assert!(route(&parameters, &get("/a;x=1", &[]), true, &Random::seeded(1)));
        assert!(!route(&parameters, &get("/a;x=1", &[]), false, &Random::seeded(1)));

        let value = |text: &str| Some(StringMatcher::exact(text));
        let wanted = |value, present| QueryMatcher { name: "a".into(), value, present };
        assert!(query(&wanted(value("1"), true), Some(b"b=2&a=1&a=3")));
        assert!(!query(&wanted(value("3"), true), Some(b"a=1&a=3")));
        assert!(query(&wanted(None, true), Some(b"a")) && query(&wanted(None, false), None));
    }
}
