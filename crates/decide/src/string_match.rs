//! `StringMatcher` on bytes. Linear in the length of the value.

use config::model::{StringMatch, StringMatcher};

/// Whether a value meets a condition.
pub fn string_matches(matcher: &StringMatcher, value: &[u8]) -> bool {
    let StringMatcher { pattern, ignore_case } = matcher;
    let equal = |left: &[u8], right: &[u8]| {
        if *ignore_case { left.eq_ignore_ascii_case(right) } else { left == right }
    };
    match pattern {
        StringMatch::Exact(text) => equal(value, text.as_bytes()),
        StringMatch::Prefix(text) => {
            value.get(..text.len()).is_some_and(|begin| equal(begin, text.as_bytes()))
        }
        StringMatch::Suffix(text) => {
            value.len().checked_sub(text.len()).is_some_and(|begin| equal(&value[begin..], text.as_bytes()))
        }
        StringMatch::Contains(text) if *ignore_case => {
            memchr::memmem::find(&value.to_ascii_lowercase(), text.as_bytes()).is_some()
        }
        StringMatch::Contains(text) => memchr::memmem::find(value, text.as_bytes()).is_some(),
        StringMatch::Regex(regex) => regex.is_full_match(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::Regex;

    #[test]
    fn every_kind_with_its_twin() {
        let matches = |pattern, ignore_case, value: &str| {
            string_matches(&StringMatcher { pattern, ignore_case }, value.as_bytes())
        };
        let exact = || StringMatch::Exact("true".into());
        assert!(
            matches(exact(), false, "true")
                && !matches(exact(), false, "True")
                && matches(exact(), true, "True")
        );
        let prefix = || StringMatch::Prefix("/api".into());
        assert!(
            matches(prefix(), false, "/api/x")
                && !matches(prefix(), false, "/ap")
                && matches(prefix(), true, "/APIs")
        );
        let suffix = || StringMatch::Suffix(".html".into());
        assert!(
            matches(suffix(), false, "a.html")
                && !matches(suffix(), false, "html")
                && matches(suffix(), true, "a.HTML")
        );
        let contains = || StringMatch::Contains("ell".into());
        assert!(
            matches(contains(), false, "hello")
                && !matches(contains(), false, "HELLO")
                && matches(contains(), true, "HELLO")
        );
        let regex = || StringMatch::Regex(Regex::new("a+").unwrap());
        assert!(matches(regex(), false, "aaa") && !matches(regex(), false, "aaab"));
    }

    #[test]
    fn literals_have_no_magic() {
        let exact = StringMatcher::exact("spiffe://a.b/ns/*/sa/x+");
        assert!(string_matches(&exact, b"spiffe://a.b/ns/*/sa/x+"));
        assert!(!string_matches(&exact, b"spiffe://aXb/ns/prod/sa/xx"));
    }
}
