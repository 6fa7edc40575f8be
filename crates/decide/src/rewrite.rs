//! Changes of path and host before a request is sent, and the target of a redirect.

use config::model::{HostRewrite, PathMatch, PathRewrite, Redirect, RouteMatch};

use crate::view::RequestView;

/// The target with its path rewritten; `None` when nothing changes. `target` is path and query.
pub fn target(rewrite: &PathRewrite, matcher: &RouteMatch, target: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    if path.is_empty() {
        // CONNECT has none.
        return None;
    }
    let mut rewritten = match rewrite {
        PathRewrite::Keep => return None,
        PathRewrite::Prefix(prefix) => {
            let matched = matched_length(matcher, path);
            let mut new = prefix.as_bytes().to_vec();
            new.extend_from_slice(path.get(matched..).unwrap_or_default());
            new
        }
        PathRewrite::Regex { pattern, substitution } => pattern.replace_all(path, substitution),
    };
    // A target is never empty, and never begins with something else than a slash.
    if rewritten.first() != Some(&b'/') {
        rewritten.insert(0, b'/');
    }
    rewritten.extend_from_slice(query);
    Some(rewritten)
}

/// How much of the path a prefix rewrite replaces.
fn matched_length(matcher: &RouteMatch, path: &[u8]) -> usize {
    match &matcher.path {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => prefix.len(),
        PathMatch::Exact(_) | PathMatch::Regex(_) | PathMatch::Connect => path.len(),
    }
}

/// The host that the request gets; `None` when it stays. `hostname`: the chosen host's DNS name.
pub fn host(rewrite: &HostRewrite, request: &impl RequestView) -> Option<Vec<u8>> {
    match rewrite {
        HostRewrite::Keep | HostRewrite::Auto => None,
        HostRewrite::Literal(host) => Some(host.as_bytes().to_vec()),
        HostRewrite::Header(name) => {
            request.header_values(name).next().filter(|value| !value.is_empty()).map(<[u8]>::to_vec)
        }
        HostRewrite::PathRegex { pattern, substitution } => {
            let host = pattern.replace_all(request.path(), substitution);
            (!host.is_empty()).then_some(host)
        }
    }
}

/// `location` of a redirect; `scheme` is the one with which the client came.
pub fn location(
    redirect: &Redirect,
    matcher: &RouteMatch,
    request: &impl RequestView,
    scheme: &str,
) -> Vec<u8> {
    let new_scheme = redirect.scheme.as_deref().unwrap_or(scheme);
    let (old_host, old_port) = split_port(request.authority());
    let mut location = format!("{new_scheme}://").into_bytes();
    match &redirect.host {
        Some(host) => location.extend_from_slice(host.as_bytes()),
        None => location.extend_from_slice(old_host),
    }
    match redirect.port {
        Some(port) => location.extend_from_slice(format!(":{port}").as_bytes()),
        // A changed scheme makes the old scheme's default port wrong.
        None => {
            let default: &[u8] = if scheme == "http" { b"80" } else { b"443" };
            let keeps = redirect.scheme.is_none() || old_port != Some(default);
            if let Some(port) = old_port.filter(|_| keeps && redirect.host.is_none()) {
                location.push(b':');
                location.extend_from_slice(port);
            }
        }
    }
    let rewritten = target(&redirect.path_rewrite, matcher, request.target());
    let old = rewritten.as_deref().unwrap_or_else(|| request.target());
    let end = memchr::memchr(b'?', old).unwrap_or(old.len());
    let (path, query) = old.split_at(end);
    let query = if redirect.strip_query { &[][..] } else { query };
    match &redirect.path {
        // A path with a query of its own replaces the old one.
        Some(path) if path.contains('?') && !redirect.strip_query => {
            location.extend_from_slice(path.as_bytes())
        }
        Some(path) => {
            location.extend_from_slice(path.split('?').next().unwrap_or(path).as_bytes());
            location.extend_from_slice(query);
        }
        None => {
            location.extend_from_slice(path);
            location.extend_from_slice(query);
        }
    }
    location
}

/// Host and port of an authority.
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    match authority.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !authority.ends_with(b"]") => {
            let port = &authority[colon + 1..];
            if !port.is_empty() && port.iter().all(u8::is_ascii_digit) {
                (&authority[..colon], Some(port))
            } else {
                (authority, None)
            }
        }
        _ => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Request;
    use config::model::Regex;

    fn matcher(path: PathMatch) -> RouteMatch {
        RouteMatch {
            path,
            case_sensitive: true,
            headers: vec![],
            query_parameters: vec![],
            grpc: false,
            runtime_fraction: None,
        }
    }

    #[test]
    fn paths_are_rewritten_and_queries_stay() {
        let prefix = |new: &str| PathRewrite::Prefix(new.into());
        let run = |rewrite: &PathRewrite, path, old: &str| {
            target(rewrite, &matcher(path), old.as_bytes()).map(|new| String::from_utf8(new).unwrap())
        };
        let of = |text: &str| PathMatch::Prefix(text.into());
        assert_eq!(run(&prefix("/v2/"), of("/v1/"), "/v1/a?b=/v1/").as_deref(), Some("/v2/a?b=/v1/"));
        assert_eq!(run(&prefix("/x"), PathMatch::Exact("/v1".into()), "/v1?q").as_deref(), Some("/x?q"));
        assert_eq!(run(&prefix(""), of("/v1"), "/v1").as_deref(), Some("/"));
        assert_eq!(run(&PathRewrite::Keep, of("/"), "/a"), None);
        let regex = PathRewrite::Regex {
            pattern: Regex::new("^/a/([0-9]+)").unwrap(),
            substitution: r"/b/\1".into(),
        };
        assert_eq!(run(&regex, of("/"), "/a/12/c?d").as_deref(), Some("/b/12/c?d"));
    }

    #[test]
    fn a_redirect_changes_what_it_names() {
        let base = Redirect {
            status: 301,
            scheme: None,
            host: None,
            port: None,
            path: None,
            path_rewrite: PathRewrite::Keep,
            strip_query: false,
        };
        let run = |edit: &dyn Fn(&mut Redirect), authority| {
            let mut redirect = base.clone();
            edit(&mut redirect);
            let request = Request::get(authority, "/a?b=1");
            String::from_utf8(location(&redirect, &matcher(PathMatch::Prefix("/".into())), &request, "http"))
                .unwrap()
        };
        assert_eq!(run(&|r| r.scheme = Some("https".into()), "a.b:80"), "https://a.b/a?b=1");
        assert_eq!(run(&|r| r.scheme = Some("https".into()), "a.b:8080"), "https://a.b:8080/a?b=1");
        assert_eq!(run(&|r| r.host = Some("c.d".into()), "a.b:8080"), "http://c.d/a?b=1");
        assert_eq!(run(&|r| r.port = Some(8443), "[::1]:80"), "http://[::1]:8443/a?b=1");
        assert_eq!(run(&|r| r.path = Some("/x?y".into()), "a.b"), "http://a.b/x?y");
        assert_eq!(run(&|r| r.strip_query = true, "a.b"), "http://a.b/a");
    }
}
