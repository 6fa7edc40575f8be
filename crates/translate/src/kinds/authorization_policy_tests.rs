use super::*;
use crate::testing::{MESH, node, notes, world};
use protos::envoy::envoy::config::rbac::v3::{permission, principal};

fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec:\n{spec}\n"
    )
}

/// The rules of payment-1.
fn rules_of(texts: &[String]) -> Rules {
    let mut all = vec![MESH];
    all.extend(texts.iter().map(String::as_str));
    let world = world(&all);
    let node = node("127.10.0.1", "production");
    rules(&Scope::new(&world, &node))
}

fn names(rbac: &Option<Rbac>) -> Vec<String> {
    let mut names: Vec<String> = rbac.iter().flat_map(|rbac| rbac.policies.keys().cloned()).collect();
    names.sort();
    names
}

#[test]
fn without_policies_nothing_is_asked() {
    assert_eq!(rules_of(&[]), Rules::default());
}

#[test]
fn an_allow_policy_without_rules_denies_all() {
    let rules = rules_of(&[policy("a", "  action: ALLOW")]);
    assert_eq!(rules.deny, None);
    assert!(rules.allow.unwrap().policies.is_empty());
}

#[test]
fn an_empty_rule_matches_everything() {
    let rules = rules_of(&[policy("a", "  rules: [{}]")]);
    let allow = rules.allow.unwrap();
    let policy = &allow.policies["ns[production]-policy[a]-rule[0]"];
    assert_eq!(policy.permissions[0].rule, Some(permission::Rule::Any(true)));
    assert_eq!(policy.principals[0].identifier, Some(principal::Identifier::Any(true)));
}

#[test]
fn denials_and_permissions_are_kept_apart_and_named() {
    let rules = rules_of(&[
        policy(
            "no",
            "  action: DENY\n  rules: [{to: [{operation: {paths: [/admin*]}}]}, {to: [{operation: {methods: [PUT]}}]}]",
        ),
        policy("yes", "  rules: [{from: [{source: {namespaces: [production]}}]}]"),
    ]);
    assert_eq!(
        names(&rules.deny),
        ["ns[production]-policy[no]-rule[0]", "ns[production]-policy[no]-rule[1]"]
    );
    assert_eq!(names(&rules.allow), ["ns[production]-policy[yes]-rule[0]"]);
    assert_eq!(rules.deny.unwrap().action, 1);
}

#[test]
fn a_policy_of_another_workload_does_not_count() {
    let rules = rules_of(&[policy("a", "  selector: {matchLabels: {app: frontend}}\n  rules: [{}]")]);
    assert_eq!(rules, Rules::default());
    let rules = rules_of(&[policy("a", "  selector: {matchLabels: {app: payment}}\n  rules: [{}]")]);
    assert!(rules.allow.is_some());
}

#[test]
fn the_fields_of_a_source_must_all_hold_and_its_values_one() {
    let rules = rules_of(&[policy(
        "a",
        "  rules:\n  - from: [{source: {principals: [cluster.local/ns/a/sa/b, cluster.local/ns/c/sa/d], notNamespaces: [x]}}]\n    when: [{key: 'request.headers[X-Version]', values: [v1]}]",
    )]);
    let allow = rules.allow.unwrap();
    let policy = &allow.policies["ns[production]-policy[a]-rule[0]"];
    let Some(principal::Identifier::AndIds(all)) = &policy.principals[0].identifier else { panic!() };
    assert_eq!(all.ids.len(), 3);
    let Some(principal::Identifier::OrIds(values)) = &all.ids[0].identifier else { panic!() };
    assert_eq!(values.ids.len(), 2);
    assert!(matches!(all.ids[1].identifier, Some(principal::Identifier::NotId(_))));
    let Some(principal::Identifier::OrIds(header)) = &all.ids[2].identifier else { panic!() };
    assert!(
        matches!(&header.ids[0].identifier, Some(principal::Identifier::Header(it)) if it.name == "x-version")
    );
}

/// A rule with one block that cannot be evaluated and one that can.
const HALF_KNOWN: &str =
    "  rules: [{from: [{source: {requestPrincipals: ['*']}}, {source: {namespaces: [production]}}]}]";

#[test]
fn what_cannot_be_evaluated_never_allows() {
    let only = "  rules: [{from: [{source: {requestPrincipals: ['*']}}]}]";
    let rules = rules_of(&[policy("a", only)]);
    assert!(rules.allow.unwrap().policies.is_empty(), "the policy still selects the workload: all is denied");
    let half = rules_of(&[policy("a", HALF_KNOWN)]).allow.unwrap();
    assert_eq!(half.policies["ns[production]-policy[a]-rule[0]"].principals.len(), 1);
    for condition in ["request.auth.claims[iss]", "experimental.envoy.filters.x[y]"] {
        let when = format!("  rules: [{{when: [{{key: '{condition}', values: [a]}}]}}]");
        assert!(rules_of(&[policy("a", &when)]).allow.unwrap().policies.is_empty(), "{condition}");
        let negated = format!("  rules: [{{when: [{{key: '{condition}', notValues: [a]}}]}}]");
        assert!(rules_of(&[policy("a", &negated)]).allow.unwrap().policies.is_empty(), "not {condition}");
    }
}

#[test]
fn what_cannot_be_evaluated_always_denies() {
    let spec = "  action: DENY\n  rules: [{from: [{source: {notRequestPrincipals: ['*']}}], to: [{operation: {paths: [/a]}}]}]";
    let deny = rules_of(&[policy("a", spec)]).deny.unwrap();
    let policy = &deny.policies["ns[production]-policy[a]-rule[0]"];
    assert_eq!(policy.principals[0].identifier, Some(principal::Identifier::Any(true)));
    assert!(
        matches!(&policy.permissions[0].rule, Some(permission::Rule::OrRules(_))),
        "the path still counts"
    );
}

#[test]
fn each_failure_is_told_with_its_field() {
    let half = world(&[MESH, &policy("a", HALF_KNOWN)]);
    let told = notes(&half, "AuthorizationPolicy");
    assert!(told[0].starts_with("spec.rules[0].from[0].source.requestPrincipals: tokens"), "{told:?}");
    assert_eq!(told.len(), 1);
    let negative = "  action: DENY\n  rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]";
    let told = notes(&world(&[MESH, &policy("a", negative)]), "AuthorizationPolicy");
    assert!(told[0].starts_with("spec.rules[0].from[0].source.notRequestPrincipals: "), "{told:?}");
    let sound = "  rules: [{from: [{source: {namespaces: [production]}}]}]";
    assert!(notes(&world(&[MESH, &policy("a", sound)]), "AuthorizationPolicy").is_empty());
}

#[test]
fn custom_denies_what_it_would_have_asked_about() {
    let spec = "  action: CUSTOM\n  provider: {name: x}\n  rules: [{to: [{operation: {paths: [/a]}}]}]";
    let rules = rules_of(&[policy("a", spec)]);
    assert_eq!(names(&rules.deny), ["ns[production]-policy[a]-rule[0]"]);
    assert_eq!(rules.allow, None);
}

#[test]
fn dry_runs_and_audits_decide_nothing() {
    let dry = policy("a", "  action: DENY\n  rules: [{}]")
        .replace("{name: a}", "{name: a, annotations: {istio.io/dry-run: 'true'}}");
    assert_eq!(rules_of(&[dry]), Rules::default());
    assert_eq!(rules_of(&[policy("a", "  action: AUDIT\n  rules: [{}]")]), Rules::default());
}
