//! AuthorizationPolicies as Envoy RBAC rules.
//!
//! A policy is never weaker than written. A condition that cannot be evaluated here makes an ALLOW block match nothing
//! (it is left out) and makes a DENY block match more (the condition is left out); a note names policy, field and
//! reason.

use std::collections::HashMap;

use api::kinds::authorization_policy::{Action, AuthorizationPolicy, Condition, Operation, Rule, Source};
use api::{MeshConfig, Resource};
use protos::envoy::envoy::config::rbac::v3::{Permission, Policy, Principal, Rbac, rbac};

use crate::kinds::{policy_permission as permission, policy_principal as principal};
use crate::merge;
use crate::note::{About, Note};
use crate::scope::Scope;
use crate::world::World;

/// Annotation of a policy that is only to be tried out.
pub const DRY_RUN: &str = "istio.io/dry-run";

/// The rules that a workload's inbound requests must pass, in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rules {
    /// A request that matches is denied.
    pub deny: Option<Rbac>,
    /// A request that does not match is denied; present as soon as one ALLOW policy selects the workload.
    pub allow: Option<Rbac>,
}

/// The rules for requests to the workload of a proxy.
pub fn rules(scope: &Scope<'_>) -> Rules {
    rules_of(scope, true)
}

/// The rules for connections whose content is not looked into: conditions on requests cannot be evaluated, so in ALLOW
/// they match nothing and in DENY everything.
pub fn connection_rules(scope: &Scope<'_>) -> Rules {
    rules_of(scope, false)
}

fn rules_of(scope: &Scope<'_>, http: bool) -> Rules {
    let mut deny = HashMap::new();
    let mut allow = None;
    let mut unread = Vec::new();
    for policy in merge::authorization_policies(scope.world, scope.namespace(), &scope.labels) {
        if is_dry_run(policy) {
            continue;
        }
        let mut about = about(policy, &mut unread);
        let built = build(policy, scope.world.mesh(), http, &mut about);
        match policy.spec.action {
            Action::Allow => allow.get_or_insert_with(HashMap::new).extend(built),
            Action::Deny | Action::Custom => deny.extend(built),
            Action::Audit => {}
        }
    }
    let rbac =
        |action: rbac::Action, policies| Rbac { action: action as i32, policies, ..Default::default() };
    Rules {
        deny: (!deny.is_empty()).then(|| rbac(rbac::Action::Deny, deny)),
        allow: allow.map(|policies| rbac(rbac::Action::Allow, policies)),
    }
}

fn is_dry_run(policy: &Resource<AuthorizationPolicy>) -> bool {
    // The spellings of "true" that Istio reads; any other text leaves the policy in force.
    let spellings = ["1", "t", "T", "true", "TRUE", "True"];
    policy.meta.annotations.get(DRY_RUN).is_some_and(|value| spellings.contains(&value.as_str()))
}

fn about<'a>(policy: &'a Resource<AuthorizationPolicy>, notes: &'a mut Vec<Note>) -> About<'a> {
    About::new("AuthorizationPolicy", &policy.meta.namespace, &policy.meta.name, notes)
}

fn build(
    policy: &Resource<AuthorizationPolicy>,
    mesh: &MeshConfig,
    http: bool,
    about: &mut About<'_>,
) -> Vec<(String, Policy)> {
    let mut built = Vec::new();
    for (i, rule) in policy.spec.rules.iter().enumerate() {
        let mut builder = Builder {
            namespace: &policy.meta.namespace,
            mesh,
            deny: policy.spec.action != Action::Allow,
            http,
            about: &mut *about,
        };
        if let Some(it) = builder.rule(rule, &format!("spec.rules[{i}]")) {
            built.push((format!("ns[{}]-policy[{}]-rule[{i}]", policy.meta.namespace, policy.meta.name), it));
        }
    }
    built
}

/// One value that cannot be evaluated, and why.
struct Unknown(String);

/// Translates the rules of one policy.
struct Builder<'a, 'n> {
    namespace: &'a str,
    mesh: &'a MeshConfig,
    /// Whether a match denies: then what is unknown must match.
    deny: bool,
    /// Whether requests are asked, not connections.
    http: bool,
    about: &'a mut About<'n>,
}

/// How a list of alternatives is made into one condition.
struct Combine<T> {
    one_of: fn(Vec<T>) -> T,
    not: fn(T) -> T,
}

const PRINCIPALS: Combine<Principal> = Combine { one_of: principal::one_of, not: principal::not };
const PERMISSIONS: Combine<Permission> = Combine { one_of: permission::one_of, not: permission::not };

impl Builder<'_, '_> {
    /// `None` when no request can match.
    fn rule(&mut self, rule: &Rule, field: &str) -> Option<Policy> {
        let (when_ids, when_rules) = self.conditions(&rule.when, field)?;
        let mut principals = Vec::new();
        for (i, from) in rule.from.iter().enumerate() {
            let field = format!("{field}.from[{i}].source");
            let source = from.source.clone().unwrap_or_default();
            if let Some(mut ids) = self.source(&source, &field) {
                ids.extend(when_ids.iter().cloned());
                principals.push(principal::all_of(ids));
            }
        }
        let mut permissions = Vec::new();
        for (i, to) in rule.to.iter().enumerate() {
            let field = format!("{field}.to[{i}].operation");
            let operation = to.operation.clone().unwrap_or_default();
            if let Some(mut rules) = self.operation(&operation, &field) {
                rules.extend(when_rules.iter().cloned());
                permissions.push(permission::all_of(rules));
            }
        }
        if rule.from.is_empty() {
            principals.push(principal::all_of(when_ids));
        }
        if rule.to.is_empty() {
            permissions.push(permission::all_of(when_rules));
        }
        if principals.is_empty() || permissions.is_empty() {
            return None;
        }
        Some(Policy { permissions, principals, ..Default::default() })
    }

    /// Adds "one of `values`, none of `not_values`" to `terms`; `false` when the block can match nothing.
    fn term<T>(
        &mut self,
        terms: &mut Vec<T>,
        combine: &Combine<T>,
        field: &str,
        values: (&[String], &[String]),
        read: impl Fn(&str) -> Result<Vec<T>, Unknown>,
    ) -> bool {
        let mut possible = true;
        for (list, negated) in [(values.0, false), (values.1, true)] {
            if list.is_empty() {
                continue;
            }
            let name = if negated { negated_name(field) } else { field.to_owned() };
            let read: Result<Vec<Vec<T>>, Unknown> = list.iter().map(|value| read(value)).collect();
            match read {
                Ok(alternatives) => {
                    let term = (combine.one_of)(alternatives.into_iter().flatten().collect());
                    terms.push(if negated { (combine.not)(term) } else { term });
                }
                Err(Unknown(reason)) if self.deny => {
                    let reason = format!("{reason}; the rule denies as if the condition were met");
                    self.about.warning(name, reason);
                }
                Err(Unknown(reason)) => {
                    self.about
                        .warning(name, format!("{reason}; this block of the ALLOW rule matches nothing"));
                    possible = false;
                }
            }
        }
        possible
    }

    fn source(&mut self, source: &Source, field: &str) -> Option<Vec<Principal>> {
        let (mesh, namespace, http) = (self.mesh, self.namespace.to_owned(), self.http);
        let mut ids = Vec::new();
        let mut possible = true;
        let path = |name: &str| format!("{field}.{name}");
        let c = &PRINCIPALS;
        let lists = (source.principals.as_slice(), source.not_principals.as_slice());
        possible &= self.term(&mut ids, c, &path("principals"), lists, |value| {
            Ok(principal::with_aliases(value, mesh).iter().map(|it| principal::principal(it)).collect())
        });
        let lists = (source.request_principals.as_slice(), source.not_request_principals.as_slice());
        possible &= self.term(&mut ids, c, &path("requestPrincipals"), lists, |_| Err(no_tokens()));
        let lists = (source.namespaces.as_slice(), source.not_namespaces.as_slice());
        possible &=
            self.term(&mut ids, c, &path("namespaces"), lists, |value| Ok(vec![principal::namespace(value)]));
        let lists = (source.service_accounts.as_slice(), source.not_service_accounts.as_slice());
        possible &= self.term(&mut ids, c, &path("serviceAccounts"), lists, |value| {
            Ok(vec![principal::service_account(value, &namespace)])
        });
        let lists = (source.trust_domains.as_slice(), source.not_trust_domains.as_slice());
        possible &=
            self.term(&mut ids, c, &path("trustDomains"), lists, |it| Ok(vec![principal::trust_domain(it)]));
        let lists = (source.ip_blocks.as_slice(), source.not_ip_blocks.as_slice());
        possible &=
            self.term(&mut ids, c, &path("ipBlocks"), lists, |it| some(principal::direct_address(it), it));
        let lists = (source.remote_ip_blocks.as_slice(), source.not_remote_ip_blocks.as_slice());
        possible &= self.term(&mut ids, c, &path("remoteIpBlocks"), lists, |it| {
            // Without a request there is no x-forwarded-for: the caller is who is connected.
            let address = if http { principal::remote_address(it) } else { principal::direct_address(it) };
            some(address, it)
        });
        possible.then_some(ids)
    }

    fn operation(&mut self, operation: &Operation, field: &str) -> Option<Vec<Permission>> {
        let mut rules = Vec::new();
        let mut possible = true;
        let path = |name: &str| format!("{field}.{name}");
        let c = &PERMISSIONS;
        let http = self.http;
        let of_request = |permission: Permission| if http { Ok(vec![permission]) } else { Err(no_request()) };
        let lists = (operation.hosts.as_slice(), operation.not_hosts.as_slice());
        possible &=
            self.term(&mut rules, c, &path("hosts"), lists, |value| of_request(permission::host(value)));
        let lists = (operation.methods.as_slice(), operation.not_methods.as_slice());
        possible &=
            self.term(&mut rules, c, &path("methods"), lists, |value| of_request(permission::method(value)));
        let lists = (operation.paths.as_slice(), operation.not_paths.as_slice());
        possible &=
            self.term(&mut rules, c, &path("paths"), lists, |value| of_request(permission::path(value)));
        let lists = (operation.ports.as_slice(), operation.not_ports.as_slice());
        possible &=
            self.term(&mut rules, c, &path("ports"), lists, |value| some(permission::port(value), value));
        possible.then_some(rules)
    }

    /// The conditions of `when`, split by what Envoy asks them of; `None` when the rule can match nothing.
    fn conditions(&mut self, when: &[Condition], field: &str) -> Option<(Vec<Principal>, Vec<Permission>)> {
        let (mut ids, mut rules) = (Vec::new(), Vec::new());
        let mut possible = true;
        let (mesh, namespace, http) = (self.mesh, self.namespace.to_owned(), self.http);
        for (i, condition) in when.iter().enumerate() {
            let field = format!("{field}.when[{i}].values");
            let lists = (condition.values.as_slice(), condition.not_values.as_slice());
            let key = condition.key.as_str();
            possible &= match key {
                "destination.ip" => self.term(&mut rules, &PERMISSIONS, &field, lists, |value| {
                    some(permission::destination_address(value), value)
                }),
                "destination.port" => self.term(&mut rules, &PERMISSIONS, &field, lists, |value| {
                    some(permission::port(value), value)
                }),
                "connection.sni" => self
                    .term(&mut rules, &PERMISSIONS, &field, lists, |value| Ok(vec![permission::sni(value)])),
                _ => self.term(&mut ids, &PRINCIPALS, &field, lists, |value| {
                    caller_condition(key, value, &namespace, mesh, http)
                }),
            };
        }
        possible.then_some((ids, rules))
    }
}

fn negated_name(field: &str) -> String {
    let (base, name) = field.rsplit_once('.').unwrap_or(("", field));
    let mut letters = name.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{base}.not{first}{}", letters.as_str())
}

fn some<T>(value: Option<T>, text: &str) -> Result<Vec<T>, Unknown> {
    value.map(|value| vec![value]).ok_or_else(|| Unknown(format!("\"{text}\" is not valid here")))
}

fn no_tokens() -> Unknown {
    Unknown("tokens (JWT) are not verified yet".to_owned())
}

fn no_request() -> Unknown {
    Unknown("a TCP connection has no requests".to_owned())
}

fn caller_condition(
    key: &str,
    value: &str,
    namespace: &str,
    mesh: &MeshConfig,
    http: bool,
) -> Result<Vec<Principal>, Unknown> {
    let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
    match (key, header) {
        (_, Some(_)) if !http => Err(no_request()),
        (_, Some(name)) if !name.is_empty() => Ok(vec![principal::header(&name.to_ascii_lowercase(), value)]),
        ("source.ip", _) => some(principal::direct_address(value), value),
        ("remote.ip", _) if !http => some(principal::direct_address(value), value),
        ("remote.ip", _) => some(principal::remote_address(value), value),
        ("source.namespace", _) => Ok(vec![principal::namespace(value)]),
        ("source.principal", _) => {
            Ok(principal::with_aliases(value, mesh).iter().map(|it| principal::principal(it)).collect())
        }
        ("source.serviceAccount", _) => Ok(vec![principal::service_account(value, namespace)]),
        ("source.trustDomain", _) => Ok(vec![principal::trust_domain(value)]),
        _ if key.starts_with("request.auth.") => Err(no_tokens()),
        _ => Err(Unknown(format!("the key \"{key}\" cannot be evaluated by this version"))),
    }
}

/// What a user must be told about an AuthorizationPolicy.
pub fn verdict(world: &World, policy: &Resource<AuthorizationPolicy>, notes: &mut Vec<Note>) {
    let mut about = about(policy, notes);
    let spec = &policy.spec;
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        let reason =
            "targetRefs are for gateways and waypoints, which are not served yet; no workload is protected";
        about.warning("spec.targetRefs", reason);
        return;
    }
    if is_dry_run(policy) {
        let field = format!("metadata.annotations[{DRY_RUN}]");
        about.info(field, "the policy is not enforced; matches of dry-run policies are not counted yet");
        return;
    }
    match spec.action {
        Action::Audit => {
            about.info("spec.action", "AUDIT decides nothing, and matches are not logged yet");
            return;
        }
        Action::Custom => {
            let reason = "external authorization is not served yet; requests that match the rules are denied";
            about.warning("spec.action", reason);
        }
        Action::Deny if spec.rules.is_empty() => {
            about.warning(
                "spec.rules",
                "a DENY policy without rules denies nothing; write rules: [{}] to deny all",
            );
        }
        Action::Allow | Action::Deny => {}
    }
    build(policy, world.mesh(), true, &mut about);
}

#[cfg(test)]
#[path = "authorization_policy_tests.rs"]
mod tests;
