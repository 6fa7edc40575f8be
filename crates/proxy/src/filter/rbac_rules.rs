//! Whether RBAC policies match a request. Pure.
//!
//! Values of repeated headers are judged against the caller: what denies matches when any value does, what allows only
//! when all do; inside a negation it is the other way round.

use std::net::IpAddr;
use std::net::SocketAddr;

use config::model::{Permission, Policy, Principal, RbacAction, RbacRules};

use crate::http::RequestHead;
use crate::route::matching::{self, Values};
use crate::tls::Peer;

/// What policies may look at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The request, its path in canonical form.
    pub head: &'a RequestHead,
    /// The client's verified certificate.
    pub peer: Option<&'a Peer>,
    /// The other end of the connection.
    pub direct_remote: IpAddr,
    /// The client, where `x-forwarded-for` is trusted.
    pub remote: IpAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
    /// SNI; empty without.
    pub server_name: &'a str,
}

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'a> {
    /// The request may pass.
    Allowed,
    /// It may not; the policy that denied it, if one did.
    Denied(Option<&'a str>),
}

/// Judges a request.
pub fn decide<'a>(rules: &'a RbacRules, asked: &Asked<'_>) -> Decision<'a> {
    let values = match rules.action {
        RbacAction::Allow => Values::All,
        RbacAction::Deny | RbacAction::Log => Values::Any,
    };
    let matched = rules.policies.iter().find(|policy| matches(policy, asked, values)).map(|policy| &*policy.name);
    match (rules.action, matched) {
        (RbacAction::Allow, Some(_)) | (RbacAction::Deny, None) | (RbacAction::Log, _) => Decision::Allowed,
        (RbacAction::Allow, None) => Decision::Denied(None),
        (RbacAction::Deny, Some(name)) => Decision::Denied(Some(name)),
    }
}

fn matches(policy: &Policy, asked: &Asked<'_>, values: Values) -> bool {
    policy.permissions.iter().any(|one| permission(one, asked, values))
        && policy.principals.iter().any(|one| principal(one, asked, values))
}

fn permission(permission_: &Permission, asked: &Asked<'_>, values: Values) -> bool {
    match permission_ {
        Permission::And(all) => all.iter().all(|one| permission(one, asked, values)),
        Permission::Or(any) => any.iter().any(|one| permission(one, asked, values)),
        Permission::Not(inner) => !permission(inner, asked, values.opposite()),
        Permission::Any => true,
        Permission::Header(matcher) => matching::header(matcher, asked.head, values),
        Permission::Path(matcher) => matching::string(matcher, asked.head.path()),
        Permission::DestinationIp(range) => range.contains(&asked.local.ip()),
        Permission::DestinationPort(port) => *port == asked.local.port(),
        Permission::DestinationPortRange { start, end } => (*start..*end).contains(&u32::from(asked.local.port())),
        Permission::RequestedServerName(matcher) => matching::string(matcher, asked.server_name.as_bytes()),
    }
}

fn principal(principal_: &Principal, asked: &Asked<'_>, values: Values) -> bool {
    match principal_ {
        Principal::And(all) => all.iter().all(|one| principal(one, asked, values)),
        Principal::Or(any) => any.iter().any(|one| principal(one, asked, values)),
        Principal::Not(inner) => !principal(inner, asked, values.opposite()),
        Principal::Any => true,
        Principal::Authenticated(None) => asked.peer.is_some(),
        Principal::Authenticated(Some(matcher)) => asked.peer.is_some_and(|peer| {
            let test = |name: &String| matching::string(matcher, name.as_bytes());
            if !peer.uri_sans.is_empty() {
                peer.uri_sans.iter().any(test)
            } else if !peer.dns_sans.is_empty() {
                peer.dns_sans.iter().any(test)
            } else {
                test(&peer.subject)
            }
        }),
        Principal::DirectRemoteIp(range) => range.contains(&asked.direct_remote),
        Principal::RemoteIp(range) => range.contains(&asked.remote),
        Principal::Header(matcher) => matching::header(matcher, asked.head, values),
        Principal::Path(matcher) => matching::string(matcher, asked.head.path()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{get, mesh_session};
    use config::model::{HeaderMatch, HeaderMatcher, StringMatch, StringMatcher};

    fn text(pattern: StringMatch) -> StringMatcher {
        StringMatcher { pattern, ignore_case: false }
    }

    fn rules(action: RbacAction, permission: Permission, principal: Principal) -> RbacRules {
        let policy = Policy { name: "p".into(), permissions: vec![permission], principals: vec![principal] };
        RbacRules { action, policies: vec![policy] }
    }

    fn run(rules: &RbacRules, head: &RequestHead, id: Option<&str>) -> bool {
        let session = id.map(mesh_session);
        let asked = Asked {
            head,
            peer: session.as_ref().and_then(|session| session.peer.as_deref()),
            direct_remote: "10.0.0.1".parse().unwrap(),
            remote: "192.168.0.1".parse().unwrap(),
            local: "127.0.0.1:8080".parse().unwrap(),
            server_name: "",
        };
        decide(rules, &asked) == Decision::Allowed
    }

    fn header(value: &str) -> HeaderMatcher {
        HeaderMatcher {
            name: "x-role".into(),
            condition: HeaderMatch::Value(StringMatcher::exact(value)),
            invert: false,
            treat_missing_as_empty: false,
        }
    }

    #[test]
    fn only_a_proven_identity_counts() {
        let id = "spiffe://cluster.local/ns/production/sa/web";
        let exact = Principal::Authenticated(Some(StringMatcher::exact(id)));
        let allow = rules(RbacAction::Allow, Permission::Any, exact);
        assert!(run(&allow, &get("/", &[]), Some(id)));
        assert!(!run(&allow, &get("/", &[]), Some("spiffe://cluster.local/ns/production/sa/web2")));
        assert!(!run(&allow, &get("/", &[("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/production/sa/web")]), None));
        let anyone = rules(RbacAction::Allow, Permission::Any, Principal::Authenticated(None));
        assert!(run(&anyone, &get("/", &[]), Some(id)) && !run(&anyone, &get("/", &[]), None));
        let suffix = Principal::Authenticated(Some(text(StringMatch::Suffix("/sa/web".into()))));
        assert!(!run(&rules(RbacAction::Deny, Permission::Any, suffix.clone()), &get("/", &[]), Some(id)));
        let others = rules(RbacAction::Deny, Permission::Any, Principal::Not(Box::new(suffix)));
        assert!(run(&others, &get("/", &[]), Some(id)) && !run(&others, &get("/", &[]), None));
    }

    #[test]
    fn nothing_configured_denies_under_allow_and_passes_under_deny() {
        let none = |action| RbacRules { action, policies: vec![] };
        assert!(!run(&none(RbacAction::Allow), &get("/", &[]), None));
        assert!(run(&none(RbacAction::Deny), &get("/", &[]), None));
        let empty = Policy { name: "p".into(), permissions: vec![Permission::Any], principals: vec![] };
        assert!(!run(&RbacRules { action: RbacAction::Allow, policies: vec![empty] }, &get("/", &[]), None));
    }

    #[test]
    fn a_repeated_header_never_helps_the_caller() {
        let forms = [
            get("/", &[("x-role", "user"), ("x-role", "admin")]),
            get("/", &[("x-role", "admin"), ("x-role", "user")]),
        ];
        let (is_admin, any) = (Permission::Header(header("admin")), Principal::Any);
        let not_admin = Permission::Not(Box::new(is_admin.clone()));
        for head in &forms {
            assert!(!run(&rules(RbacAction::Deny, is_admin.clone(), any.clone()), head, None));
            assert!(!run(&rules(RbacAction::Allow, is_admin.clone(), any.clone()), head, None));
            assert!(!run(&rules(RbacAction::Allow, not_admin.clone(), any.clone()), head, None));
            assert!(!run(&rules(RbacAction::Deny, not_admin.clone(), any.clone()), head, None));
        }
        let user = get("/", &[("x-role", "user")]);
        assert!(run(&rules(RbacAction::Allow, not_admin, any.clone()), &user, None));
        assert!(run(&rules(RbacAction::Deny, is_admin, any), &user, None));
    }

    #[test]
    fn the_query_is_no_part_of_the_path() {
        let path = Permission::Path(StringMatcher::exact("/admin"));
        let deny = rules(RbacAction::Deny, path, Principal::Any);
        assert!(!run(&deny, &get("/admin?x", &[]), None));
        assert!(run(&deny, &get("/admins", &[]), None));
    }

    #[test]
    fn addresses_and_ports() {
        let any = Principal::Any;
        let port = |port| rules(RbacAction::Allow, Permission::DestinationPort(port), Principal::Any);
        assert!(run(&port(8080), &get("/", &[]), None) && !run(&port(8081), &get("/", &[]), None));
        let range = |start, end| {
            rules(RbacAction::Allow, Permission::DestinationPortRange { start, end }, Principal::Any)
        };
        assert!(run(&range(8080, 8081), &get("/", &[]), None) && !run(&range(8000, 8080), &get("/", &[]), None));
        let from = |principal| rules(RbacAction::Allow, Permission::Any, principal);
        assert!(run(&from(Principal::DirectRemoteIp("10.0.0.0/8".parse().unwrap())), &get("/", &[]), None));
        assert!(!run(&from(Principal::RemoteIp("10.0.0.0/8".parse().unwrap())), &get("/", &[]), None));
        let both = Permission::And(vec![Permission::Any, Permission::Or(vec![])]);
        assert!(!run(&rules(RbacAction::Allow, both, any), &get("/", &[]), None));
    }
}
