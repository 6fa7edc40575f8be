//! Conditions on strings, headers and query parameters, compiled. Their meaning is in the crate `decide`.

use super::regex::Regex;
use std::sync::Arc;

/// A condition on one string (`envoy.type.matcher.v3.StringMatcher`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StringMatcher {
    /// The condition. With `ignore_case` its text is already in ASCII lower case.
    pub pattern: StringMatch,
    /// ASCII case does not count (never with a regular expression).
    pub ignore_case: bool,
}

/// How a string is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Begins with.
    Prefix(Arc<str>),
    /// Ends with.
    Suffix(Arc<str>),
    /// Has somewhere inside.
    Contains(Arc<str>),
    /// The whole value matches.
    Regex(Regex),
}

impl StringMatcher {
    /// An exact, case-sensitive condition.
    pub fn exact(text: &str) -> Self {
        StringMatcher { pattern: StringMatch::Exact(text.into()), ignore_case: false }
    }
}

/// A condition on one request header (`envoy.config.route.v3.HeaderMatcher`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatcher {
    /// Header name in lower case; pseudo headers are `:method`, `:path`, `:authority`, `:scheme`.
    pub name: Arc<str>,
    /// The condition.
    pub condition: HeaderMatch,
    /// The result is turned round.
    pub invert: bool,
    /// A missing header counts as an empty value; without it a missing header never matches, inverted or not
    /// (except for [`HeaderMatch::Present`]).
    pub treat_missing_as_empty: bool,
}

/// What a header is tested for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMatch {
    /// Present (`true`) or absent (`false`).
    Present(bool),
    /// A decimal integer in `start..end`.
    Range {
        /// Inclusive.
        start: i64,
        /// Exclusive.
        end: i64,
    },
    /// The value as a string.
    Value(StringMatcher),
}

/// A condition on one query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMatcher {
    /// Parameter name, compared with the raw (not decoded) name.
    pub name: Arc<str>,
    /// The condition on its first value; `None`: present is enough.
    pub value: Option<StringMatcher>,
    /// With `value: None`: present (`true`) or absent (`false`).
    pub present: bool,
}
