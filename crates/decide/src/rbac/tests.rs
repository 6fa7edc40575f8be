use super::*;
use crate::testing::{Peer, Request};
use config::model::{HeaderMatch, HeaderMatcher, StringMatch};

const FRONTEND: &str = "spiffe://cluster.local/ns/production/sa/frontend";

fn header(name: &str, value: &str) -> HeaderMatcher {
    let condition = HeaderMatch::Value(StringMatcher::exact(value));
    HeaderMatcher { name: name.into(), condition, invert: false, treat_missing_as_empty: false }
}

fn rules(action: RbacAction, permission: Permission, principal: Principal) -> RbacRules {
    let name = "ns[production]-policy[payment-callers]-rule[0]".into();
    let policy = Policy { name, permissions: vec![permission], principals: vec![principal] };
    RbacRules { action, policies: vec![policy] }
}

fn named(name: &str) -> Principal {
    Principal::Authenticated(Some(StringMatcher::exact(name)))
}

fn path(text: &str) -> Permission {
    Permission::Path(StringMatcher::exact(text))
}

fn get(target: &str) -> Request {
    Request::get("payment", target)
}

#[test]
fn allow_by_principal_and_method() {
    let rules = rules(RbacAction::Allow, Permission::Header(header(":method", "GET")), named(FRONTEND));
    let verdict = request_verdict(&rules, &Peer::spiffe(FRONTEND), &get("/"));
    assert!(verdict.allowed);
    assert_eq!(verdict.policy, Some("ns[production]-policy[payment-callers]-rule[0]"));
    let stranger = Peer::spiffe("spiffe://cluster.local/ns/production/sa/stranger");
    let refused = request_verdict(&rules, &stranger, &get("/"));
    assert_eq!((refused.allowed, refused.policy, refused.evaluated.len()), (false, None, 1));
    let post = Request { method: "POST", ..get("/") };
    assert!(!request_verdict(&rules, &Peer::spiffe(FRONTEND), &post).allowed);
}

#[test]
fn no_policies_deny_all_or_nothing() {
    let none = |action| RbacRules { action, policies: vec![] };
    let judge = |action| request_verdict(&none(action), &Peer::default(), &get("/")).allowed;
    assert!(!judge(RbacAction::Allow));
    assert!(judge(RbacAction::Deny));
    assert!(judge(RbacAction::Log));
}

#[test]
fn a_plaintext_peer_has_no_name() {
    for principal in [Principal::Authenticated(None), named(""), named(FRONTEND)] {
        let rules = rules(RbacAction::Allow, Permission::Any, principal);
        assert!(!request_verdict(&rules, &Peer::default(), &get("/")).allowed);
    }
    let not = rules(RbacAction::Deny, Permission::Any, Principal::Not(Box::new(named(FRONTEND))));
    assert!(!request_verdict(&not, &Peer::default(), &get("/")).allowed);
    assert!(request_verdict(&not, &Peer::spiffe(FRONTEND), &get("/")).allowed);
}

/// Security test 1: forms of one path get the verdict of its canonical form, or are refused.
#[test]
fn forms_of_a_path() {
    use crate::path::{Canonical, PathOptions, canonical_path};
    use config::model::EscapedSlashes;
    let rules = rules(RbacAction::Deny, path("/admin"), Principal::Any);
    for action in
        [EscapedSlashes::UnescapeAndForward, EscapedSlashes::UnescapeAndRedirect, EscapedSlashes::Reject]
    {
        let options = PathOptions { normalize: true, merge_slashes: true, escaped_slashes: action };
        for form in [
            "/admin",
            "//admin",
            "/%2fadmin",
            "/%2Fadmin",
            "/a/../admin",
            "/a/%2e%2E/admin",
            "\\admin",
            "/%5cadmin",
            "/%61dmin",
            "/./admin",
            "/admin?x",
            "/admin#x",
            "/a\\..\\admin",
            "/%00admin",
        ] {
            let denied = match canonical_path(form.as_bytes(), options) {
                Canonical::Forward(target) => {
                    let request = get(std::str::from_utf8(&target).unwrap());
                    !request_verdict(&rules, &Peer::default(), &request).allowed
                }
                // Not forwarded: a client that follows the redirect is judged again.
                Canonical::Redirect(target) => {
                    !request_verdict(&rules, &Peer::default(), &get(std::str::from_utf8(&target).unwrap()))
                        .allowed
                }
                Canonical::Refused(_) => true,
            };
            assert!(denied, "{form} got round the policy with {action:?}");
        }
    }
    // Other resources stay other resources: what the application sees is what was judged.
    for other in ["/ADMIN", "/admin;x=1", "/admin/", "/administrator"] {
        assert!(request_verdict(&rules, &Peer::default(), &get(other)).allowed, "{other}");
    }
}

/// Security test 2 (CVE-2020-8595, CVE-2021-39156).
#[test]
fn query_and_fragment_are_no_path() {
    let deny = rules(RbacAction::Deny, path("/admin"), Principal::Any);
    for target in ["/admin?x", "/admin#x", "/admin?"] {
        assert!(!request_verdict(&deny, &Peer::default(), &get(target)).allowed, "{target}");
    }
}

/// Security test 3: a condition on the host looks at the authority, whatever the form of the request was.
#[test]
fn host_conditions() {
    let ignoring = |text: &str| HeaderMatcher {
        condition: HeaderMatch::Value(StringMatcher {
            pattern: StringMatch::Exact(text.into()),
            ignore_case: true,
        }),
        ..header(":authority", "")
    };
    let deny = rules(RbacAction::Deny, Permission::Header(ignoring("admin.example.com")), Principal::Any);
    for authority in ["admin.example.com", "Admin.Example.COM"] {
        let request = Request::get(authority, "/").with("host", "other");
        assert!(!request_verdict(&deny, &Peer::default(), &request).allowed, "{authority}");
    }
    let by_host = rules(
        RbacAction::Deny,
        Permission::Header(HeaderMatcher { name: "host".into(), ..ignoring("admin.example.com") }),
        Principal::Any,
    );
    assert!(!request_verdict(&by_host, &Peer::default(), &Request::get("admin.example.com", "/")).allowed);
}

/// Security test 4 (CVE-2026-26308, CVE-2021-32777, CVE-2024-10006).
#[test]
fn every_value_of_a_header_counts() {
    let admin = || Permission::Header(header("x-role", "admin"));
    let both = get("/").with("x-role", "user").with("x-role", "admin");
    let joined = get("/").with("x-role", "user,admin");
    for request in [&both, &joined] {
        assert!(
            !request_verdict(&rules(RbacAction::Deny, admin(), Principal::Any), &Peer::default(), request)
                .allowed
        );
        assert!(
            !request_verdict(&rules(RbacAction::Allow, admin(), Principal::Any), &Peer::default(), request)
                .allowed
        );
        let not = || Permission::Not(Box::new(admin()));
        assert!(
            !request_verdict(&rules(RbacAction::Deny, not(), Principal::Any), &Peer::default(), request)
                .allowed
        );
        assert!(
            !request_verdict(&rules(RbacAction::Allow, not(), Principal::Any), &Peer::default(), request)
                .allowed
        );
    }
    let only = get("/").with("x-role", "admin");
    assert!(
        request_verdict(&rules(RbacAction::Allow, admin(), Principal::Any), &Peer::default(), &only).allowed
    );
}

/// Security test 5 (CVE-2026-39350, CVE-2020-16844): strings of a policy are literals.
#[test]
fn principals_are_literals() {
    let judge = |principal: &str, peer: &str| {
        let rules = rules(RbacAction::Allow, Permission::Any, named(principal));
        request_verdict(&rules, &Peer::spiffe(peer), &get("/")).allowed
    };
    assert!(!judge("spiffe://cluster.local/ns/a/sa/x.y", "spiffe://cluster.local/ns/a/sa/xzy"));
    assert!(!judge("spiffe://cluster.local/ns/*/sa/x", "spiffe://cluster.local/ns/a/sa/x"));
    assert!(!judge("spiffe://cluster.local/ns/a/sa/x+", "spiffe://cluster.local/ns/a/sa/xx"));
    assert!(judge("spiffe://cluster.local/ns/a/sa/x.y", "spiffe://cluster.local/ns/a/sa/x.y"));
    let suffix = Principal::Authenticated(Some(StringMatcher {
        pattern: StringMatch::Suffix("/sa/x".into()),
        ignore_case: false,
    }));
    let by_suffix = rules(RbacAction::Allow, Permission::Any, suffix);
    assert!(request_verdict(&by_suffix, &Peer::spiffe("spiffe://b/ns/c/sa/x"), &get("/")).allowed);
    assert!(!request_verdict(&by_suffix, &Peer::spiffe("spiffe://b/ns/c/sa/xx"), &get("/")).allowed);
}

#[test]
fn two_names_allow_only_what_both_may() {
    let peer =
        Peer { uri: vec![FRONTEND.into(), "spiffe://cluster.local/ns/x/sa/y".into()], ..Peer::default() };
    assert!(
        !request_verdict(&rules(RbacAction::Allow, Permission::Any, named(FRONTEND)), &peer, &get("/"))
            .allowed
    );
    assert!(
        !request_verdict(&rules(RbacAction::Deny, Permission::Any, named(FRONTEND)), &peer, &get("/"))
            .allowed
    );
}

#[test]
fn a_request_rule_on_a_connection_is_never_weaker() {
    let peer = Peer::spiffe(FRONTEND);
    assert!(!connection_verdict(&rules(RbacAction::Allow, path("/x"), Principal::Any), &peer).allowed);
    assert!(!connection_verdict(&rules(RbacAction::Deny, path("/x"), Principal::Any), &peer).allowed);
    let not = || Permission::Not(Box::new(path("/x")));
    assert!(!connection_verdict(&rules(RbacAction::Allow, not(), Principal::Any), &peer).allowed);
    assert!(!connection_verdict(&rules(RbacAction::Deny, not(), Principal::Any), &peer).allowed);
    assert!(
        connection_verdict(
            &rules(RbacAction::Allow, Permission::DestinationPort(8080), named(FRONTEND)),
            &peer
        )
        .allowed
    );
    assert!(
        !connection_verdict(
            &rules(RbacAction::Allow, Permission::DestinationPort(8081), named(FRONTEND)),
            &peer
        )
        .allowed
    );
}

#[test]
fn addresses_ports_and_server_names() {
    let peer = Peer { remote: Some([10, 1, 2, 3].into()), ..Peer::default() };
    let judge = |permission, principal| {
        connection_verdict(&rules(RbacAction::Allow, permission, principal), &peer).allowed
    };
    assert!(judge(Permission::Any, Principal::RemoteIp("10.0.0.0/8".parse().unwrap())));
    assert!(!judge(Permission::Any, Principal::DirectRemoteIp("10.0.0.0/8".parse().unwrap())));
    assert!(judge(Permission::DestinationIp("127.2.0.0/16".parse().unwrap()), Principal::Any));
    assert!(judge(Permission::DestinationPortRange { start: 8080, end: 8081 }, Principal::Any));
    assert!(!judge(Permission::DestinationPortRange { start: 8000, end: 8080 }, Principal::Any));
    assert!(judge(
        Permission::RequestedServerName(StringMatcher::exact("outbound_.8080_._.payment")),
        Principal::Any
    ));
}

#[test]
fn one_of_several_permissions_is_enough() {
    let either = Permission::Or(vec![path("/a"), path("/b")]);
    for (action, listed, other) in [(RbacAction::Allow, true, false), (RbacAction::Deny, false, true)] {
        let rules = rules(action, either.clone(), Principal::Any);
        for (target, allowed) in [("/a", listed), ("/b", listed), ("/c", other)] {
            let verdict = request_verdict(&rules, &Peer::default(), &get(target));
            assert_eq!(verdict.allowed, allowed, "{action:?} {target}");
        }
    }
    let none = rules(RbacAction::Allow, Permission::Or(vec![]), Principal::Any);
    assert!(!request_verdict(&none, &Peer::default(), &get("/a")).allowed);
}
