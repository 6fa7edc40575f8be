//! The one canonical form of a path: what is routed, judged and sent upstream is the same text (RFC 3986 section 6.2,
//! Envoy's `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action`).

use config::model::EscapedSlashes;
use std::borrow::Cow;

/// What is done to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathOptions {
    /// Resolve dot segments, turn backslashes into slashes, decode unreserved characters.
    pub normalize: bool,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// What happens with `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canonical<'a> {
    /// Go on with this path and query; borrowed when nothing changed.
    Forward(Cow<'a, [u8]>),
    /// Answer 307 with this location.
    Redirect(Vec<u8>),
    /// Answer 400 for this reason.
    Refused(&'static str),
}

/// Makes a target (`/path?query`) canonical. The query is never changed. `*` (of OPTIONS) stays.
pub fn canonical_path(target: &[u8], options: PathOptions) -> Canonical<'_> {
    if target == b"*" {
        return Canonical::Forward(Cow::Borrowed(target));
    }
    // A client never sends a fragment; a reader that does not cut it off would see another path than the policy.
    if target.contains(&b'#') {
        return Canonical::Refused("the path has a fragment");
    }
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let mut redirect = false;
    let mut path = Cow::Borrowed(path);
    if options.escaped_slashes != EscapedSlashes::Keep && has_escaped_slash(&path) {
        match options.escaped_slashes {
            EscapedSlashes::Reject => return Canonical::Refused("the path has an escaped slash"),
            EscapedSlashes::UnescapeAndRedirect => redirect = true,
            EscapedSlashes::UnescapeAndForward | EscapedSlashes::Keep => {}
        }
        path = Cow::Owned(unescape_slashes(&path));
    }
    if options.normalize {
        match normalize(&path) {
            Ok(Some(changed)) => path = Cow::Owned(changed),
            Ok(None) => {}
            Err(reason) => return Canonical::Refused(reason),
        }
    }
    if options.merge_slashes && path.windows(2).any(|pair| pair == b"//") {
        path = Cow::Owned(merge_slashes(&path));
    }
    match path {
        Cow::Borrowed(_) => Canonical::Forward(Cow::Borrowed(target)),
        Cow::Owned(mut changed) => {
            changed.extend_from_slice(query);
            if redirect { Canonical::Redirect(changed) } else { Canonical::Forward(Cow::Owned(changed)) }
        }
    }
}

fn has_escaped_slash(path: &[u8]) -> bool {
    path.windows(3).any(|escape| escaped_slash(escape).is_some())
}

fn escaped_slash(escape: &[u8]) -> Option<u8> {
    match escape {
        b"%2f" | b"%2F" => Some(b'/'),
        b"%5c" | b"%5C" => Some(b'\\'),
        _ => None,
    }
}

fn unescape_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match rest.get(..3).and_then(escaped_slash) {
            Some(slash) => {
                out.push(slash);
                rest = &rest[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    for byte in path {
        if *byte != b'/' || out.last() != Some(&b'/') {
            out.push(*byte);
        }
    }
    out
}

/// `Ok(None)`: it is canonical already.
fn normalize(path: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    if !matches!(path.first(), Some(b'/' | b'\\')) {
        return Err("the path does not begin with a slash");
    }
    let special = |byte: &u8| matches!(byte, b'%' | b'\\') || *byte <= 0x20 || *byte >= 0x7f;
    if !path.iter().any(special) && !path.windows(2).any(|pair| pair == b"/.") {
        return Ok(None);
    }
    let decoded = decode(path)?;
    let mut out: Vec<u8> = Vec::with_capacity(decoded.len());
    let mut segments = decoded[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        // Servers that take parameters off a segment resolve `..;x` as `..`.
        match segment.split(|byte| *byte == b';').next().unwrap_or_default() {
            b"." => {}
            b".." => {
                let parent = out.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                out.truncate(parent);
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
        }
        if last {
            out.push(b'/');
        }
    }
    Ok(if out == path { None } else { Some(out) })
}

/// Backslashes become slashes, escapes of unreserved characters are decoded once, bytes outside ASCII are escaped. A
/// percent sign that is no escape, and would become one by what is decoded behind it, is escaped itself: `%%361` must
/// not come out as `%61`, which the application would decode to a path that no policy has seen.
fn decode(path: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(path.len());
    let mut index = 0;
    let mut bare = None;
    while let Some(byte) = path.get(index) {
        index += 1;
        match byte {
            b'\\' => out.push(b'/'),
            b'%' => {
                let digit =
                    |offset: usize| path.get(index + offset).and_then(|byte| char::from(*byte).to_digit(16));
                match (digit(0), digit(1)) {
                    (Some(0), Some(0)) => return Err("the path has a NUL"),
                    (Some(high), Some(low)) => {
                        let value = (high * 16 + low) as u8;
                        if value.is_ascii_alphanumeric() || b"-._~".contains(&value) {
                            out.push(value);
                            index += 2;
                        } else {
                            out.push(b'%');
                        }
                    }
                    _ => {
                        bare = Some(out.len());
                        out.push(b'%');
                    }
                }
            }
            0..=0x20 | 0x7f => return Err("the path has a space or control character"),
            0x80.. => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                out.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
            }
            _ => out.push(*byte),
        }
        if let Some(at) = bare.filter(|at| out.len() > at + 2) {
            if out[at + 1..at + 3].iter().all(u8::is_ascii_hexdigit) {
                out.splice(at + 1..at + 1, *b"25");
            }
            bare = None;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: PathOptions = PathOptions {
        normalize: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::UnescapeAndForward,
    };

    fn forward(target: &str, options: PathOptions) -> String {
        match canonical_path(target.as_bytes(), options) {
            Canonical::Forward(path) => String::from_utf8(path.into_owned()).unwrap(),
            other => panic!("{target}: {other:?}"),
        }
    }

    #[test]
    fn normalizes() {
        let options = PathOptions { merge_slashes: false, escaped_slashes: EscapedSlashes::Keep, ..ALL };
        for (target, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/..", "/"),
            ("/../..", "/"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/.a", "/.a"),
            ("/a..", "/a.."),
            ("/...", "/..."),
            ("/%2e%2E/a", "/a"),
            ("/%61", "/a"),
            ("/%252e", "/%252e"),
            ("/a\\b", "/a/b"),
            ("/%2F", "/%2F"),
            ("/%zz", "/%zz"),
            ("/%", "/%"),
            ("/a%20b", "/a%20b"),
            ("/é", "/%C3%A9"),
            ("/a/..?b=/../c", "/?b=/../c"),
            ("//a", "//a"),
            ("/a//../b", "/a/b"),
            ("/a/..;/admin", "/admin"),
            ("/a/..;x=y/admin", "/admin"),
            ("/a/%2e%2e;x/admin", "/admin"),
            ("/a/.;/b", "/a/b"),
            ("/a/..;", "/"),
            ("/a;v=1/../b", "/b"),
            ("/a/b;x=..", "/a/b;x=.."),
            ("*", "*"),
            ("/a?%2e", "/a?%2e"),
        ] {
            assert_eq!(forward(target, options), expected, "{target}");
        }
    }

    #[test]
    fn merging_and_escaped_slashes() {
        assert_eq!(forward("//a///b/", ALL), "/a/b/");
        assert_eq!(forward("/%2fadmin", ALL), "/admin");
        assert_eq!(forward("/a%5C..%2Fadmin", ALL), "/admin");
        let with = |escaped_slashes| PathOptions { escaped_slashes, ..ALL };
        let reject = canonical_path(b"/a%2Fb", with(EscapedSlashes::Reject));
        assert_eq!(reject, Canonical::Refused("the path has an escaped slash"));
        let redirect = canonical_path(b"/a%2fb?c=%2f", with(EscapedSlashes::UnescapeAndRedirect));
        assert_eq!(redirect, Canonical::Redirect(b"/a/b?c=%2f".to_vec()));
        assert_eq!(forward("/a%2Fb", with(EscapedSlashes::Keep)), "/a%2Fb");
    }

    #[test]
    fn refuses() {
        for bad in ["/a#b", "/a?b#c", "/%00", "a", "", "/a b", "/a\tb", "/a\x1fb", "/a\x7fb"] {
            assert!(matches!(canonical_path(bad.as_bytes(), ALL), Canonical::Refused(_)), "{bad:?}");
        }
    }

    #[test]
    fn is_idempotent_and_borrows_what_is_canonical() {
        assert!(matches!(canonical_path(b"/a/b?c", ALL), Canonical::Forward(Cow::Borrowed(_))));
        // Every text of up to five pieces of what a path can be made of.
        let pieces = ["/", ".", "..", "%2e", "%2F", "\\", "a", "%41", "//", ";"];
        let mut texts = vec![String::from("/")];
        for _ in 0..5 {
            let longer: Vec<String> = texts
                .iter()
                .flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}")))
                .collect();
            for text in &longer {
                let once = forward(text, ALL);
                assert_eq!(forward(&once, ALL), once, "{text}");
                assert!(
                    !once.split('/').any(|segment| matches!(segment.split(';').next(), Some("." | ".."))),
                    "{text} became {once}"
                );
            }
            texts = longer.into_iter().take(3000).collect();
        }
    }

    #[test]
    fn decoding_never_makes_a_new_escape() {
        // An application decodes what it gets: it must not find a path there that no policy has seen.
        for (target, expected) in [
            ("/%%361dmin", "/%2561dmin"),
            ("/%%32e%%32e/admin", "/%252e%252e/admin"),
            ("/%6%31dmin", "/%2561dmin"),
            ("/%%32%66admin", "/%252fadmin"),
            ("/%%35%43admin", "/%255Cadmin"),
            ("/%%300", "/%2500"),
            ("/%%%36%31", "/%%2561"),
            ("/%%", "/%%"),
            ("/%%41%7a", "/%Az"),
        ] {
            let once = forward(target, ALL);
            assert_eq!(once, expected, "{target}");
            assert_eq!(forward(&once, ALL), once, "{target}");
        }
    }

    #[test]
    fn without_normalization_only_the_fragment_is_refused() {
        let off =
            PathOptions { normalize: false, merge_slashes: false, escaped_slashes: EscapedSlashes::Keep };
        assert_eq!(forward("/a/../b//c%2F", off), "/a/../b//c%2F");
    }
}
