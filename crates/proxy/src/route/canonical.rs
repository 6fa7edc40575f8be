//! The one canonical form of a path: routes, policies and the application all see it.
//!
//! As Envoy, in this order: escaped slashes as configured, then normalization (unreserved characters decoded, `\` as `/`,
//! dot segments resolved), then slashes merged. The query is never touched.

use config::model::{EscapedSlashes, HttpConnectionManager};

use crate::filter::LocalReply;
use crate::http::RequestHead;

const DETAILS: &str = "path_normalization_failed";

/// Makes the target canonical.
///
/// # Errors
/// The answer to a path that has no canonical form (400), or that must be asked for in another form (307).
pub fn apply(head: &mut RequestHead, config: &HttpConnectionManager) -> Result<(), Box<LocalReply>> {
    let refused = || Box::new(LocalReply::new(400, "", DETAILS));
    if memchr::memchr(b'#', &head.target).is_some() {
        // A fragment is never sent; who sends one hopes that somebody reads the path differently.
        return Err(refused());
    }
    let path = head.path();
    if !path.starts_with(b"/") || is_plain(path) {
        return Ok(());
    }
    let query_start = path.len();
    let mut new = path.to_vec();
    let mut redirect = false;
    if has_escaped_slash(&new) {
        match config.escaped_slashes {
            EscapedSlashes::Keep => {}
            EscapedSlashes::Reject => return Err(refused()),
            EscapedSlashes::UnescapeAndForward => new = unescape_slashes(&new),
            EscapedSlashes::UnescapeAndRedirect => {
                new = unescape_slashes(&new);
                redirect = true;
            }
        }
    }
    if config.normalize_path {
        new = normalize(&new).ok_or_else(refused)?;
    }
    if config.merge_slashes {
        new.dedup_by(|next, before| *next == b'/' && *before == b'/');
    }
    if new != path {
        new.extend_from_slice(&head.target[query_start..]);
        if redirect {
            return Err(Box::new(LocalReply::redirect(307, new, DETAILS)));
        }
        head.target = new.into();
    }
    Ok(())
}

/// Nothing in the path could change: by far the most paths.
fn is_plain(path: &[u8]) -> bool {
    let special = |byte: &u8| matches!(byte, b'%' | b'\\');
    !path.iter().any(special) && !path.windows(2).any(|pair| pair == b"//" || pair == b"/.")
}

fn has_escaped_slash(path: &[u8]) -> bool {
    path.windows(3).any(|three| three[0] == b'%' && matches!(decoded(three), Some(b'/' | b'\\')))
}

fn decoded(escape: &[u8]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match escape {
        [b'%', high, low, ..] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    decode_where(path, |byte| matches!(byte, b'/' | b'\\')).unwrap_or_else(|| path.to_vec())
}

/// Decodes the escapes of bytes that `wanted` names; `None` when there is an escaped NUL.
fn decode_where(path: &[u8], wanted: impl Fn(u8) -> bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        match decoded(rest) {
            Some(0) => return None,
            Some(byte) if wanted(byte) => {
                out.push(byte);
                rest = &rest[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    Some(out)
}

/// Unreserved characters decoded, backslashes as slashes, dot segments resolved (RFC 3986, sections 5.2.4 and 6.2.2).
fn normalize(path: &[u8]) -> Option<Vec<u8>> {
    let mut plain = decode_where(path, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))?;
    for byte in &mut plain {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    let mut out: Vec<u8> = Vec::with_capacity(plain.len());
    let mut segments = plain.get(1..)?.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            b"." => {}
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            other => {
                out.push(b'/');
                out.extend_from_slice(other);
                continue;
            }
        }
        // A dot segment at the end stands for a directory.
        if last {
            out.push(b'/');
        }
    }
    if out.is_empty() {
        out.push(b'/');
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{get, manager};

    fn run(target: &'static str, edit: impl FnOnce(&mut HttpConnectionManager)) -> Result<String, u16> {
        let mut config = manager();
        edit(&mut config);
        let mut head = get(target, &[]);
        match apply(&mut head, &config) {
            Ok(()) => Ok(String::from_utf8(head.target.to_vec()).unwrap()),
            Err(reply) => Err(reply.status),
        }
    }

    #[test]
    fn istios_base_normalization() {
        for (sent, seen) in [
            ("/admin", "/admin"),
            ("/admin?x=/../%41", "/admin?x=/../%41"),
            ("/a/../admin", "/admin"),
            ("/a/./b/..", "/a/"),
            ("/%61dmin", "/admin"),
            ("/a/%2e%2E/admin", "/admin"),
            ("/..//admin", "//admin"),
            ("/\\admin", "//admin"),
            ("/a\\..\\admin", "/admin"),
            ("/../../..", "/"),
            ("/a%2Fb%5cc%zz%", "/a%2Fb%5cc%zz%"),
            ("//admin", "//admin"),
            ("*", "*"),
        ] {
            assert_eq!(run(sent, |_| {}).as_deref(), Ok(seen), "{sent}");
        }
        assert_eq!(run("/admin%00", |_| {}), Err(400));
        assert_eq!(run("/admin#x", |_| {}), Err(400));
        assert_eq!(run("/a/../b", |config| config.normalize_path = false).as_deref(), Ok("/a/../b"));
    }

    #[test]
    fn slashes_are_merged_and_unescaped_where_asked() {
        let merge = |config: &mut HttpConnectionManager| config.merge_slashes = true;
        assert_eq!(run("//a///b//", merge).as_deref(), Ok("/a/b/"));
        let mode = |mode| move |config: &mut HttpConnectionManager| {
            config.merge_slashes = true;
            config.escaped_slashes = mode;
        };
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::UnescapeAndForward)).as_deref(), Ok("/admin"));
        assert_eq!(run("/a%5C..%2fadmin", mode(EscapedSlashes::UnescapeAndForward)).as_deref(), Ok("/admin"));
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::Reject)), Err(400));
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::UnescapeAndRedirect)), Err(307));
        assert_eq!(run("/%2fadmin", mode(EscapedSlashes::Keep)).as_deref(), Ok("/%2fadmin"));
    }

    #[test]
    fn the_canonical_form_is_its_own_canonical_form() {
        for target in ["/%2561dmin", "/a/..%2f..%2fb", "/%252e%252e/x", "/.%2e/", "/a//../b", "/%5c%5C../x"] {
            for escaped_slashes in [EscapedSlashes::Keep, EscapedSlashes::UnescapeAndForward] {
                let mut config = manager();
                config.merge_slashes = true;
                config.escaped_slashes = escaped_slashes;
                let mut once = get(target, &[]);
                apply(&mut once, &config).unwrap();
                assert!(!once.target.windows(4).any(|four| four == b"/../"), "{once:?}");
            }
        }
    }
}
