//! Validation of AuthorizationPolicy. What would silently mean "any", or never match, is refused.

use super::authorization_values as values;
use super::shared;
use crate::kinds::authorization_policy::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source};
use crate::object::Resource;
use crate::origin::Origin;
use crate::path;
use crate::report::Report;
use crate::text::{did_you_mean, quote};

/// Checks an AuthorizationPolicy.
pub fn authorization_policy(resource: &Resource<AuthorizationPolicy>, report: &mut Report<'_>) {
    let policy = &resource.spec;
    shared::selector(report, "spec.selector", policy.selector.as_ref());
    let mut refs: Vec<_> =
        policy.target_ref.iter().map(|target| ("spec.targetRef".to_string(), target)).collect();
    refs.extend(
        policy
            .target_refs
            .iter()
            .enumerate()
            .map(|(at, target)| (path::index("spec.targetRefs", at), target)),
    );
    shared::target_refs(report, &resource.meta.namespace, &refs, policy.selector.is_some());
    match (policy.action, &policy.provider) {
        (Action::Custom, Some(provider)) if !provider.name.is_empty() => {}
        (Action::Custom, _) => report.error("spec.provider", "action CUSTOM needs provider.name"),
        (_, Some(_)) => report.error("spec.provider", "only action CUSTOM has a provider"),
        (_, None) => {}
    }
    if policy.rules.is_empty() && matches!(policy.action, Action::Deny | Action::Custom) {
        let action = if policy.action == Action::Deny { "DENY" } else { "CUSTOM" };
        let remedy = "write \"rules: [{}]\" for every request";
        report.error_with("spec.rules", format!("action {action} without rules never happens"), remedy);
    }
    if policy.rules.len() > 512 {
        report.error("spec.rules", format!("{} rules; at most 512 are allowed", policy.rules.len()));
    }
    for (index, one) in policy.rules.iter().enumerate() {
        rule(one, &path::index("spec.rules", index), &resource.origin, report);
    }
}

/// That a list is not written and empty: its author hardly meant "any".
fn not_empty<T>(list: &[T], field: &str, origin: &Origin, report: &mut Report<'_>) {
    if list.is_empty() && origin.position(field).is_some() {
        report.error_with(
            field,
            "the list is empty, which would mean \"any\"",
            "give at least one entry, or remove it",
        );
    }
}

fn rule(rule: &Rule, field: &str, origin: &Origin, report: &mut Report<'_>) {
    let (from, to, when) = (path::key(field, "from"), path::key(field, "to"), path::key(field, "when"));
    not_empty(&rule.from, &from, origin, report);
    not_empty(&rule.to, &to, origin, report);
    not_empty(&rule.when, &when, origin, report);
    for (index, entry) in rule.from.iter().enumerate() {
        let field = path::key(&path::index(&from, index), "source");
        match &entry.source {
            Some(one) if *one != Source::default() => source(one, &field, origin, report),
            _ => {
                report.error(&field, "the source is empty, which would mean \"any\": give at least one field")
            }
        }
    }
    for (index, entry) in rule.to.iter().enumerate() {
        let field = path::key(&path::index(&to, index), "operation");
        match &entry.operation {
            Some(one) if *one != Operation::default() => operation(one, &field, origin, report),
            _ => report
                .error(&field, "the operation is empty, which would mean \"any\": give at least one field"),
        }
    }
    for (index, one) in rule.when.iter().enumerate() {
        condition(one, &path::index(&when, index), origin, report);
    }
}

fn source(source: &Source, field: &str, origin: &Origin, report: &mut Report<'_>) {
    let lists: [(&str, &[String], values::Check); 14] = [
        ("principals", &source.principals, values::principal),
        ("notPrincipals", &source.not_principals, values::principal),
        ("requestPrincipals", &source.request_principals, values::text),
        ("notRequestPrincipals", &source.not_request_principals, values::text),
        ("namespaces", &source.namespaces, values::namespace),
        ("notNamespaces", &source.not_namespaces, values::namespace),
        ("ipBlocks", &source.ip_blocks, values::ip_block),
        ("notIpBlocks", &source.not_ip_blocks, values::ip_block),
        ("remoteIpBlocks", &source.remote_ip_blocks, values::ip_block),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks, values::ip_block),
        ("serviceAccounts", &source.service_accounts, values::service_account),
        ("notServiceAccounts", &source.not_service_accounts, values::service_account),
        ("trustDomains", &source.trust_domains, values::text),
        ("notTrustDomains", &source.not_trust_domains, values::text),
    ];
    all(&lists, field, origin, report);
    let accounts = !(source.service_accounts.is_empty() && source.not_service_accounts.is_empty());
    let others = [&source.principals, &source.not_principals, &source.namespaces, &source.not_namespaces];
    if accounts && others.iter().any(|list| !list.is_empty()) {
        let message = "serviceAccounts cannot stand beside principals or namespaces: an account names both";
        report.error(&path::key(field, "serviceAccounts"), message);
    }
}

fn operation(operation: &Operation, field: &str, origin: &Origin, report: &mut Report<'_>) {
    let lists: [(&str, &[String], values::Check); 8] = [
        ("hosts", &operation.hosts, values::text),
        ("notHosts", &operation.not_hosts, values::text),
        ("ports", &operation.ports, values::port),
        ("notPorts", &operation.not_ports, values::port),
        ("methods", &operation.methods, values::text),
        ("notMethods", &operation.not_methods, values::text),
        ("paths", &operation.paths, values::url_path),
        ("notPaths", &operation.not_paths, values::url_path),
    ];
    all(&lists, field, origin, report);
}

/// Checks every value of several lists.
fn all(lists: &[(&str, &[String], values::Check)], field: &str, origin: &Origin, report: &mut Report<'_>) {
    for (name, list, check) in lists {
        let field = path::key(field, name);
        not_empty(list, &field, origin, report);
        for (index, value) in list.iter().enumerate() {
            check(report, &path::index(&field, index), value);
        }
    }
}

fn condition(condition: &Condition, field: &str, origin: &Origin, report: &mut Report<'_>) {
    let key = path::key(field, "key");
    if condition.key.is_empty() {
        report.error(&key, "the condition has no key");
        return;
    }
    let Some(check) = values::for_key(&condition.key) else {
        let message = format!("{} is not an attribute that a condition can use", quote(&condition.key));
        match did_you_mean(&condition.key, values::KEYS) {
            Some(suggestion) => report.error_with(&key, message, suggestion),
            None => report.error(&key, message),
        }
        return;
    };
    if condition.values.is_empty() && condition.not_values.is_empty() {
        report.error(field, "the condition has neither values nor notValues");
    }
    let lists: [(&str, &[String], values::Check); 2] =
        [("values", &condition.values, check), ("notValues", &condition.not_values, check)];
    all(&lists, field, origin, report);
}
