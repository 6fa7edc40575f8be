//! A compiled regular expression with RE2's meaning: linear time, bounded size, whole-value match.

use std::sync::Arc;

/// The longest pattern accepted, in bytes.
pub const MAX_PATTERN: usize = 4096;
/// The largest compiled program accepted, in bytes.
pub const MAX_PROGRAM: usize = 1 << 20;

/// A pattern that must match a whole value (RE2 `FullMatch`). Equality is equality of the pattern's text.
#[derive(Debug, Clone)]
pub struct Regex {
    pattern: Arc<str>,
    whole: ::regex::bytes::Regex,
    part: ::regex::bytes::Regex,
}

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("regular expression {pattern:?}: {reason}")]
pub struct RegexError {
    /// The pattern, cut to 128 characters.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Regex {
    /// Compiles a pattern. Classes such as `\w` are ASCII as in RE2; a pattern that needs Unicode classes gets them.
    pub fn new(pattern: &str) -> Result<Self, RegexError> {
        let fail = |reason: String| RegexError { pattern: pattern.chars().take(128).collect(), reason };
        if pattern.len() > MAX_PATTERN {
            return Err(fail(format!("{} bytes long, the limit is {MAX_PATTERN}", pattern.len())));
        }
        // The bare pattern is compiled too: `a)|(b` must not become valid by being wrapped in a group.
        let part = compile(pattern).map_err(|error| fail(error.to_string()))?;
        let whole = compile(&format!(r"\A(?:{pattern})\z")).map_err(|error| fail(error.to_string()))?;
        Ok(Regex { pattern: pattern.into(), whole, part })
    }

    /// The pattern's text.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether the whole value matches.
    pub fn is_full_match(&self, value: &[u8]) -> bool {
        self.whole.is_match(value)
    }

    /// Replaces every match (RE2 `GlobalReplace`); `substitution` uses `\1` for groups.
    pub fn replace_all(&self, value: &[u8], substitution: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(value.len());
        let mut last = 0;
        for captures in self.part.captures_iter(value) {
            let Some(found) = captures.get(0) else { continue };
            out.extend_from_slice(&value[last..found.start()]);
            expand(substitution, &captures, &mut out);
            last = found.end();
        }
        out.extend_from_slice(&value[last..]);
        out
    }

    /// Number of capture groups, the whole match not counted.
    pub fn groups(&self) -> usize {
        self.part.captures_len().saturating_sub(1)
    }
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Regex {}

fn compile(pattern: &str) -> Result<::regex::bytes::Regex, ::regex::Error> {
    let build = |unicode: bool| {
        ::regex::bytes::RegexBuilder::new(pattern)
            .unicode(unicode)
            .size_limit(MAX_PROGRAM)
            .nest_limit(64)
            .build()
    };
    build(false).or_else(|_| build(true))
}

/// RE2's substitution syntax: `\0`..`\9` are groups, `\\` is a backslash.
fn expand(substitution: &str, captures: &::regex::bytes::Captures<'_>, out: &mut Vec<u8>) {
    let mut bytes = substitution.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(digit @ b'0'..=b'9') => {
                if let Some(group) = captures.get(usize::from(digit - b'0')) {
                    out.extend_from_slice(group.as_bytes());
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_whole_values_only() {
        let regex = Regex::new("a|ab").unwrap();
        assert!(regex.is_full_match(b"ab"));
        assert!(!regex.is_full_match(b"abc"));
        assert!(!regex.is_full_match(b"xab"));
    }

    #[test]
    fn classes_are_ascii_and_bytes_need_not_be_text() {
        assert!(!Regex::new(r"\w+").unwrap().is_full_match("é".as_bytes()));
        assert!(Regex::new(".*").unwrap().is_full_match(b"\xff\xfe"));
        assert!(Regex::new(r"\p{Greek}+").unwrap().is_full_match("αβ".as_bytes()));
    }

    #[test]
    fn wrapping_makes_nothing_valid() {
        assert!(Regex::new("a)|(b").is_err());
        assert!(Regex::new(&"a".repeat(MAX_PATTERN + 1)).is_err());
        assert!(Regex::new("((a{1000}){1000}){1000}").is_err());
    }

    #[test]
    fn replaces_with_groups() {
        let regex = Regex::new("/v([0-9])/").unwrap();
        assert_eq!(regex.replace_all(b"/v1/x/v2/", r"/\1\\/"), br"/1\/x/2\/");
        assert_eq!(regex.groups(), 1);
    }
}
