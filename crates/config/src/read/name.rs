//! Names and texts from a configuration, bounded and free of bytes that could break a header or a log line.

use crate::context::{Context, Result};
use std::sync::Arc;

/// The longest name accepted, in bytes.
const MAX_NAME: usize = 4096;

/// A name that may be empty.
pub fn name(cx: &mut Context, field: &str, value: &str) -> Result<Arc<str>> {
    if value.len() > MAX_NAME {
        return Err(cx.refused_field(field, format!("{} bytes long, the limit is {MAX_NAME}", value.len())));
    }
    if value.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(cx.refused_field(field, "has a control character"));
    }
    Ok(value.into())
}

/// A name that must not be empty.
pub fn required_name(cx: &mut Context, field: &str, value: &str) -> Result<Arc<str>> {
    if value.is_empty() {
        return Err(cx.refused_field(field, "is empty"));
    }
    name(cx, field, value)
}

/// A header name in lower case. Pseudo headers only where they are read, never where they are written.
pub fn header_name(cx: &mut Context, field: &str, value: &str, pseudo: bool) -> Result<Arc<str>> {
    let bare = if pseudo { value.strip_prefix(':').unwrap_or(value) } else { value };
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if bare.is_empty() || bare.len() > 256 || !bare.bytes().all(token) {
        let shown: String = value.chars().take(64).collect();
        return Err(
            cx.refused_field(field, format!("{shown:?} is not the name of a header that may stand here"))
        );
    }
    Ok(value.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_tokens_in_lower_case() {
        let read = |value: &str, pseudo| {
            Context::read(|cx| header_name(cx, "name", value, pseudo)).map(|read| read.value)
        };
        assert_eq!(&*read("X-Canary-User", false).unwrap(), "x-canary-user");
        assert_eq!(&*read(":authority", true).unwrap(), ":authority");
        for bad in [":authority", "", "a b", "a:b", "a\r\nb", "é"] {
            assert!(read(bad, false).is_err(), "{bad:?} was accepted");
        }
        assert!(read(":", true).is_err());
    }

    #[test]
    fn names_have_no_control_characters() {
        assert!(Context::read(|cx| name(cx, "name", "a\nb")).is_err());
        assert!(Context::read(|cx| name(cx, "name", &"a".repeat(MAX_NAME + 1))).is_err());
        assert!(Context::read(|cx| required_name(cx, "name", "")).is_err());
        assert!(Context::read(|cx| name(cx, "name", "")).is_ok());
    }
}
