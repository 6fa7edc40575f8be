//! `envoy.config.route.v3.HeaderMatcher`.

use super::name::header_name;
use super::string_matcher::{read_regex, read_string_matcher};
use crate::context::{Context, Result};
use crate::model::{HeaderMatch, HeaderMatcher, StringMatch, StringMatcher};
use protos::envoy::envoy::config::route::v3 as route;
use protos::envoy::envoy::r#type::v3::Int64Range;

/// Reads a condition on a header.
pub fn read_header_matcher(cx: &mut Context, message: &route::HeaderMatcher) -> Result<HeaderMatcher> {
    use route::header_matcher::HeaderMatchSpecifier;
    let route::HeaderMatcher { name, invert_match, treat_missing_header_as_empty, header_match_specifier } =
        message;
    let name = header_name(cx, "name", name, true)?;
    let value = |pattern| HeaderMatch::Value(StringMatcher { pattern, ignore_case: false });
    let condition = match header_match_specifier {
        // No condition: the header must be there.
        None => HeaderMatch::Present(true),
        Some(HeaderMatchSpecifier::PresentMatch(present)) => HeaderMatch::Present(*present),
        Some(HeaderMatchSpecifier::RangeMatch(Int64Range { start, end })) => {
            HeaderMatch::Range { start: *start, end: *end }
        }
        Some(HeaderMatchSpecifier::StringMatch(matcher)) => {
            HeaderMatch::Value(cx.field("string_match", |cx| read_string_matcher(cx, matcher))?)
        }
        Some(HeaderMatchSpecifier::ExactMatch(text)) => value(StringMatch::Exact(text.as_str().into())),
        Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => {
            value(StringMatch::Regex(cx.field("safe_regex_match", |cx| read_regex(cx, regex))?))
        }
        Some(HeaderMatchSpecifier::PrefixMatch(text)) => {
            value(StringMatch::Prefix(filled(cx, "prefix_match", text)?))
        }
        Some(HeaderMatchSpecifier::SuffixMatch(text)) => {
            value(StringMatch::Suffix(filled(cx, "suffix_match", text)?))
        }
        Some(HeaderMatchSpecifier::ContainsMatch(text)) => {
            value(StringMatch::Contains(filled(cx, "contains_match", text)?))
        }
    };
    Ok(HeaderMatcher {
        name,
        condition,
        invert: *invert_match,
        treat_missing_as_empty: *treat_missing_header_as_empty,
    })
}

fn filled(cx: &mut Context, field: &str, text: &str) -> Result<std::sync::Arc<str>> {
    if text.is_empty() {
        return Err(cx.refused_field(field, "is empty: it would match everything"));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use route::header_matcher::HeaderMatchSpecifier;

    fn read(name: &str, specifier: Option<HeaderMatchSpecifier>) -> Result<HeaderMatcher> {
        let message = route::HeaderMatcher {
            name: name.into(),
            header_match_specifier: specifier,
            ..Default::default()
        };
        Context::read(|cx| read_header_matcher(cx, &message)).map(|read| read.value)
    }

    #[test]
    fn reads_conditions() {
        assert_eq!(read("X-A", None).unwrap().condition, HeaderMatch::Present(true));
        let exact = read(":method", Some(HeaderMatchSpecifier::ExactMatch("GET".into()))).unwrap();
        assert_eq!(exact.condition, HeaderMatch::Value(StringMatcher::exact("GET")));
        let range = HeaderMatchSpecifier::RangeMatch(Int64Range { start: -1, end: 3 });
        assert_eq!(read("x", Some(range)).unwrap().condition, HeaderMatch::Range { start: -1, end: 3 });
    }

    #[test]
    fn refuses_bad_names_and_empty_texts() {
        assert_eq!(read("a b", None).unwrap_err().path, "name");
        assert_eq!(
            read("a", Some(HeaderMatchSpecifier::PrefixMatch(String::new()))).unwrap_err().path,
            "prefix_match"
        );
    }
}
