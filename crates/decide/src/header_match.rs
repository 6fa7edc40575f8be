//! `HeaderMatcher`: Envoy's rule for routes, and a stricter reading for authorization.

use crate::string_match::string_matches;
use crate::view::RequestView;
use config::model::{HeaderMatch, HeaderMatcher};
use std::borrow::Cow;

/// From which side a condition with several values is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// It holds if it could hold for any reader of the header (used where a match denies).
    Upper,
    /// It holds only if it holds for every value (used where a match allows).
    Lower,
}

impl Bound {
    /// The bound inside of a negation.
    pub fn flip(self) -> Self {
        match self {
            Bound::Upper => Bound::Lower,
            Bound::Lower => Bound::Upper,
        }
    }
}

/// Envoy's rule (since 1.39): a repeated header matches if one of its lines does, so an inverted condition holds if none
/// does. A missing header never matches a condition on its value, inverted or not, unless it counts as empty.
pub fn header_matches(matcher: &HeaderMatcher, request: &impl RequestView) -> bool {
    let mut lines = values(&matcher.name, request).peekable();
    let matched = match &matcher.condition {
        HeaderMatch::Present(present) => lines.peek().is_some() == *present,
        condition if lines.peek().is_some() => lines.any(|line| value_matches(condition, line)),
        condition if matcher.treat_missing_as_empty => value_matches(condition, b""),
        _ => return false,
    };
    matched != matcher.invert
}

/// The rule for authorization: a peer must not get round a policy by repeating a header or joining values by commas.
/// From above, the joined value, each line and each part between commas is tried; from below, every line must match.
pub fn header_matches_bound(matcher: &HeaderMatcher, request: &impl RequestView, bound: Bound) -> bool {
    let base = if matcher.invert { bound.flip() } else { bound };
    let mut lines = values(&matcher.name, request).peekable();
    let matched = match &matcher.condition {
        HeaderMatch::Present(present) => lines.peek().is_some() == *present,
        condition => {
            if lines.peek().is_none() {
                if !matcher.treat_missing_as_empty {
                    return false;
                }
                value_matches(condition, b"")
            } else {
                match base {
                    Bound::Lower => lines.all(|line| value_matches(condition, line)),
                    Bound::Upper => {
                        lines.any(|line| any_part(condition, line))
                            || joined(&matcher.name, request)
                                .is_some_and(|value| value_matches(condition, &value))
                    }
                }
            }
        }
    };
    matched != matcher.invert
}

fn any_part(condition: &HeaderMatch, line: &[u8]) -> bool {
    value_matches(condition, line)
        || (line.contains(&b',')
            && line.split(|byte| *byte == b',').any(|part| value_matches(condition, part.trim_ascii())))
}

fn value_matches(condition: &HeaderMatch, value: &[u8]) -> bool {
    match condition {
        HeaderMatch::Present(present) => *present,
        HeaderMatch::Range { start, end } => {
            let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<i64>().ok());
            number.is_some_and(|number| (*start..*end).contains(&number))
        }
        HeaderMatch::Value(matcher) => string_matches(matcher, value),
    }
}

/// All lines of a header joined by a comma. Allocates only for repeated headers.
pub fn joined<'a>(name: &'a str, request: &'a impl RequestView) -> Option<Cow<'a, [u8]>> {
    let mut lines = values(name, request);
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let mut all = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        all.push(b',');
        all.extend_from_slice(line);
    }
    Some(Cow::Owned(all))
}

fn values<'a>(name: &'a str, request: &'a impl RequestView) -> impl Iterator<Item = &'a [u8]> {
    let pseudo = match name {
        ":method" => Some(request.method()),
        ":path" => Some(request.target()),
        ":authority" | "host" => Some(request.authority()),
        ":scheme" => Some(request.scheme().as_bytes()),
        _ => None,
    };
    // A pseudo header that is not known is a header that is not there.
    let lines = (pseudo.is_none() && !name.starts_with(':')).then(|| request.header_values(name));
    pseudo.into_iter().chain(lines.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Request;
    use config::model::{StringMatch, StringMatcher};

    fn exact(name: &str, value: &str) -> HeaderMatcher {
        let condition = HeaderMatch::Value(StringMatcher::exact(value));
        HeaderMatcher { name: name.into(), condition, invert: false, treat_missing_as_empty: false }
    }

    fn inverted(matcher: HeaderMatcher) -> HeaderMatcher {
        HeaderMatcher { invert: true, ..matcher }
    }

    fn request() -> Request {
        Request::get("payment", "/x?y")
    }

    #[test]
    fn missing_headers_match_no_value() {
        assert!(!header_matches(&exact("a", "b"), &request()));
        assert!(!header_matches(&inverted(exact("a", "b")), &request()));
        assert!(header_matches(&inverted(exact("a", "b")), &request().with("A", "c")));
        let empty = HeaderMatcher { treat_missing_as_empty: true, ..exact("a", "") };
        assert!(header_matches(&empty, &request()));
        assert!(!header_matches(&inverted(empty), &request()));
    }

    #[test]
    fn presence_and_ranges() {
        let with = |condition| HeaderMatcher { condition, ..exact("n", "") };
        assert!(header_matches(&with(HeaderMatch::Present(false)), &request()));
        assert!(!header_matches(&inverted(with(HeaderMatch::Present(false))), &request()));
        assert!(header_matches(&inverted(with(HeaderMatch::Present(true))), &request()));
        let range = with(HeaderMatch::Range { start: -3, end: 5 });
        for (value, expected) in [("-3", true), ("4", true), ("5", false), ("4x", false), ("", false)] {
            assert_eq!(header_matches(&range, &request().with("n", value)), expected, "{value:?}");
        }
    }

    #[test]
    fn pseudo_headers() {
        assert!(header_matches(&exact(":method", "GET"), &request()));
        assert!(header_matches(&exact(":path", "/x?y"), &request()));
        assert!(header_matches(&exact("host", "payment"), &request()));
        assert!(!header_matches(&exact(":protocol", "x"), &request().with(":protocol", "x")));
    }

    #[test]
    fn routes_see_each_line_of_a_repeated_header() {
        let twice = request().with("a", "b").with("a", "c");
        assert!(header_matches(&exact("a", "b"), &twice) && header_matches(&exact("a", "c"), &twice));
        assert!(!header_matches(&exact("a", "b,c"), &twice));
        assert!(!header_matches(&inverted(exact("a", "c")), &twice));
        assert!(header_matches(&inverted(exact("a", "d")), &twice));
    }

    #[test]
    fn authorization_sees_no_value_in_a_missing_header() {
        let empty = exact("a", "");
        let as_empty = HeaderMatcher { treat_missing_as_empty: true, ..empty.clone() };
        for bound in [Bound::Upper, Bound::Lower] {
            for matcher in [empty.clone(), exact("a", "b")] {
                assert!(!header_matches_bound(&matcher, &request(), bound), "{matcher:?}");
                assert!(!header_matches_bound(&inverted(matcher), &request(), bound));
            }
            assert!(header_matches_bound(&as_empty, &request(), bound));
            assert!(!header_matches_bound(&inverted(as_empty.clone()), &request(), bound));
            let other = HeaderMatcher { treat_missing_as_empty: true, ..exact("a", "b") };
            assert!(!header_matches_bound(&other, &request(), bound));
            assert!(header_matches_bound(&inverted(other), &request(), bound));
        }
    }

    /// CVE-2026-26308, CVE-2021-32777, CVE-2024-10006: repeated and comma-joined headers.
    #[test]
    fn authorization_checks_every_value() {
        let admin = exact("x-role", "admin");
        for request in [
            request().with("x-role", "user").with("x-role", "admin"),
            request().with("x-role", "admin").with("x-role", "user"),
            request().with("x-role", "user, admin"),
        ] {
            assert!(header_matches_bound(&admin, &request, Bound::Upper), "{request:?} would not be denied");
            assert!(!header_matches_bound(&admin, &request, Bound::Lower), "{request:?} would be allowed");
            // "everyone but admin" must not allow it either, and denying "everyone but admin" must catch the user.
            assert!(!header_matches_bound(&inverted(admin.clone()), &request, Bound::Lower));
            assert!(header_matches_bound(&inverted(admin.clone()), &request, Bound::Upper));
        }
        let clean = request().with("x-role", "admin");
        assert!(header_matches_bound(&admin, &clean, Bound::Lower));
        let user = request().with("x-role", "user");
        assert!(!header_matches_bound(&admin, &user, Bound::Upper));
        let prefix = HeaderMatcher {
            condition: HeaderMatch::Value(StringMatcher {
                pattern: StringMatch::Prefix("user".into()),
                ignore_case: false,
            }),
            ..admin
        };
        assert!(!header_matches_bound(
            &prefix,
            &request().with("x-role", "user").with("x-role", "admin"),
            Bound::Lower
        ));
    }
}
