//! Which virtual host has the host of a request.

use config::model::RouteConfiguration;
use std::borrow::Cow;

/// The longest host that is looked up; a longer one can only be taken by `*`.
const MAX_HOST: usize = 1024;

/// Position of the virtual host for an authority (`host` or `host:port`): exact, longest suffix wildcard, longest prefix
/// wildcard, `*`. Case does not count. The port counts, unless the configuration ignores it.
pub fn pick_virtual_host(routes: &RouteConfiguration, authority: &[u8]) -> Option<usize> {
    let authority = if routes.ignore_port_in_host_matching { without_port(authority) } else { authority };
    // What is no text cannot be the name of a virtual host.
    let host = std::str::from_utf8(authority).ok().filter(|host| host.len() <= MAX_HOST).unwrap_or("");
    let lower = if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    };
    routes.domains.find(&lower)
}

/// The host without its port; the brackets of an IPv6 address stay.
pub fn without_port(authority: &[u8]) -> &[u8] {
    let Some(colon) = authority.iter().rposition(|byte| *byte == b':') else { return authority };
    let digits = &authority[colon + 1..];
    let host = &authority[..colon];
    let bracketed = host.ends_with(b"]");
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) || (host.contains(&b':') && !bracketed) {
        return authority;
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::{DomainIndex, HeaderOperations};

    fn routes(domains: &[&str], ignore_port: bool) -> RouteConfiguration {
        let mut index = DomainIndex::default();
        domains.iter().enumerate().for_each(|(position, domain)| index.insert(domain, position).unwrap());
        RouteConfiguration {
            name: "8080".into(),
            virtual_hosts: vec![],
            domains: index,
            request_headers: HeaderOperations::default(),
            response_headers: HeaderOperations::default(),
            most_specific_header_mutations_wins: false,
            ignore_port_in_host_matching: ignore_port,
            ignore_path_parameters: false,
            internal_only_headers: vec![],
        }
    }

    #[test]
    fn case_and_port() {
        let exact = routes(&["payment", "payment:8080", "*"], false);
        assert_eq!(pick_virtual_host(&exact, b"PAYMENT"), Some(0));
        assert_eq!(pick_virtual_host(&exact, b"payment:8080"), Some(1));
        assert_eq!(pick_virtual_host(&exact, b"payment:80"), Some(2));
        assert_eq!(pick_virtual_host(&exact, b"payment."), Some(2));
        assert_eq!(pick_virtual_host(&exact, b"\xff"), Some(2));
        assert_eq!(pick_virtual_host(&routes(&["payment"], true), b"Payment:99"), Some(0));
        assert_eq!(pick_virtual_host(&routes(&["payment"], false), b"Payment:99"), None);
    }

    #[test]
    fn ports_of_every_form() {
        for (authority, host) in [
            ("a:1", "a"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a:", "a:"),
            ("a:x", "a:x"),
        ] {
            assert_eq!(without_port(authority.as_bytes()), host.as_bytes(), "{authority}");
        }
    }
}
