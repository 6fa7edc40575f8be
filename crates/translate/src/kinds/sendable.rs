//! What a proxy would refuse. A proxy takes a route configuration whole or not at all, so one rule that it refuses
//! would keep every other change from it. Such a part is not sent, and a note says what stands in its place.

use api::kinds::common::StringMatch;
use api::kinds::virtual_service::{HttpMatchRequest, HttpRoute};

/// Headers that decide where a message ends, which connection it belongs to, or which host it is for.
const FRAMING: [&str; 7] =
    ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"];

/// Why a header may not be written or removed; `None` when it may.
pub fn header_defect(name: &str) -> Option<String> {
    let framing = FRAMING.iter().any(|it| it.eq_ignore_ascii_case(name));
    framing.then(|| format!("{name} decides how a message is read and is never changed by a route"))
}

/// Why a value may not be written into a header; `None` when it may.
pub fn value_defect(value: &str) -> Option<String> {
    if value.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Some("the value has a control character".to_owned());
    }
    super::format_string::defect(value)
}

/// Why a match can never hold: a path has no query and no fragment.
pub fn path_defect(condition: &HttpMatchRequest) -> Option<String> {
    match &condition.uri {
        Some(StringMatch::Exact(text) | StringMatch::Prefix(text)) if text.contains(['?', '#']) => Some(
            format!("\"{text}\" has a query or a fragment, which is never part of a path: match queryParams"),
        ),
        _ => None,
    }
}

fn bad_path(path: &str) -> bool {
    path.len() > 8192 || path.bytes().any(|byte| byte <= 0x20 || byte >= 0x7f)
}

/// Whether a host cannot be written into a request; the empty text asks for no rewrite.
pub fn bad_host(host: &str) -> bool {
    !host.is_empty() && (bad_path(host) || host.len() > 512 || host.contains(['/', '?', '#', '@']))
}

/// Why what a rule does cannot be done: field below the rule, and reason. Such a rule answers 500.
pub fn rule_defects(rule: &HttpRoute) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let path = "it has a space, a control character or a character outside ASCII".to_owned();
    let host = "it is not a host that may be written into a request".to_owned();
    if let Some(redirect) = &rule.redirect {
        if bad_path(&redirect.uri) || bad_path(&redirect.prefix_rewrite) {
            found.push(("redirect.uri", path.clone()));
        }
        if bad_host(&redirect.authority) {
            found.push(("redirect.authority", host.clone()));
        }
        if !matches!(redirect.scheme.to_ascii_lowercase().as_str(), "" | "http" | "https") {
            found.push(("redirect.scheme", format!("\"{}\" is neither http nor https", redirect.scheme)));
        }
    }
    if let Some(rewrite) = &rule.rewrite {
        if bad_path(&rewrite.uri) {
            found.push(("rewrite.uri", path));
        }
        if bad_host(&rewrite.authority) {
            found.push(("rewrite.authority", host));
        }
        if let Some(it) = &rewrite.uri_regex_rewrite
            && !substitution_is_sound(&it.pattern, &it.rewrite)
        {
            let reason =
                "a backslash must be followed by the number of a group of the pattern, or by a backslash";
            found.push(("rewrite.uriRegexRewrite.rewrite", reason.to_owned()));
        }
    }
    found
}

fn substitution_is_sound(pattern: &str, substitution: &str) -> bool {
    // The size is bounded when the resource is read; the limit here only keeps the count of groups cheap.
    let groups =
        regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_or(0, |it| it.captures_len());
    let mut characters = substitution.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            let sound = match characters.next() {
                Some('\\') => true,
                Some(digit) => digit.to_digit(10).is_some_and(|group| (group as usize) < groups),
                None => false,
            };
            if !sound {
                return false;
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::kinds::virtual_service::{HttpRedirect, HttpRewrite, RegexRewrite};

    #[test]
    fn headers_that_frame_a_message_are_left_alone() {
        assert!(header_defect("Content-Length").is_some() && header_defect("host").is_some());
        assert!(header_defect("x-content-length").is_none());
        assert!(value_defect("a\u{1}b").is_some() && value_defect("a\tb").is_none());
    }

    #[test]
    fn rules_that_cannot_be_done_are_found() {
        let rewrite = |uri: &str, authority: &str, pattern: &str, substitution: &str| HttpRoute {
            rewrite: Some(HttpRewrite {
                uri: uri.to_owned(),
                authority: authority.to_owned(),
                uri_regex_rewrite: (!pattern.is_empty())
                    .then(|| RegexRewrite { pattern: pattern.to_owned(), rewrite: substitution.to_owned() }),
            }),
            ..Default::default()
        };
        assert!(rule_defects(&rewrite("/a", "b.example:80", "", "")).is_empty());
        assert!(rule_defects(&rewrite("", "", "/(a)", r"/\1\\")).is_empty());
        assert_eq!(rule_defects(&rewrite("/a b", "c d", "", "")).len(), 2);
        assert_eq!(rule_defects(&rewrite("", "", "/(a)", r"/\2")).len(), 1);
        let redirect = |scheme: &str, authority: &str, uri: &str| {
            let redirect = HttpRedirect {
                scheme: scheme.to_owned(),
                authority: authority.to_owned(),
                uri: uri.to_owned(),
                ..Default::default()
            };
            let rule = HttpRoute { redirect: Some(redirect), ..Default::default() };
            rule_defects(&rule).into_iter().map(|(field, _)| field).collect::<Vec<_>>()
        };
        assert_eq!(redirect("HTTPS", "b.example:80", "/a"), Vec::<&str>::new());
        assert_eq!(redirect("ftp", "", ""), ["redirect.scheme"]);
        assert_eq!(redirect("", "b.example/a", ""), ["redirect.authority"]);
        assert_eq!(redirect("", "", "/a b"), ["redirect.uri"]);
    }
}
