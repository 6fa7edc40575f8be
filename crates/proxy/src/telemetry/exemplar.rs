//! A trace beside a number (OpenMetrics' exemplars): from a slow bucket to one of the requests in it.

use std::sync::Mutex;
use std::time::SystemTime;

/// One request that was traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// What was measured, in thousandths of the metric's unit.
    pub value_thousandths: u64,
    /// When it was measured.
    pub at: SystemTime,
}

impl Exemplar {
    /// The later of two.
    pub fn later(one: Option<Exemplar>, two: Option<Exemplar>) -> Option<Exemplar> {
        match (one, two) {
            (Some(one), Some(two)) => Some(if one.at >= two.at { one } else { two }),
            (one, two) => one.or(two),
        }
    }
}

/// The trace of a W3C `traceparent` that says it is recorded; `None` for any other value.
pub fn recorded_trace(traceparent: &[u8]) -> Option<[u8; 16]> {
    let text = std::str::from_utf8(traceparent).ok()?;
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let lengths = [(version, 2), (trace, 32), (span, 16), (flags, 2)];
    if version == "ff"
        || lengths.iter().any(|(part, length)| part.len() != *length || !part.bytes().all(digit))
    {
        return None;
    }
    if u8::from_str_radix(flags, 16).ok()? & 1 == 0 {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    Some(trace.to_be_bytes())
}

/// The last exemplar of one worker's series. Its lock is shared with the scraper alone, and while that reads, an
/// exemplar is left out rather than waited for.
#[derive(Debug, Default)]
pub struct ExemplarCell(Mutex<Option<Exemplar>>);

impl ExemplarCell {
    /// Remembers this one.
    pub fn set(&self, exemplar: Exemplar) {
        if let Ok(mut last) = self.0.try_lock() {
            *last = Some(exemplar);
        }
    }

    /// The last one.
    pub fn get(&self) -> Option<Exemplar> {
        self.0.lock().map_or(None, |last| *last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_trace_that_is_recorded_is_shown() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let read = |text: String| recorded_trace(text.as_bytes());
        let found = read(format!("00-{trace}-b7ad6b7169203331-01")).unwrap();
        assert_eq!((found[0], found[15]), (0x0a, 0x9c));
        for refused in [
            format!("00-{trace}-b7ad6b7169203331-00"),
            format!("ff-{trace}-b7ad6b7169203331-01"),
            format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)),
            format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()),
            format!("00-{trace}-b7ad-01"),
            String::new(),
        ] {
            assert_eq!(read(refused.clone()), None, "{refused}");
        }
    }
}
