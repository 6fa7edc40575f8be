//! `envoy.type.matcher.v3.StringMatcher`, `RegexMatcher` and `RegexMatchAndSubstitute`.

use super::name::name;
use crate::context::{Context, Result};
use crate::model::{Regex, StringMatch, StringMatcher};
use protos::envoy::envoy::r#type::matcher::v3 as matcher;
use std::sync::Arc;

/// Reads a condition on a string.
pub fn read_string_matcher(cx: &mut Context, message: &matcher::StringMatcher) -> Result<StringMatcher> {
    use matcher::string_matcher::MatchPattern;
    let matcher::StringMatcher { ignore_case, match_pattern } = message;
    let ignore_case = *ignore_case;
    let text = |value: &str| -> Arc<str> {
        if ignore_case { value.to_ascii_lowercase().into() } else { value.into() }
    };
    let pattern = match match_pattern {
        Some(MatchPattern::Exact(value)) => StringMatch::Exact(text(value)),
        // Envoy demands a value for these: an empty one would match everything.
        Some(MatchPattern::Prefix(value)) => StringMatch::Prefix(text(not_empty(cx, "prefix", value)?)),
        Some(MatchPattern::Suffix(value)) => StringMatch::Suffix(text(not_empty(cx, "suffix", value)?)),
        Some(MatchPattern::Contains(value)) => StringMatch::Contains(text(not_empty(cx, "contains", value)?)),
        Some(MatchPattern::SafeRegex(regex)) => {
            if ignore_case {
                return Err(
                    cx.refused_field("ignore_case", "has no effect on safe_regex: write (?i) in the pattern")
                );
            }
            StringMatch::Regex(cx.field("safe_regex", |cx| read_regex(cx, regex))?)
        }
        Some(MatchPattern::Custom(custom)) => {
            let reason =
                format!("custom string matchers are not supported: {:?}", name(cx, "custom", &custom.name)?);
            return Err(cx.refused_field("custom", reason));
        }
        None => return Err(cx.refused("has no pattern, or one of a kind that is not known")),
    };
    Ok(StringMatcher { pattern, ignore_case })
}

fn not_empty<'a>(cx: &mut Context, field: &str, value: &'a str) -> Result<&'a str> {
    if value.is_empty() {
        Err(cx.refused_field(field, "is empty: it would match everything"))
    } else {
        Ok(value)
    }
}

/// Reads a regular expression.
pub fn read_regex(cx: &mut Context, message: &matcher::RegexMatcher) -> Result<Regex> {
    let matcher::RegexMatcher { regex, engine_type } = message;
    if let Some(matcher::regex_matcher::EngineType::GoogleRe2(engine)) = engine_type {
        let matcher::regex_matcher::GoogleRe2 { max_program_size } = engine;
        if max_program_size.is_some() {
            cx.field("google_re2.max_program_size", |cx| cx.note("the size of every pattern is limited"));
        }
    }
    if regex.is_empty() {
        return Err(cx.refused_field("regex", "is empty"));
    }
    Regex::new(regex).map_err(|error| cx.refused_field("regex", error.to_string()))
}

/// Reads a pattern and what replaces its matches.
pub fn read_substitution(
    cx: &mut Context,
    message: &matcher::RegexMatchAndSubstitute,
) -> Result<(Regex, Arc<str>)> {
    let matcher::RegexMatchAndSubstitute { pattern, substitution } = message;
    let pattern = cx.required("pattern", pattern)?;
    let regex = cx.field("pattern", |cx| read_regex(cx, pattern))?;
    let substitution = name(cx, "substitution", substitution)?;
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            continue;
        }
        let valid = match characters.next() {
            Some('\\') => true,
            Some(digit) => digit.to_digit(10).is_some_and(|group| group as usize <= regex.groups()),
            None => false,
        };
        if !valid {
            let reason =
                format!("{substitution:?}: a backslash is followed by a group of the pattern or a backslash");
            return Err(cx.refused_field("substitution", reason));
        }
    }
    Ok((regex, substitution))
}

#[cfg(test)]
mod tests {
    use super::*;
    use matcher::string_matcher::MatchPattern;

    fn read(pattern: MatchPattern, ignore_case: bool) -> Result<StringMatcher> {
        let message = matcher::StringMatcher { ignore_case, match_pattern: Some(pattern) };
        Context::read(|cx| read_string_matcher(cx, &message)).map(|read| read.value)
    }

    fn regex(pattern: &str) -> matcher::RegexMatcher {
        matcher::RegexMatcher { regex: pattern.into(), engine_type: None }
    }

    #[test]
    fn reads_every_kind() {
        assert_eq!(
            read(MatchPattern::Exact("True".into()), true).unwrap().pattern,
            StringMatch::Exact("true".into())
        );
        assert_eq!(
            read(MatchPattern::Prefix("A".into()), false).unwrap().pattern,
            StringMatch::Prefix("A".into())
        );
        assert!(matches!(
            read(MatchPattern::SafeRegex(regex("a.*")), false).unwrap().pattern,
            StringMatch::Regex(_)
        ));
    }

    #[test]
    fn refuses_what_would_match_everything_or_nothing_known() {
        assert_eq!(read(MatchPattern::Prefix(String::new()), false).unwrap_err().path, "prefix");
        assert_eq!(read(MatchPattern::SafeRegex(regex("(")), false).unwrap_err().path, "safe_regex.regex");
        assert!(read(MatchPattern::SafeRegex(regex("a")), true).is_err());
        assert!(Context::read(|cx| read_string_matcher(cx, &Default::default())).is_err());
    }

    #[test]
    fn substitutions_name_groups_that_exist() {
        let read = |substitution: &str| {
            let message = matcher::RegexMatchAndSubstitute {
                pattern: Some(regex("/(a)/")),
                substitution: substitution.into(),
            };
            Context::read(|cx| read_substitution(cx, &message))
        };
        assert!(read(r"/\1/\\").is_ok());
        for bad in [r"\2", r"\x", "\\"] {
            assert_eq!(read(bad).unwrap_err().path, "substitution");
        }
    }

    #[test]
    fn reports_the_program_size() {
        let mut message = regex("a");
        let engine = matcher::regex_matcher::GoogleRe2 { max_program_size: Some(Default::default()) };
        message.engine_type = Some(matcher::regex_matcher::EngineType::GoogleRe2(engine));
        let read = Context::read(|cx| read_regex(cx, &message)).unwrap();
        assert_eq!(read.notes[0].path, "google_re2.max_program_size");
    }
}
