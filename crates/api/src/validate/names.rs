//! Forms of names: DNS labels and domains, Kubernetes labels, HTTP header names, ports.

use std::collections::HashSet;

/// RFC 1123 label: lower-case letters, digits and `-`, at most 63 characters, no `-` at either end.
pub fn is_dns_label(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 characters.
pub fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_label)
}

/// A host name as Istio takes it: labels of letters, digits, `-` and `_` in either case, at most 255 characters, one
/// trailing dot allowed, not a bare number at the end (that would be an address).
pub fn is_fqdn(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(inner)
            && !label.starts_with(['-', '_'])
            && !label.ends_with(['-', '_'])
    };
    let number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    !name.is_empty() && name.len() <= 255 && !number && name.split('.').all(label)
}

/// A host name with an optional wildcard at its start: `*`, `*.example.com`, `*example.com`.
pub fn is_wildcard_fqdn(name: &str) -> bool {
    match name.strip_prefix('*') {
        None => is_fqdn(name),
        Some("") => true,
        Some(rest) => {
            let rest = rest.strip_prefix('.').or(rest.strip_prefix('-')).unwrap_or(rest);
            rest.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty() || is_fqdn(rest)
        }
    }
}

/// Pairs of hosts that name some host in common, by their places in the list, the earlier first. Of three hosts that
/// overlap each other at least two pairs are given. Cost grows as n log n.
pub fn overlapping_hosts(hosts: &[String]) -> Vec<(usize, usize)> {
    // Backwards, a wildcard is a prefix of everything it covers, and stands right before it in the order.
    let mut backwards: Vec<(String, bool, usize)> = hosts
        .iter()
        .enumerate()
        .map(|(place, host)| {
            let suffix = host.strip_prefix('*');
            (suffix.unwrap_or(host).chars().rev().collect(), suffix.is_none(), place)
        })
        .collect();
    backwards.sort();
    let overlap = |one: &(String, bool, usize), two: &(String, bool, usize)| {
        if one.1 { two.1 && one.0 == two.0 } else { two.0.starts_with(&one.0) }
    };
    let pairs = backwards.iter().zip(backwards.iter().skip(1)).filter(|(one, two)| overlap(one, two));
    let mut pairs: Vec<(usize, usize)> =
        pairs.map(|(one, two)| (one.2.min(two.2), one.2.max(two.2))).collect();
    pairs.sort_by_key(|(_, later)| *later);
    pairs
}

/// A list of hosts, some with a wildcard at the start, that can be asked quickly.
#[derive(Debug)]
pub struct HostSet<'a> {
    exact: HashSet<&'a str>,
    suffixes: HashSet<&'a str>,
}

impl<'a> HostSet<'a> {
    /// The set of these hosts.
    pub fn new(hosts: &'a [String]) -> Self {
        let suffixes = hosts.iter().filter_map(|host| host.strip_prefix('*')).collect();
        HostSet { exact: hosts.iter().map(String::as_str).collect(), suffixes }
    }

    /// Whether every name that `host` stands for is one of some host of the set.
    pub fn covers(&self, host: &str) -> bool {
        let name = host.strip_prefix('*').unwrap_or(host);
        self.exact.contains(host)
            || name.char_indices().any(|(at, _)| self.suffixes.contains(&name[at..]))
            || self.suffixes.contains("")
    }
}

/// A label key of Kubernetes: `[prefix/]name`.
pub fn is_label_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_qualified_name(name),
        None => is_qualified_name(key),
    }
}

/// A label value of Kubernetes; may be empty.
pub fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified_name(value)
}

fn is_qualified_name(name: &str) -> bool {
    let ends = |character: char| character.is_ascii_alphanumeric();
    name.len() <= 63
        && name.starts_with(ends)
        && name.ends_with(ends)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// RFC 9110 header field name.
pub fn is_header_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}

/// Name of a container port (IANA service name): at most 15 characters, at least one letter.
pub fn is_port_name(name: &str) -> bool {
    is_dns_label(name)
        && name.len() <= 15
        && name.bytes().any(|byte| byte.is_ascii_lowercase())
        && !name.contains("--")
}

/// An IP address, or a block of them (`10.0.0.0/8`).
pub fn is_ip_block(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok() || text.parse::<ipnet::IpNet>().is_ok()
}

/// 1 to 65535.
pub fn is_port(number: u32) -> bool {
    (1..=65535).contains(&number)
}

/// `[namespace/]name` of a gateway, or `mesh`. Gateways that are derived from others have `~` in their names.
pub fn is_gateway_name(name: &str) -> bool {
    let gateway = |name: &str| name.split('~').all(is_dns_subdomain);
    match name.split_once('/') {
        Some((namespace, name)) => (namespace == "." || is_dns_label(namespace)) && gateway(name),
        None => is_fqdn(name) || gateway(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_names() {
        assert!(is_dns_subdomain("payment-service.v1"));
        for wrong in ["", "A", "a_b", "-a", "a-", "a..b", &"a".repeat(64)] {
            assert!(!is_dns_subdomain(wrong), "{wrong}");
        }
        assert!(is_wildcard_fqdn("*.example.com") && is_wildcard_fqdn("*") && is_wildcard_fqdn("reviews"));
        for wrong in ["a.*.com", "example.*", "", "exa mple.com", "**", "10.0.0.1", "a/b"] {
            assert!(!is_wildcard_fqdn(wrong), "{wrong}");
        }
        assert!(is_label_key("app.kubernetes.io/name") && !is_label_key("a/b/c") && !is_label_key(""));
        assert!(
            is_label_value("") && is_label_value("v1.2_3") && !is_label_value("*") && !is_label_value("a b")
        );
        assert!(is_header_name("x-canary-user") && !is_header_name("x canary") && !is_header_name(""));
        assert!(is_port_name("http-web") && !is_port_name("8080") && !is_port_name("averyveryverylongname"));
        assert!(
            is_ip_block("10.0.0.0/8")
                && is_ip_block("::1")
                && !is_ip_block("10.0.0.0/33")
                && !is_ip_block("ten")
        );
    }

    #[test]
    fn wildcards_overlap() {
        let pairs =
            |hosts: &[&str]| overlapping_hosts(&hosts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(pairs(&["*.foo.com", "b", "a.foo.com"]), [(0, 2)]);
        assert_eq!(pairs(&["*.foo.com", "*.com"]), [(0, 1)]);
        assert_eq!(pairs(&["a", "a"]), [(0, 1)]);
        assert_eq!(pairs(&["*foo", "foo"]), [(0, 1)]);
        assert_eq!(pairs(&["*.foo.com", "foo.com", "a", "b", "a.b"]), []);
    }

    #[test]
    fn a_set_of_hosts_covers() {
        let hosts = ["a.com".to_string(), "*.b.com".to_string()];
        let set = HostSet::new(&hosts);
        assert!(
            set.covers("a.com") && set.covers("x.b.com") && set.covers("*.y.b.com") && set.covers("*.b.com")
        );
        assert!(!set.covers("b.com") && !set.covers("x.a.com") && !set.covers("*.com") && !set.covers("*"));
    }
}
