//! What a request carries from one span to the next.

use bytes::Bytes;

use crate::telemetry::Random;

/// The ids of a span, and what is sent on beside them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpanContext {
    /// The trace; the lower half is its id where ids have 64 bits.
    pub trace_id: u128,
    /// The trace's id is written with 32 digits.
    pub wide: bool,
    /// The span; never 0.
    pub span_id: u64,
    /// The span that it belongs under; 0: it is the first of its trace.
    pub parent_id: u64,
    /// It is recorded.
    pub sampled: bool,
    /// W3C's `tracestate`; empty without.
    pub state: Bytes,
    /// The parent is a span of another process.
    pub remote_parent: bool,
    /// The span is the caller's own one: client and server report it together.
    pub shared: bool,
}

/// What the headers of a request say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that is no context: a new trace begins.
    Malformed,
    /// The caller's span.
    Context(SpanContext),
}

impl SpanContext {
    /// The first span of a new trace. As Envoy's tracers, a Zipkin trace has the id of its first span in its lower half.
    pub fn root(random: &Random, wide: bool, of_zipkin: bool, sampled: bool) -> Self {
        let span_id = id(random);
        let low = if of_zipkin { span_id } else { id(random) };
        let high = if wide { id(random) } else { 0 };
        SpanContext {
            trace_id: u128::from(high) << 64 | u128::from(low),
            wide,
            span_id,
            parent_id: 0,
            sampled,
            state: Bytes::new(),
            remote_parent: false,
            shared: false,
        }
    }

    /// A span under this one.
    pub fn child(&self, random: &Random, remote_parent: bool) -> Self {
        let (span_id, parent_id) = (id(random), self.span_id);
        SpanContext { span_id, parent_id, remote_parent, shared: false, ..self.clone() }
    }
}

/// An id that is not 0.
fn id(random: &Random) -> u64 {
    random.next().max(1)
}

/// A number of exactly or at most 16 hexadecimal digits; `None` for anything else.
pub fn hexadecimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | u64::from(digit))
    })
}

/// Appends a number with 16 digits.
pub fn write_id(text: &mut Vec<u8>, id: u64) {
    text.extend((0..16).rev().map(|digit| b"0123456789abcdef"[(id >> (digit * 4) & 0xf) as usize]));
}

/// Appends a trace's id with 16 or 32 digits.
pub fn write_trace_id(text: &mut Vec<u8>, id: u128, wide: bool) {
    if wide {
        write_id(text, (id >> 64) as u64);
    }
    write_id(text, id as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        let mut text = Vec::new();
        write_trace_id(&mut text, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, true);
        assert_eq!(text, b"4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hexadecimal(b"a3ce929D0e0e4736"), Some(0xa3ce_929d_0e0e_4736));
        for bad in [&b""[..], b"12345678901234567", b"zz", b"-1", b"+1", b"0x1"] {
            assert_eq!(hexadecimal(bad), None);
        }
    }

    #[test]
    fn a_child_is_in_its_parents_trace() {
        let random = Random::seeded(1);
        let root = SpanContext::root(&random, true, true, true);
        assert_eq!(root.trace_id as u64, root.span_id);
        let child = root.child(&random, true);
        assert_eq!((child.trace_id, child.parent_id), (root.trace_id, root.span_id));
        assert_ne!(child.span_id, root.span_id);
        assert!(child.sampled && child.remote_parent);
    }
}
