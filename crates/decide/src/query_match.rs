//! `QueryParameterMatcher`: the first value of a parameter, not decoded, as Envoy compares it.

use crate::string_match::string_matches;
use config::model::QueryMatcher;

/// Whether a query (without its question mark) meets a condition.
pub fn query_matches(matcher: &QueryMatcher, query: Option<&[u8]>) -> bool {
    let mut parameters =
        query.unwrap_or_default().split(|byte| *byte == b'&').filter(|part| !part.is_empty());
    let found = parameters.find_map(|part| {
        let (name, value) = match part.iter().position(|byte| *byte == b'=') {
            Some(end) => (&part[..end], &part[end + 1..]),
            None => (part, &[][..]),
        };
        (name == matcher.name.as_bytes()).then_some(value)
    });
    match (&matcher.value, found) {
        (Some(condition), Some(value)) => string_matches(condition, value),
        (Some(_), None) => false,
        (None, found) => found.is_some() == matcher.present,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::StringMatcher;

    #[test]
    fn the_first_value_counts() {
        let value =
            |text| QueryMatcher { name: "v".into(), value: Some(StringMatcher::exact(text)), present: true };
        assert!(query_matches(&value("1"), Some(b"a&v=1&v=2")));
        assert!(!query_matches(&value("2"), Some(b"a&v=1&v=2")));
        assert!(query_matches(&value(""), Some(b"v")));
        assert!(!query_matches(&value(""), Some(b"vv=")));
        let present = |present| QueryMatcher { name: "v".into(), value: None, present };
        assert!(query_matches(&present(true), Some(b"v=x")) && !query_matches(&present(true), None));
        assert!(query_matches(&present(false), None) && !query_matches(&present(false), Some(b"v")));
    }
}
