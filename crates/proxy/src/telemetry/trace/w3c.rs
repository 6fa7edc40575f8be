//! W3C Trace Context: `traceparent` and `tracestate`.

use bytes::Bytes;

use super::context::{Found, SpanContext, hexadecimal, write_id, write_trace_id};
use crate::http::Headers;

/// The header.
pub const TRACEPARENT: &str = "traceparent";
/// Its companion.
pub const TRACESTATE: &str = "tracestate";
/// `00-` trace `-` parent `-` flags.
const LENGTH: usize = 55;
/// The longest `tracestate` that is sent on, in bytes; vendors promise each other 512.
const LONGEST_STATE: usize = 4096;

/// The caller's span. As Envoy, any version with this form is read, and digits may be in capitals; the span's own
/// parent is not known.
pub fn extract(headers: &Headers) -> Found {
    let Some(text) = headers.get(TRACEPARENT) else { return Found::Nothing };
    match parse(text) {
        None => Found::Malformed,
        Some(context) => Found::Context(SpanContext { state: state(headers), ..context }),
    }
}

fn parse(text: &[u8]) -> Option<SpanContext> {
    if text.len() != LENGTH || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
        return None;
    }
    hexadecimal(&text[..2])?;
    let (high, low) = (hexadecimal(&text[3..19])?, hexadecimal(&text[19..35])?);
    let span_id = hexadecimal(&text[36..52])?;
    let flags = hexadecimal(&text[53..])?;
    let trace_id = u128::from(high) << 64 | u128::from(low);
    (trace_id != 0 && span_id != 0).then(|| SpanContext {
        trace_id,
        wide: true,
        span_id,
        parent_id: 0,
        sampled: flags & 1 == 1,
        state: Bytes::new(),
        remote_parent: false,
        shared: false,
    })
}

/// All lines in one; nothing when it is too long to be honest.
fn state(headers: &Headers) -> Bytes {
    let mut lines = headers.get_all(TRACESTATE);
    let Some(first) = lines.next() else { return Bytes::new() };
    let Some(second) = lines.next() else {
        let kept = headers.get_bytes(TRACESTATE).filter(|line| line.len() <= LONGEST_STATE);
        return kept.unwrap_or_default();
    };
    let mut all = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        all.push(b',');
        all.extend_from_slice(line);
        if all.len() > LONGEST_STATE {
            return Bytes::new();
        }
    }
    all.into()
}

/// Writes the context. Envoy writes an empty `tracestate` too.
pub fn inject(headers: &mut Headers, context: &SpanContext) {
    inject_parent(headers, context);
    headers.set(TRACESTATE, context.state.clone());
}

/// Writes `traceparent` alone.
pub fn inject_parent(headers: &mut Headers, context: &SpanContext) {
    let mut text = Vec::with_capacity(LENGTH);
    text.extend_from_slice(b"00-");
    write_trace_id(&mut text, context.trace_id, true);
    text.push(b'-');
    write_id(&mut text, context.span_id);
    text.extend_from_slice(if context.sampled { b"-01" } else { b"-00" });
    headers.set(TRACEPARENT, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn found(fields: &[(&'static str, &'static str)]) -> Found {
        extract(&fields.iter().copied().collect())
    }

    #[test]
    fn a_context_is_read_and_written_again() {
        let Found::Context(context) = found(&[(TRACEPARENT, GOOD), (TRACESTATE, "a=b"), (TRACESTATE, "c=d")])
        else {
            panic!()
        };
        assert_eq!((context.span_id, context.sampled), (0x00f0_67aa_0ba9_02b7, true));
        assert_eq!(&context.state[..], b"a=b,c=d");
        let mut headers: Headers = [(TRACESTATE, "a=b"), (TRACESTATE, "c=d")].into_iter().collect();
        inject(&mut headers, &context);
        assert_eq!(headers.get_str(TRACEPARENT), Some(GOOD));
        assert_eq!(headers.get_all(TRACESTATE).count(), 1);
    }

    #[test]
    fn what_is_no_context_is_told_from_nothing() {
        assert_eq!(found(&[(TRACESTATE, "a=b")]), Found::Nothing);
        for bad in [
            "",
            "garbage",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473g-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz",
        ] {
            assert_eq!(found(&[(TRACEPARENT, bad)]), Found::Malformed, "{bad}");
        }
    }

    #[test]
    fn a_huge_state_is_dropped() {
        let text = "x".repeat(LONGEST_STATE + 1);
        let mut headers = Headers::new();
        headers.append(TRACEPARENT, GOOD);
        headers.append(TRACESTATE, text);
        let Found::Context(context) = extract(&headers) else { panic!() };
        assert!(context.state.is_empty());
    }
}
