//! Times as people read them in messages: RFC 3339, UTC, whole seconds.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `time` cut to whole seconds, as X.509 writes it.
pub fn whole_seconds(time: SystemTime) -> OffsetDateTime {
    let moment = OffsetDateTime::from(time);
    moment.replace_nanosecond(0).unwrap_or(moment)
}

/// `time` as `2026-11-23T19:00:00Z`.
pub fn rfc3339(time: SystemTime) -> String {
    let moment = whole_seconds(time);
    moment.format(&Rfc3339).unwrap_or_else(|_| format!("{} (Unix seconds)", moment.unix_timestamp()))
}

/// The time of a count of seconds since the Unix epoch; negative counts are the epoch.
pub fn from_unix_seconds(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_a_date() {
        assert_eq!(rfc3339(from_unix_seconds(1_795_460_400)), "2026-11-23T19:00:00Z");
        assert_eq!(rfc3339(from_unix_seconds(-5)), "1970-01-01T00:00:00Z");
    }
}
