//! The requests that an AuthorizationPolicy's `operation` and `when` name, as Envoy permissions.

use protos::envoy::envoy::config::rbac::v3::{
    Permission,
    permission::{Rule, Set},
};
use protos::envoy::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use protos::envoy::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};

use crate::kinds::policy_principal::{Pattern, cidr};
use crate::values;

/// Every request.
pub fn any() -> Permission {
    of(Rule::Any(true))
}

/// All of these.
pub fn all_of(mut rules: Vec<Permission>) -> Permission {
    match rules.len() {
        0 => any(),
        1 => rules.swap_remove(0),
        _ => of(Rule::AndRules(Set { rules })),
    }
}

/// One of these.
pub fn one_of(rules: Vec<Permission>) -> Permission {
    of(Rule::OrRules(Set { rules }))
}

/// None of these.
pub fn not(rule: Permission) -> Permission {
    of(Rule::NotRule(Box::new(rule)))
}

fn of(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

fn header(name: &str, matcher: Option<StringMatcher>) -> Permission {
    let specifier = match matcher {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
    };
    of(Rule::Header(HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }))
}

/// `operation.hosts`: the authority, in any case; the port is part of it.
pub fn host(value: &str) -> Permission {
    let matcher = Pattern::of(value).matcher().map(|matcher| StringMatcher { ignore_case: true, ..matcher });
    header(":authority", matcher)
}

/// `operation.methods`.
pub fn method(value: &str) -> Permission {
    header(":method", Pattern::of(value).matcher())
}

/// `operation.ports` and `destination.port`: the workload's own port; `None` for what is no port.
pub fn port(value: &str) -> Option<Permission> {
    let number: u16 = value.parse().ok()?;
    Some(of(Rule::DestinationPort(u32::from(number))))
}

/// `operation.paths`: `*` at an end, or `{*}` for one segment and `{**}` for the rest.
pub fn path(value: &str) -> Permission {
    let matcher = if value.contains("{*}") || value.contains("{**}") {
        Some(values::regex(template(value)))
    } else {
        Pattern::of(value).matcher()
    };
    match matcher {
        None => any(),
        Some(matcher) => of(Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(matcher)) })),
    }
}

/// The expression of a path template: it must match the whole path.
fn template(value: &str) -> String {
    let rest = value
        .split("{**}")
        .map(|part| part.split("{*}").map(regex::escape).collect::<Vec<_>>().join("[^/]+"));
    rest.collect::<Vec<_>>().join(".*")
}

/// `destination.ip`; `None` for what is no address.
pub fn destination_address(value: &str) -> Option<Permission> {
    cidr(value).map(|range| of(Rule::DestinationIp(range)))
}

/// `connection.sni`; `*` is any name.
pub fn sni(value: &str) -> Permission {
    match Pattern::of(value).matcher() {
        Some(matcher) => of(Rule::RequestedServerName(matcher)),
        // A matcher needs a pattern: no name at all is the one thing that is not meant.
        None => not(of(Rule::RequestedServerName(values::exact("")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_become_expressions_of_whole_paths() {
        let matches = |pattern: &str, path: &str| {
            regex::Regex::new(&format!("^(?:{})$", template(pattern))).unwrap().is_match(path)
        };
        assert!(matches("/a/{*}/c", "/a/b/c"));
        assert!(!matches("/a/{*}/c", "/a/b/b/c") && !matches("/a/{*}/c", "/a//c"));
        assert!(matches("/a/{**}", "/a/b/c.d") && matches("/a.b/{*}/{**}", "/a.b/x/"));
        assert!(!matches("/a.b/{**}", "/aXb/c"));
    }

    #[test]
    fn hosts_ignore_case_and_methods_do_not() {
        let case = |permission: &Permission| match &permission.rule {
            Some(Rule::Header(header)) => match &header.header_match_specifier {
                Some(HeaderMatchSpecifier::StringMatch(matcher)) => matcher.ignore_case,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        assert!(case(&host("a.example")) && case(&host("*.example")));
        assert!(!case(&method("GET")));
    }

    #[test]
    fn a_star_is_every_path() {
        assert_eq!(path("*"), any());
        assert_ne!(path("/*"), any());
    }

    #[test]
    fn what_is_no_port_is_nothing() {
        assert!(port("8080").is_some());
        for bad in ["", "http", "65536", "-1", "80*"] {
            assert_eq!(port(bad), None, "{bad}");
        }
    }
}
