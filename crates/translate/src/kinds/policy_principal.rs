//! The callers that an AuthorizationPolicy's `source` and `when` name, as Envoy principals.
//!
//! A caller's identity is the SPIFFE id in its certificate, so conditions on namespaces, service accounts and trust
//! domains become conditions on parts of `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`. None of the parts can hold a
//! `/`, which is why a search for `/ns/NAMESPACE/` finds the namespace and nothing else.

use api::MeshConfig;
use protos::envoy::envoy::config::core::v3::CidrRange;
use protos::envoy::envoy::config::rbac::v3::{
    Principal,
    principal::{Authenticated, Identifier, Set},
};
use protos::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use protos::envoy::envoy::r#type::matcher::v3::StringMatcher;

use crate::values;

/// Every caller.
pub fn any() -> Principal {
    of(Identifier::Any(true))
}

/// All of these.
pub fn all_of(mut ids: Vec<Principal>) -> Principal {
    match ids.len() {
        0 => any(),
        1 => ids.swap_remove(0),
        _ => of(Identifier::AndIds(Set { ids })),
    }
}

/// One of these.
pub fn one_of(ids: Vec<Principal>) -> Principal {
    of(Identifier::OrIds(Set { ids }))
}

/// None of these.
pub fn not(id: Principal) -> Principal {
    of(Identifier::NotId(Box::new(id)))
}

fn of(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

fn identity(matcher: StringMatcher) -> Principal {
    of(Identifier::Authenticated(Authenticated { principal_name: Some(matcher) }))
}

/// A value as Istio's users write it: `*`, `*suffix`, `prefix*` or the whole text.
pub enum Pattern<'a> {
    /// Any text but the empty one.
    Any,
    /// The end.
    Suffix(&'a str),
    /// The beginning.
    Prefix(&'a str),
    /// The whole text; a `*` inside means itself.
    Exact(&'a str),
}

impl<'a> Pattern<'a> {
    /// Reads a value.
    pub fn of(value: &'a str) -> Self {
        match (value.strip_prefix('*'), value.strip_suffix('*')) {
            _ if value == "*" => Pattern::Any,
            (Some(suffix), _) => Pattern::Suffix(suffix),
            (None, Some(prefix)) => Pattern::Prefix(prefix),
            (None, None) => Pattern::Exact(value),
        }
    }

    /// Envoy's matcher; `None` for [`Pattern::Any`].
    pub fn matcher(&self) -> Option<StringMatcher> {
        match self {
            Pattern::Any => None,
            Pattern::Suffix(suffix) => Some(values::suffix(*suffix)),
            Pattern::Prefix(prefix) => Some(values::prefix(*prefix)),
            Pattern::Exact(text) => Some(values::exact(*text)),
        }
    }
}

/// `source.principals`: SPIFFE ids without `spiffe://`.
pub fn principal(value: &str) -> Principal {
    identity(match Pattern::of(value) {
        Pattern::Any => values::prefix("spiffe://"),
        Pattern::Suffix(suffix) => values::suffix(suffix),
        Pattern::Prefix(prefix) => values::prefix(format!("spiffe://{prefix}")),
        Pattern::Exact(text) => values::exact(format!("spiffe://{text}")),
    })
}

/// The principals that a value means in a mesh with aliases of its trust domain: `cluster.local`, the trust domain and
/// its aliases stand for one another. So does `*suffix` that ends one of them; `*` alone is every trust domain anyway.
pub fn with_aliases(value: &str, mesh: &MeshConfig) -> Vec<String> {
    let own = mesh.trust_domain();
    let known = || std::iter::once(own).chain(mesh.trust_domain_aliases.iter().map(String::as_str));
    match value.split_once('/') {
        Some((domain, rest)) if domain == "cluster.local" || known().any(|it| it == domain) => {
            let mut all: Vec<String> = known().map(|domain| format!("{domain}/{rest}")).collect();
            all.dedup();
            all
        }
        Some((domain, rest)) if domain.len() > 1 && domain.starts_with('*') => {
            let covered = |it: &str| it.ends_with(domain.trim_start_matches('*'));
            let mut all = vec![value.to_owned()];
            if known().any(covered) {
                all.extend(known().filter(|it| !covered(it)).map(|domain| format!("{domain}/{rest}")));
            }
            all
        }
        _ => vec![value.to_owned()],
    }
}

/// `source.namespaces`; a `*` stands for any text wherever it is.
pub fn namespace(value: &str) -> Principal {
    let inner = value.trim_matches('*');
    identity(match (value.starts_with('*'), value.ends_with('*')) {
        _ if inner.contains('*') => {
            let pattern: Vec<String> = value.split('*').map(regex::escape).collect();
            values::regex(format!(".*/ns/{}/.*", pattern.join(".*")))
        }
        _ if value.is_empty() => values::contains("/ns//"),
        _ if inner.is_empty() => values::contains("/ns/"),
        (false, false) => values::contains(format!("/ns/{inner}/")),
        (false, true) => values::contains(format!("/ns/{inner}")),
        (true, false) => values::contains(format!("{inner}/sa/")),
        (true, true) => values::regex(format!(".*/ns/.*{}.*/.*", regex::escape(inner))),
    })
}

/// `source.serviceAccounts`: `namespace/account`, or `account` in the policy's namespace.
pub fn service_account(value: &str, policy_namespace: &str) -> Principal {
    let (namespace, account) = value.split_once('/').unwrap_or((policy_namespace, value));
    identity(values::suffix(format!("/ns/{namespace}/sa/{account}")))
}

/// `source.trustDomains`.
pub fn trust_domain(value: &str) -> Principal {
    identity(match Pattern::of(value) {
        Pattern::Any => values::prefix("spiffe://"),
        Pattern::Suffix(suffix) => values::contains(format!("{suffix}/ns/")),
        Pattern::Prefix(prefix) => values::prefix(format!("spiffe://{prefix}")),
        Pattern::Exact(domain) => values::prefix(format!("spiffe://{domain}/")),
    })
}

/// An address or a range of addresses; `None` for anything else.
pub fn cidr(value: &str) -> Option<CidrRange> {
    let network = match value.parse::<std::net::IpAddr>() {
        Ok(address) => ipnet::IpNet::from(address),
        Err(_) => value.parse::<ipnet::IpNet>().ok()?,
    };
    Some(CidrRange {
        address_prefix: network.network().to_string(),
        prefix_len: values::number(u32::from(network.prefix_len())),
    })
}

/// `source.ipBlocks`: the address at the other end of the connection.
pub fn direct_address(value: &str) -> Option<Principal> {
    cidr(value).map(|range| of(Identifier::DirectRemoteIp(range)))
}

/// `source.remoteIpBlocks`: the original client's address.
pub fn remote_address(value: &str) -> Option<Principal> {
    cidr(value).map(|range| of(Identifier::RemoteIp(range)))
}

/// `when` on a request header.
pub fn header(name: &str, value: &str) -> Principal {
    let specifier = match Pattern::of(value).matcher() {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
    };
    of(Identifier::Header(HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

    fn matches(principal: &Principal, id: &str) -> bool {
        let Some(Identifier::Authenticated(authenticated)) = &principal.identifier else {
            panic!("{principal:?}")
        };
        match authenticated.principal_name.as_ref().unwrap().match_pattern.as_ref().unwrap() {
            MatchPattern::Exact(text) => id == text,
            MatchPattern::Prefix(text) => id.starts_with(text),
            MatchPattern::Suffix(text) => id.ends_with(text),
            MatchPattern::Contains(text) => id.contains(text),
            MatchPattern::SafeRegex(it) => {
                regex::Regex::new(&format!("^(?:{})$", it.regex)).unwrap().is_match(id)
            }
            other => panic!("{other:?}"),
        }
    }

    const ID: &str = "spiffe://cluster.local/ns/production/sa/frontend";

    #[test]
    fn each_condition_matches_what_it_names_and_nothing_else() {
        for (principal, other) in [
            (
                principal("cluster.local/ns/production/sa/frontend"),
                "spiffe://cluster.local/ns/production/sa/frontend2",
            ),
            (principal("*/sa/frontend"), "spiffe://cluster.local/ns/production/sa/x-frontend"),
            (principal("cluster.local/ns/prod*"), "spiffe://cluster.local/ns/staging/sa/frontend"),
            (principal("*"), ""),
            (namespace("production"), "spiffe://cluster.local/ns/production-2/sa/frontend"),
            (namespace("prod*"), "spiffe://cluster.local/ns/my-prod/sa/frontend"),
            (namespace("*uction"), "spiffe://cluster.local/ns/productions/sa/frontend"),
            (namespace("*duct*"), "spiffe://cluster.local/ns/staging/sa/duct"),
            (namespace("p*n"), "spiffe://cluster.local/ns/q/sa/n"),
            (namespace("*"), ""),
            (service_account("frontend", "production"), "spiffe://cluster.local/ns/staging/sa/frontend"),
            (service_account("production/frontend", "x"), "spiffe://cluster.local/ns/production/sa/front"),
            (trust_domain("cluster.local"), "spiffe://cluster.local.evil/ns/production/sa/frontend"),
            (trust_domain("*.local"), "spiffe://cluster.locals/ns/production/sa/frontend"),
            (trust_domain("cluster*"), "spiffe://evil/ns/production/sa/frontend"),
        ] {
            assert!(matches(&principal, ID), "{principal:?} does not match {ID}");
            assert!(!matches(&principal, other), "{principal:?} matches {other}");
        }
    }

    #[test]
    fn an_empty_value_matches_nobody() {
        for principal in [principal(""), namespace(""), service_account("", "production"), trust_domain("")] {
            assert!(!matches(&principal, ID), "{principal:?}");
        }
    }

    #[test]
    fn aliases_stand_for_the_trust_domain() {
        let mesh = MeshConfig {
            trust_domain: "new".to_owned(),
            trust_domain_aliases: vec!["old".to_owned()],
            ..Default::default()
        };
        assert_eq!(with_aliases("cluster.local/ns/a/sa/b", &mesh), ["new/ns/a/sa/b", "old/ns/a/sa/b"]);
        assert_eq!(with_aliases("old/ns/a/sa/b", &mesh), ["new/ns/a/sa/b", "old/ns/a/sa/b"]);
        assert_eq!(with_aliases("foreign/ns/a/sa/b", &mesh), ["foreign/ns/a/sa/b"]);
        assert_eq!(with_aliases("*/ns/a/sa/b", &mesh), ["*/ns/a/sa/b"]);
        assert_eq!(with_aliases("*", &mesh), ["*"]);
        assert_eq!(with_aliases("*ld/ns/a/sa/b", &mesh), ["*ld/ns/a/sa/b", "new/ns/a/sa/b"]);
        assert_eq!(with_aliases("*else/ns/a/sa/b", &mesh), ["*else/ns/a/sa/b"]);
    }

    #[test]
    fn addresses_are_ranges_and_the_rest_is_nothing() {
        assert_eq!(cidr("10.1.2.3").unwrap().prefix_len.unwrap().value, 32);
        let range = cidr("10.1.2.3/8").unwrap();
        assert_eq!((range.address_prefix.as_str(), range.prefix_len.unwrap().value), ("10.0.0.0", 8));
        assert_eq!(cidr("::1").unwrap().prefix_len.unwrap().value, 128);
        for bad in ["", "10.1.2", "10.1.2.3/33", "host"] {
            assert_eq!(cidr(bad), None, "{bad}");
        }
    }
}
