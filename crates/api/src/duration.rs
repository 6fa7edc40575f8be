//! Durations as users write them: protobuf JSON (`"1.5s"`) and Go (`"1m30s"`, `"250ms"`).

use std::fmt;
use std::time::Duration as StdDuration;

use serde::{Deserialize, Deserializer, de};

/// A length of time of at least zero, kept to the nanosecond.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(StdDuration);

/// Why a text is no duration; the text of the error is meant for the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// No number with a unit was found.
    #[error("\"{0}\" is not a duration: write a number with a unit such as \"30s\", \"1m30s\" or \"250ms\"")]
    Malformed(String),
    /// The duration is below zero.
    #[error("\"{0}\" is negative: a duration is at least 0s")]
    Negative(String),
    /// The duration is longer than protobuf can express (about 10,000 years).
    #[error("\"{0}\" is too long: at most 315576000000s")]
    TooLong(String),
}

/// The longest duration of `google.protobuf.Duration`, in seconds.
const LONGEST_SECONDS: u64 = 315_576_000_000;
/// Unit names and their length in nanoseconds; longer names first so that `ms` is not read as `m`.
const UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Duration {
    /// Zero; in most fields it means "off".
    pub const ZERO: Duration = Duration(StdDuration::ZERO);

    /// A duration of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Duration(StdDuration::from_secs(seconds))
    }

    /// A duration of whole milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Duration(StdDuration::from_millis(milliseconds))
    }

    /// The standard library's type.
    pub const fn as_std(self) -> StdDuration {
        self.0
    }

    /// Whether this is `0s`.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Whole seconds, as `google.protobuf.Duration.seconds`.
    pub fn seconds(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }

    /// Nanoseconds beside the seconds, as `google.protobuf.Duration.nanos`.
    pub fn nanos(self) -> i32 {
        i32::try_from(self.0.subsec_nanos()).unwrap_or(0)
    }

    /// Reads `"30s"`, `"1m30s"`, `"0.5s"`, `"1h"`, `"0"`.
    ///
    /// # Errors
    /// What is wrong with the text, ready to be shown.
    pub fn parse(text: &str) -> Result<Self, DurationError> {
        let malformed = || DurationError::Malformed(text.to_string());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::ZERO);
        }
        if rest.is_empty() || text.len() > 64 {
            return Err(malformed());
        }
        let mut total: u128 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(malformed)?;
            let (number, after) = rest.split_at(digits);
            let (unit, length) = UNITS.iter().find(|(unit, _)| unit_at(after, unit)).ok_or_else(malformed)?;
            let nanos = scaled(number, *length).ok_or_else(malformed)?;
            total = total.checked_add(nanos).ok_or_else(|| DurationError::TooLong(text.to_string()))?;
            rest = &after[unit.len()..];
        }
        if negative && total > 0 {
            return Err(DurationError::Negative(text.to_string()));
        }
        let seconds = u64::try_from(total / 1_000_000_000).unwrap_or(u64::MAX);
        if seconds > LONGEST_SECONDS {
            return Err(DurationError::TooLong(text.to_string()));
        }
        let nanos = u32::try_from(total % 1_000_000_000).unwrap_or(0);
        Ok(Duration(StdDuration::new(seconds, nanos)))
    }
}

/// Whether `text` starts with `unit` and not with a longer unit (`m` must not match `ms`).
fn unit_at(text: &str, unit: &str) -> bool {
    text.strip_prefix(unit)
        .is_some_and(|rest| rest.chars().next().is_none_or(|c| c.is_ascii_digit() || c == '.'))
}

/// `number` (digits with at most one point) times `length`, in nanoseconds; finer fractions are cut off.
fn scaled(number: &str, length: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(length)?;
    let mut place = length;
    for digit in fraction.bytes() {
        place /= 10;
        total = total.checked_add(place * u128::from(digit - b'0'))?;
    }
    Some(total)
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Duration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string such as \"30s\" or \"1m30s\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
                Duration::parse(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl From<Duration> for StdDuration {
    fn from(duration: Duration) -> StdDuration {
        duration.0
    }
}

impl fmt::Display for Duration {
    /// Protobuf's JSON form: seconds with as many decimals as needed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.subsec_nanos();
        if nanos == 0 {
            return write!(f, "{}s", self.0.as_secs());
        }
        let decimals = format!("{nanos:09}");
        write!(f, "{}.{}s", self.0.as_secs(), decimals.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_and_protobuf_write() {
        for (text, nanos) in [
            ("30s", 30_000_000_000_u128),
            ("1m30s", 90_000_000_000),
            ("0.5s", 500_000_000),
            (".5s", 500_000_000),
            ("1h", 3_600_000_000_000),
            ("1h2m3.004s", 3_723_004_000_000),
            ("250ms", 250_000_000),
            ("7us", 7_000),
            ("0", 0),
            ("0s", 0),
            ("1.000340012s", 1_000_340_012),
        ] {
            assert_eq!(Duration::parse(text).map(|d| d.as_std().as_nanos()), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "s", "30", "1 s", "1d", "1.2.3s", "five", "s5", ".s", "1s2"] {
            assert_eq!(Duration::parse(text), Err(DurationError::Malformed(text.into())), "{text}");
        }
        assert_eq!(Duration::parse("-1s"), Err(DurationError::Negative("-1s".into())));
        assert_eq!(Duration::parse("999999999999h"), Err(DurationError::TooLong("999999999999h".into())));
    }

    #[test]
    fn prints_protobuf_json() {
        assert_eq!(Duration::from_millis(1_500).to_string(), "1.5s");
        assert_eq!(Duration::from_secs(90).to_string(), "90s");
    }
}
