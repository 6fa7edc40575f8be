//! From a host name to the virtual host that has it, in Envoy's search order and without a walk over all domains.

use std::collections::HashMap;
use std::sync::Arc;

/// Domains of a route configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainIndex {
    exact: HashMap<Arc<str>, usize>,
    /// `*.example.com` as `.example.com`, by length, the longest first.
    suffix: Vec<(usize, HashMap<Arc<str>, usize>)>,
    /// `example.*` as `example.`, by length, the longest first.
    prefix: Vec<(usize, HashMap<Arc<str>, usize>)>,
    any: Option<usize>,
}

impl DomainIndex {
    /// Adds a domain (lower case). `Err` holds the virtual host that has it already.
    pub fn insert(&mut self, domain: &str, host: usize) -> Result<(), usize> {
        let (map, key) = if domain == "*" {
            return match self.any {
                Some(taken) => Err(taken),
                None => {
                    self.any = Some(host);
                    Ok(())
                }
            };
        } else if let Some(rest) = domain.strip_prefix('*') {
            (bucket(&mut self.suffix, rest.len()), rest)
        } else if let Some(rest) = domain.strip_suffix('*') {
            (bucket(&mut self.prefix, rest.len()), rest)
        } else {
            (&mut self.exact, domain)
        };
        match map.insert(key.into(), host) {
            Some(taken) => {
                map.insert(key.into(), taken);
                Err(taken)
            }
            None => Ok(()),
        }
    }

    /// Position of the virtual host for a host name in lower case: exact, longest suffix wildcard, longest prefix
    /// wildcard, `*`.
    pub fn find(&self, host: &str) -> Option<usize> {
        if let Some(found) = self.exact.get(host) {
            return Some(*found);
        }
        // A wildcard stands for at least one character.
        for (length, map) in self.suffix.iter().filter(|(length, _)| *length < host.len()) {
            if let Some(found) = host.get(host.len() - length..).and_then(|end| map.get(end)) {
                return Some(*found);
            }
        }
        for (length, map) in self.prefix.iter().filter(|(length, _)| *length < host.len()) {
            if let Some(found) = host.get(..*length).and_then(|begin| map.get(begin)) {
                return Some(*found);
            }
        }
        self.any
    }
}

fn bucket(
    buckets: &mut Vec<(usize, HashMap<Arc<str>, usize>)>,
    length: usize,
) -> &mut HashMap<Arc<str>, usize> {
    let position = match buckets.binary_search_by(|(other, _)| length.cmp(other)) {
        Ok(position) => position,
        Err(position) => {
            buckets.insert(position, (length, HashMap::new()));
            position
        }
    };
    &mut buckets[position].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_order_is_envoys() {
        let mut index = DomainIndex::default();
        for (position, domain) in
            ["*", "*.example.com", "*.b.example.com", "a.*", "a.b.*", "a.b.example.com"].iter().enumerate()
        {
            index.insert(domain, position).unwrap();
        }
        let find = |host| index.find(host);
        assert_eq!(find("a.b.example.com"), Some(5));
        assert_eq!(find("x.b.example.com"), Some(2));
        assert_eq!(find("a.example.com"), Some(1));
        assert_eq!(find("a.b.org"), Some(4));
        assert_eq!(find("a.org"), Some(3));
        assert_eq!(find("org"), Some(0));
        assert_eq!(find(".example.com"), Some(0));
        assert_eq!(find("é.example.com"), Some(1));
    }

    #[test]
    fn a_domain_belongs_to_one_host() {
        let mut index = DomainIndex::default();
        for domain in ["*", "a", "*.a", "a.*"] {
            index.insert(domain, 1).unwrap();
            assert_eq!(index.insert(domain, 2), Err(1));
        }
        assert_eq!(index.find("a"), Some(1));
        assert_eq!(DomainIndex::default().find("a"), None);
    }
}
