//! B3, Zipkin's headers: one (`b3`) or several (`x-b3-...`).

use bytes::Bytes;

use super::context::{Found, SpanContext, hexadecimal, write_id, write_trace_id};
use crate::http::Headers;

/// All in one header.
pub const SINGLE: &str = "b3";
const TRACE_ID: &str = "x-b3-traceid";
const SPAN_ID: &str = "x-b3-spanid";
const PARENT_ID: &str = "x-b3-parentspanid";
const SAMPLED: &str = "x-b3-sampled";
/// Trace, span, decision and parent.
const LONGEST: usize = 32 + 1 + 16 + 3 + 16;

/// Whether the caller says that the request is traced; `decided` where it does not.
pub fn sampled(headers: &Headers, decided: bool) -> bool {
    if let Some(text) = headers.get(SINGLE) {
        // trace "-" span "-" decision ["-" parent]; or the decision alone.
        let at = match text.len() {
            1 => 0,
            35 | 52 => 34,
            51 | 68 => 50,
            _ => return decided,
        };
        return match text[at] {
            b'0' => false,
            b'1' | b'd' => true,
            _ => decided,
        };
    }
    headers.get(SAMPLED).map_or(decided, |text| matches!(text, b"1" | b"true"))
}

/// The caller's span.
pub fn extract(headers: &Headers, decided: bool) -> Found {
    let is_sampled = sampled(headers, decided);
    let parsed = match headers.get(SINGLE) {
        Some(b"0" | b"1" | b"d") => return Found::Nothing,
        Some(text) => parse_single(text),
        None => match (headers.get(TRACE_ID), headers.get(SPAN_ID)) {
            (Some(trace), Some(span)) => parse_several(trace, span, headers.get(PARENT_ID)),
            _ => return Found::Nothing,
        },
    };
    match parsed {
        Some(context) if context.trace_id != 0 && context.span_id != 0 => {
            Found::Context(SpanContext { sampled: is_sampled, ..context })
        }
        _ => Found::Malformed,
    }
}

fn context(trace_id: u128, wide: bool, span_id: u64, parent_id: u64) -> SpanContext {
    let (state, remote_parent, shared) = (Bytes::new(), false, false);
    SpanContext { trace_id, wide, span_id, parent_id, sampled: false, state, remote_parent, shared }
}

fn parse_trace(text: &[u8]) -> Option<(u128, bool)> {
    if text.len() == 32 {
        let (high, low) = (hexadecimal(&text[..16])?, hexadecimal(&text[16..])?);
        return Some((u128::from(high) << 64 | u128::from(low), high != 0));
    }
    hexadecimal(text).map(|id| (u128::from(id), false))
}

fn parse_several(trace: &[u8], span: &[u8], parent: Option<&[u8]>) -> Option<SpanContext> {
    let (trace_id, wide) = parse_trace(trace)?;
    let parent_id = match parent {
        Some(text) if !text.is_empty() => hexadecimal(text)?,
        _ => 0,
    };
    Some(context(trace_id, wide, hexadecimal(span)?, parent_id))
}

fn parse_single(text: &[u8]) -> Option<SpanContext> {
    if text.len() > LONGEST {
        return None;
    }
    let mut parts = text.split(|byte| *byte == b'-');
    let (trace, span) = (parts.next()?, parts.next()?);
    if !matches!(trace.len(), 16 | 32) || span.len() != 16 {
        return None;
    }
    let (trace_id, wide) = parse_trace(trace)?;
    if let Some(decision) = parts.next()
        && !matches!(decision, b"0" | b"1" | b"d")
    {
        return None;
    }
    let parent_id = match parts.next() {
        None => 0,
        Some(parent) if parent.len() == 16 => hexadecimal(parent)?,
        Some(_) => return None,
    };
    parts.next().is_none().then_some(())?;
    Some(context(trace_id, wide, hexadecimal(span)?, parent_id))
}

/// Writes the context in the form in which it came.
pub fn inject(headers: &mut Headers, context: &SpanContext) {
    let id = |id: u64| {
        let mut text = Vec::with_capacity(16);
        write_id(&mut text, id);
        text
    };
    let mut trace = Vec::with_capacity(LONGEST);
    write_trace_id(&mut trace, context.trace_id, context.wide);
    let decision = if context.sampled { "1" } else { "0" };
    if headers.contains(SINGLE) {
        trace.push(b'-');
        write_id(&mut trace, context.span_id);
        trace.push(b'-');
        trace.extend_from_slice(decision.as_bytes());
        if context.parent_id != 0 {
            trace.push(b'-');
            write_id(&mut trace, context.parent_id);
        }
        headers.set(SINGLE, trace);
        return;
    }
    headers.set(TRACE_ID, trace);
    headers.set(SPAN_ID, id(context.span_id));
    if context.parent_id == 0 {
        headers.remove(PARENT_ID);
    } else {
        headers.set(PARENT_ID, id(context.parent_id));
    }
    headers.set(SAMPLED, decision);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn found(fields: &[(&'static str, String)]) -> Found {
        extract(&fields.iter().cloned().collect(), true)
    }

    fn single(text: &str) -> Found {
        found(&[(SINGLE, text.to_owned())])
    }

    #[test]
    fn one_header_or_several() {
        let Found::Context(one) = single(&format!("{TRACE}-{SPAN}-1-1111111111111111")) else { panic!() };
        let several = [
            ("X-B3-TraceId", TRACE.to_owned()),
            ("X-B3-SpanId", SPAN.to_owned()),
            ("X-B3-ParentSpanId", "1111111111111111".to_owned()),
            ("X-B3-Sampled", "true".to_owned()),
        ];
        assert_eq!(found(&several), Found::Context(one.clone()));
        assert!(one.wide && one.sampled && one.parent_id == 0x1111_1111_1111_1111);
        let mut headers: Headers = [(SINGLE, "1")].into_iter().collect();
        inject(&mut headers, &one);
        assert_eq!(headers.get_str(SINGLE), Some(&*format!("{TRACE}-{SPAN}-1-1111111111111111")));
        let mut headers: Headers = [("x-b3-parentspanid", "9")].into_iter().collect();
        inject(&mut headers, &SpanContext { parent_id: 0, sampled: false, ..one });
        assert_eq!(headers.get_str(TRACE_ID), Some(TRACE));
        assert_eq!((headers.get_str(SAMPLED), headers.get_str(PARENT_ID)), (Some("0"), None));
    }

    #[test]
    fn the_caller_decides() {
        let sampled = |name: &'static str, text: &'static str, decided| {
            super::sampled(&[(name, text)].into_iter().collect(), decided)
        };
        assert!(!sampled(SINGLE, "0", true) && sampled(SINGLE, "d", false) && sampled(SINGLE, "x", true));
        assert!(!sampled(SAMPLED, "0", true) && sampled(SAMPLED, "1", false));
        assert!(!super::sampled(&Headers::new(), false));
    }

    #[test]
    fn garbage_is_told_from_nothing() {
        assert_eq!(single("1"), Found::Nothing);
        assert_eq!(found(&[(TRACE_ID, TRACE.to_owned())]), Found::Nothing);
        for bad in [
            String::new(),
            "garbage".to_owned(),
            format!("{TRACE}-{SPAN}-x"),
            format!("{TRACE}-{SPAN}-1-11"),
            format!("{TRACE}-{SPAN}-1-1111111111111111-1"),
            format!("{TRACE}-0000000000000000-1"),
            format!("{TRACE}{SPAN}"),
            "-".repeat(40),
            "é".repeat(20),
        ] {
            assert_eq!(single(&bad), Found::Malformed, "{bad}");
        }
        let several = |trace: &str, span: &str| found(&[(TRACE_ID, trace.into()), (SPAN_ID, span.into())]);
        assert_eq!(several("zz", SPAN), Found::Malformed);
        assert_eq!(several(TRACE, "00f067aa0ba902b7a"), Found::Malformed);
        assert!(matches!(several("a3ce929d0e0e4736", SPAN), Found::Context(_)));
    }
}
