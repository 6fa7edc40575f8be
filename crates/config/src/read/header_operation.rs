//! Header additions and removals.

use super::format::read_format;
use super::name::header_name;
use crate::context::{Context, Result};
use crate::model::{HeaderAction, HeaderAdd, HeaderOperations};
use protos::envoy::envoy::config::core::v3 as core;

/// Most operations of one list.
const LIMIT: usize = 1000;

/// Reads `<side>_headers_to_add` and `<side>_headers_to_remove`; `side` is `request` or `response`.
pub fn read_header_operations(
    cx: &mut Context,
    side: &str,
    add: &[core::HeaderValueOption],
    remove: &[String],
) -> Result<HeaderOperations> {
    let remove = cx.list(&format!("{side}_headers_to_remove"), remove, LIMIT, |cx, name| {
        let name = header_name(cx, "name", name, false)?;
        if &*name == "host" {
            return Err(cx.refused("host may not be removed"));
        }
        Ok(name)
    })?;
    let add = cx.list(&format!("{side}_headers_to_add"), add, LIMIT, read_header_add)?;
    Ok(HeaderOperations { remove, add })
}

fn read_header_add(cx: &mut Context, message: &core::HeaderValueOption) -> Result<HeaderAdd> {
    use core::header_value_option::HeaderAppendAction;
    let core::HeaderValueOption { header, append, append_action, keep_empty_value } = message;
    let core::HeaderValue { key, value, raw_value } = cx.required("header", header)?;
    let action = match (append, cx.enumeration("append_action", *append_action)?) {
        (Some(append), HeaderAppendAction::AppendIfExistsOrAdd) if append.value => {
            HeaderAction::AppendIfExistsOrAdd
        }
        (Some(_), HeaderAppendAction::AppendIfExistsOrAdd) => HeaderAction::OverwriteIfExistsOrAdd,
        (Some(_), _) => return Err(cx.refused_field("append", "stands beside append_action: take it out")),
        (None, HeaderAppendAction::AppendIfExistsOrAdd) => HeaderAction::AppendIfExistsOrAdd,
        (None, HeaderAppendAction::AddIfAbsent) => HeaderAction::AddIfAbsent,
        (None, HeaderAppendAction::OverwriteIfExistsOrAdd) => HeaderAction::OverwriteIfExistsOrAdd,
        (None, HeaderAppendAction::OverwriteIfExists) => HeaderAction::OverwriteIfExists,
    };
    cx.field("header", |cx| {
        let name = header_name(cx, "key", key, false)?;
        // These decide where a message ends, which connection it belongs to, or which host it is for.
        let framing =
            ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];
        if framing.contains(&&*name) {
            let remedy = if &*name == "host" { ": use a host rewrite" } else { "" };
            return Err(
                cx.refused_field("key", format!("{name} may not be written by configuration{remedy}"))
            );
        }
        let text = match (value.as_str(), std::str::from_utf8(raw_value)) {
            (text, Ok("")) => text,
            ("", Ok(text)) => text,
            ("", Err(_)) => return Err(cx.refused_field("raw_value", "is not UTF-8")),
            _ => return Err(cx.refused_field("raw_value", "stands beside value: only one may be set")),
        };
        if text.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
            return Err(cx.refused_field("value", "has a control character"));
        }
        let value = cx.field("value", |cx| read_format(cx, text))?;
        Ok(HeaderAdd { name, value, action, keep_empty: *keep_empty_value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::BoolValue;

    fn option(key: &str, value: &str) -> core::HeaderValueOption {
        let header = core::HeaderValue { key: key.into(), value: value.into(), raw_value: Vec::new() };
        core::HeaderValueOption { header: Some(header), ..Default::default() }
    }

    fn read(add: &[core::HeaderValueOption], remove: &[String]) -> Result<HeaderOperations> {
        Context::read(|cx| read_header_operations(cx, "request", add, remove)).map(|read| read.value)
    }

    #[test]
    fn reads_operations() {
        let mut old = option("X-A", "b");
        old.append = Some(BoolValue { value: false });
        let read = read(&[option("X-A", "a"), old], &["X-B".into()]).unwrap();
        assert_eq!(read.remove, ["x-b".into()]);
        assert_eq!(read.add[0].action, HeaderAction::AppendIfExistsOrAdd);
        assert_eq!(read.add[1].action, HeaderAction::OverwriteIfExistsOrAdd);
    }

    #[test]
    fn refuses_what_would_break_a_message() {
        assert_eq!(
            read(&[option("x", "a\r\nb: c")], &[]).unwrap_err().path,
            "request_headers_to_add[0].header.value"
        );
        assert_eq!(
            read(&[option("Content-Length", "1")], &[]).unwrap_err().path,
            "request_headers_to_add[0].header.key"
        );
        assert!(read(&[option(":path", "/")], &[]).is_err());
        assert!(read(&[], &["Host".into()]).is_err());
    }
}
