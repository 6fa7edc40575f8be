//! Forms of names: DNS labels and domains, Kubernetes labels, HTTP header names, ports.

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

/// Whether some host could be named by both; each may start with a wildcard.
pub fn hosts_overlap(one: &str, two: &str) -> bool {
    match (one.strip_prefix('*'), two.strip_prefix('*')) {
        (None, None) => one == two,
        (Some(suffix), None) => two.ends_with(suffix),
        (None, Some(suffix)) => one.ends_with(suffix),
        (Some(one), Some(two)) => one.ends_with(two) || two.ends_with(one),
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
        assert!(hosts_overlap("*.foo.com", "a.foo.com"));
        assert!(hosts_overlap("*.foo.com", "*.com"));
        assert!(!hosts_overlap("*.foo.com", "foo.com"));
        assert!(!hosts_overlap("a", "b"));
    }
}
