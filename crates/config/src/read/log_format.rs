//! How lines of access logs are written: `SubstitutionFormatString`.

use super::format::read_log_text;
use crate::context::{Context, Result, refuse, report};
use crate::model::{AccessLogFormat, AccessLogLayout, JsonFormat};
use protos::envoy::envoy::config::core::v3 as core;
use protos::envoy::google::protobuf as pb;
use std::sync::Arc;

/// Most fields and elements of a JSON line.
pub(super) const MAX_FIELDS: usize = 200;
/// How deep lists and objects of a JSON line may stand in one another.
const DEPTH: usize = 16;
/// Envoy's format when none is given.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Reads a format.
pub(super) fn read_substitution_format(
    cx: &mut Context,
    message: &core::SubstitutionFormatString,
) -> Result<AccessLogFormat> {
    use core::substitution_format_string::Format as Choice;
    let core::SubstitutionFormatString {
        omit_empty_values,
        content_type,
        formatters,
        json_format_options,
        format,
    } = message;
    let omit = *omit_empty_values;
    report!(cx, "a log line has no content type"; content_type);
    report!(cx, "the fields are sorted by name"; json_format_options);
    refuse!(cx, "formatter extensions are not supported"; formatters);
    match format {
        None => default_format(cx, omit),
        Some(Choice::TextFormat(text)) => cx.field("text_format", |cx| text_format(cx, text, omit)),
        Some(Choice::JsonFormat(map)) => cx.field("json_format", |cx| json_format(cx, map, omit)),
        Some(Choice::TextFormatSource(source)) => {
            let text = super::data_source::read_inline_text(cx, "text_format_source", source)?;
            cx.field("text_format_source", |cx| text_format(cx, &text, omit))
        }
    }
}

/// Envoy's format.
pub(super) fn default_format(cx: &mut Context, omit_empty_values: bool) -> Result<AccessLogFormat> {
    text_format(cx, DEFAULT, omit_empty_values)
}

/// A line.
pub(super) fn text_format(cx: &mut Context, text: &str, omit_empty_values: bool) -> Result<AccessLogFormat> {
    // Envoy takes an empty text for "no format given".
    let layout = AccessLogLayout::Text(read_log_text(cx, if text.is_empty() { DEFAULT } else { text })?);
    Ok(AccessLogFormat { layout, omit_empty_values })
}

/// A JSON object.
pub(super) fn json_format(
    cx: &mut Context,
    message: &pb::Struct,
    omit_empty_values: bool,
) -> Result<AccessLogFormat> {
    let layout = AccessLogLayout::Json(read_object(cx, message, &mut 0, DEPTH)?);
    Ok(AccessLogFormat { layout, omit_empty_values })
}

fn counted(cx: &Context, seen: &mut usize, more: usize) -> Result<()> {
    *seen += more;
    if *seen > MAX_FIELDS {
        return Err(cx.refused(format!("{seen} fields, the limit is {MAX_FIELDS}")));
    }
    Ok(())
}

fn read_object(cx: &mut Context, message: &pb::Struct, seen: &mut usize, depth: usize) -> Result<JsonFormat> {
    let pb::Struct { fields } = message;
    counted(cx, seen, fields.len())?;
    let mut out: Vec<(Arc<str>, JsonFormat)> = Vec::with_capacity(fields.len());
    for (key, value) in fields {
        let value = cx.entry("fields", key, |cx| read_value(cx, value, seen, depth))?;
        out.push((key.as_str().into(), value));
    }
    out.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(JsonFormat::Object(out))
}

fn read_value(cx: &mut Context, message: &pb::Value, seen: &mut usize, depth: usize) -> Result<JsonFormat> {
    use pb::value::Kind;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cx.refused(format!("values stand in one another more than {DEPTH} deep")));
    };
    let pb::Value { kind } = message;
    Ok(match kind {
        None | Some(Kind::NullValue(_)) => JsonFormat::Null,
        Some(Kind::BoolValue(truth)) => JsonFormat::Fixed(truth.to_string().into()),
        Some(Kind::NumberValue(number)) if number.is_finite() => JsonFormat::Fixed(number.to_string().into()),
        Some(Kind::NumberValue(_)) => return Err(cx.refused("the number is none that JSON has")),
        Some(Kind::StringValue(text)) => JsonFormat::Text(read_log_text(cx, text)?),
        Some(Kind::ListValue(pb::ListValue { values })) => {
            counted(cx, seen, values.len())?;
            let read = |(index, value)| cx.index(index, |cx| read_value(cx, value, seen, depth));
            JsonFormat::List(values.iter().enumerate().map(read).collect::<Result<_>>()?)
        }
        Some(Kind::StructValue(fields)) => read_object(cx, fields, seen, depth)?,
    })
}
