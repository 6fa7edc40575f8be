//! `%START_TIME%`: UTC with milliseconds, or a strftime format.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Writes `2006-01-02T15:04:05.000Z`. Of one second after the other only the thousandths are made anew.
#[derive(Debug, Default)]
pub struct Seconds {
    second: u64,
    /// What stands before the thousandths.
    text: Vec<u8>,
}

impl Seconds {
    /// Writes a time.
    pub fn write(&mut self, line: &mut Vec<u8>, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text.clear();
            write_format(&mut self.text, time, "%Y-%m-%dT%H:%M:%S.");
        }
        line.extend_from_slice(&self.text);
        let digit = |of: u32| b'0' + (since.subsec_millis() / of % 10) as u8;
        line.extend_from_slice(&[digit(100), digit(10), digit(1), b'Z']);
    }
}

/// Writes one time as [`Seconds`] do.
pub fn write_default(line: &mut Vec<u8>, time: SystemTime) {
    Seconds::default().write(line, time);
}

/// Writes a time in Envoy's strftime dialect: `%Y %m %d %e %H %M %S %y %j %a %b %F %T %Z %z %s`, `%f` and `%1f` to `%9f`
/// for fractions of a second. Another letter is written as it stands.
pub fn write_format(line: &mut Vec<u8>, time: SystemTime, format: &str) {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    let utc = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            push(line, c);
            continue;
        }
        let Some(letter) = rest.next() else { break };
        if let Some(digits @ 1..=9) = letter.to_digit(10) {
            if rest.clone().next() == Some('f') {
                rest.next();
                fraction(line, since.subsec_nanos(), digits as usize);
            } else {
                line.push(b'%');
                push(line, letter);
            }
            continue;
        }
        // Writing to a Vec cannot fail.
        let _ = match letter {
            'Y' => write!(line, "{:04}", utc.year()),
            'y' => write!(line, "{:02}", utc.year().rem_euclid(100)),
            'm' => write!(line, "{:02}", u8::from(utc.month())),
            'd' => write!(line, "{:02}", utc.day()),
            'e' => write!(line, "{:2}", utc.day()),
            'j' => write!(line, "{:03}", utc.ordinal()),
            'H' => write!(line, "{:02}", utc.hour()),
            'M' => write!(line, "{:02}", utc.minute()),
            'S' => write!(line, "{:02}", utc.second()),
            'F' => write!(line, "{:04}-{:02}-{:02}", utc.year(), u8::from(utc.month()), utc.day()),
            'T' => write!(line, "{:02}:{:02}:{:02}", utc.hour(), utc.minute(), utc.second()),
            'I' => write!(line, "{:02}", (utc.hour() + 11) % 12 + 1),
            'p' => write!(line, "{}", if utc.hour() < 12 { "AM" } else { "PM" }),
            // `%E3S`, `%Ez`: seconds with a fraction, the distance from UTC with a colon.
            'E' => extended(line, &mut rest, &utc, since.subsec_nanos()),
            'a' => write!(line, "{:.3}", utc.weekday().to_string()),
            'b' => write!(line, "{:.3}", utc.month().to_string()),
            'Z' => write!(line, "UTC"),
            'z' => write!(line, "+0000"),
            's' => write!(line, "{seconds}"),
            'f' => {
                fraction(line, since.subsec_nanos(), 9);
                Ok(())
            }
            '%' => write!(line, "%"),
            other => write!(line, "%{other}"),
        };
    }
}

fn extended(
    line: &mut Vec<u8>,
    rest: &mut std::str::Chars<'_>,
    utc: &OffsetDateTime,
    nanos: u32,
) -> std::io::Result<()> {
    let mut ahead = rest.clone();
    match (ahead.next(), ahead.next()) {
        (Some('z'), _) => {
            rest.next();
            write!(line, "+00:00")
        }
        (Some(digits @ '1'..='9'), Some(kind @ ('S' | 'f'))) => {
            rest.next();
            rest.next();
            if kind == 'S' {
                write!(line, "{:02}.", utc.second())?;
            }
            fraction(line, nanos, digits.to_digit(10).map_or(9, |digits| digits as usize));
            Ok(())
        }
        _ => write!(line, "%E"),
    }
}

fn fraction(line: &mut Vec<u8>, nanos: u32, digits: usize) {
    let text = format!("{nanos:09}");
    line.extend_from_slice(text.get(..digits).unwrap_or(&text).as_bytes());
}

fn push(line: &mut Vec<u8>, c: char) {
    line.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes the time as RFC 9110's `date` header has it, `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date(time: SystemTime) -> String {
    let mut line = Vec::with_capacity(32);
    write_format(&mut line, time, "%a, %d %b %Y %H:%M:%S GMT");
    String::from_utf8_lossy(&line).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn writes_what_envoy_writes() {
        let mut line = Vec::new();
        let mut seconds = Seconds::default();
        for (second, nanos, expected) in [
            (1_700_000_000, 7_900_000, "2023-11-14T22:13:20.007Z"),
            (1_700_000_000, 999_999_999, "2023-11-14T22:13:20.999Z"),
            (1_700_000_061, 120_000_000, "2023-11-14T22:14:21.120Z"),
            (0, 0, "1970-01-01T00:00:00.000Z"),
        ] {
            line.clear();
            seconds.write(&mut line, at(second, nanos));
            assert_eq!(String::from_utf8_lossy(&line), expected);
        }
        line.clear();
        write_format(&mut line, at(1_700_000_000, 7_900_000), "%E3S %H:%E6S%Ez %I%p %E");
        assert_eq!(String::from_utf8_lossy(&line), "20.007 22:20.007900+00:00 10PM %E");
        line.clear();
        write_format(&mut line, at(784_111_777, 123_456_789), "%Y/%m/%dT%T%z %s %6f %3fx %q 100%%");
        assert_eq!(line, b"1994/11/06T08:49:37+0000 784111777 123456 123x %q 100%");
        assert_eq!(http_date(at(784_111_777, 0)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
