//! Host names of the mesh: short names, wildcards, and which name is the most specific.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// DNS domain of the mesh; a Service is `<name>.<namespace>.svc.<domain>`.
pub const DOMAIN: &str = "cluster.local";

/// Full name of a Service.
pub fn service_fqdn(name: &str, namespace: &str) -> String {
    format!("{name}.{namespace}.svc.{DOMAIN}")
}

/// Name and namespace of the Service that a full name stands for; `None` for any other host.
pub fn split_service_fqdn(host: &str) -> Option<(&str, &str)> {
    let rest = host.strip_suffix(DOMAIN)?.strip_suffix(".svc.")?;
    let (name, namespace) = rest.split_once('.')?;
    (!name.is_empty() && !namespace.is_empty() && !namespace.contains('.')).then_some((name, namespace))
}

/// Expands a host as written in a rule of `namespace`: without a dot it names a Service of that namespace; `*`, IP
/// addresses and everything with a dot stay as they are. Names are compared in lower case.
pub fn expand(host: &str, namespace: &str) -> String {
    if host.is_empty() || host == "*" || host.contains('.') || host.parse::<IpAddr>().is_ok() {
        host.to_ascii_lowercase()
    } else {
        service_fqdn(&host.to_ascii_lowercase(), namespace)
    }
}

/// Whether `pattern` (a host, perhaps with a leading `*`) covers the exact host `host`.
pub fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == host,
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix) || suffix.is_empty(),
    }
}

/// Values by host pattern, found by the host they cover, the most specific pattern first.
#[derive(Debug, Clone)]
pub struct HostIndex<T> {
    exact: BTreeMap<String, Vec<T>>,
    /// Wildcard patterns, the longest first.
    wildcards: Vec<(String, Vec<T>)>,
}

impl<T> Default for HostIndex<T> {
    fn default() -> Self {
        HostIndex { exact: BTreeMap::new(), wildcards: Vec::new() }
    }
}

impl<T> HostIndex<T> {
    /// Adds a value; values of one pattern keep the order in which they came.
    pub fn insert(&mut self, pattern: &str, value: T) {
        if !pattern.starts_with('*') {
            self.exact.entry(pattern.to_owned()).or_default().push(value);
            return;
        }
        match self.wildcards.iter_mut().find(|(known, _)| known == pattern) {
            Some((_, values)) => values.push(value),
            None => {
                let at = self.wildcards.partition_point(|(known, _)| known.len() >= pattern.len());
                self.wildcards.insert(at, (pattern.to_owned(), vec![value]));
            }
        }
    }

    /// All values whose pattern covers `host`, grouped by pattern, the most specific pattern first. A wildcard host is
    /// covered by itself and by shorter wildcards.
    pub fn matches<'a, 'h>(
        &'a self,
        host: &'h str,
    ) -> impl Iterator<Item = (&'a str, &'a [T])> + use<'a, 'h, T> {
        let exact = self.exact.get_key_value(host).map(|(key, values)| (key.as_str(), values.as_slice()));
        let wildcards = self
            .wildcards
            .iter()
            .filter(move |(pattern, _)| covers(pattern, host) || pattern == host)
            .map(|(pattern, values)| (pattern.as_str(), values.as_slice()));
        exact.into_iter().chain(wildcards)
    }

    /// Every pattern with its values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[T])> {
        let exact = self.exact.iter().map(|(pattern, values)| (pattern.as_str(), values.as_slice()));
        exact.chain(self.wildcards.iter().map(|(pattern, values)| (pattern.as_str(), values.as_slice())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_dot_belongs_to_the_namespace_of_the_rule() {
        assert_eq!(expand("payment", "production"), "payment.production.svc.cluster.local");
        assert_eq!(expand("Payment", "production"), "payment.production.svc.cluster.local");
    }

    #[test]
    fn everything_else_stays() {
        assert_eq!(expand("WWW.Example.com", "production"), "www.example.com");
        for host in ["payment.production", "*", "127.0.0.1", "::1", "*.example.com", "a.b.svc.cluster.local"]
        {
            assert_eq!(expand(host, "production"), host);
        }
    }

    #[test]
    fn service_names_are_split_and_others_are_not() {
        assert_eq!(split_service_fqdn("a.b.svc.cluster.local"), Some(("a", "b")));
        for host in
            ["a.b", "a.svc.cluster.local", "a.b.c.svc.cluster.local", "example.com", ".b.svc.cluster.local"]
        {
            assert_eq!(split_service_fqdn(host), None, "{host}");
        }
    }

    #[test]
    fn a_wildcard_covers_longer_names_only() {
        assert!(covers("*.foo.com", "a.foo.com") && covers("*.foo.com", "a.b.foo.com") && covers("*", "x"));
        assert!(covers("*foo.com", "barfoo.com"));
        assert!(
            !covers("*.foo.com", "foo.com")
                && !covers("*.foo.com", "foo.org")
                && !covers("foo.com", "a.foo.com")
        );
    }

    #[test]
    fn the_most_specific_pattern_comes_first() {
        let mut index = HostIndex::default();
        for pattern in ["*", "*.com", "a.foo.com", "*.foo.com", "*.org"] {
            index.insert(pattern, pattern.len());
        }
        let found: Vec<&str> = index.matches("a.foo.com").map(|(pattern, _)| pattern).collect();
        assert_eq!(found, ["a.foo.com", "*.foo.com", "*.com", "*"]);
        assert_eq!(index.matches("*.foo.com").next().map(|(pattern, _)| pattern), Some("*.foo.com"));
    }
}
