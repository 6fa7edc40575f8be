//! `envoy.config.rbac.v3.RBAC` and the two filters that hold it. What cannot be evaluated is refused, never skipped.

use super::address::{read_cidr_range, read_port};
use super::header_matcher::read_header_matcher;
use super::name::required_name;
use super::string_matcher::read_string_matcher;
use crate::context::{Context, Result, refuse, report};
use crate::model::{Permission, Policy, Principal, RbacAction, RbacFilter, RbacRules, StringMatcher};
use protos::envoy::envoy::config::rbac::v3 as rbac;
use protos::envoy::envoy::extensions::filters::http::rbac::v3 as http;
use protos::envoy::envoy::extensions::filters::network::rbac::v3 as network;
use protos::envoy::envoy::r#type::matcher::v3 as matcher;
use std::collections::BTreeMap;

/// Most policies of one filter, and most items of one list.
const LIMIT: usize = 10_000;
/// Deepest nesting of conditions.
const MAX_DEPTH: usize = 32;

/// Reads `envoy.filters.http.rbac`.
pub fn read_http_rbac(cx: &mut Context, message: &http::Rbac) -> Result<RbacFilter> {
    let http::Rbac {
        rules,
        rules_stat_prefix,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        track_per_rule_stats,
    } = message;
    refuse!(cx, "matcher trees are not supported: write rules"; matcher);
    report!(cx, "dry-run rules are not evaluated yet"; shadow_rules, shadow_matcher, shadow_rules_stat_prefix);
    report!(cx, "policies are named in the log"; track_per_rule_stats);
    report!(cx, "there is one set of counters"; rules_stat_prefix);
    let rules =
        rules.as_ref().map(|rules| cx.field("rules", |cx| read_rules(cx, rules, true))).transpose()?;
    Ok(RbacFilter { rules })
}

/// Reads `envoy.filters.network.rbac`.
pub fn read_network_rbac(cx: &mut Context, message: &network::Rbac) -> Result<RbacFilter> {
    let network::Rbac {
        rules,
        matcher,
        shadow_rules,
        shadow_matcher,
        shadow_rules_stat_prefix,
        stat_prefix,
        enforcement_type,
        delay_deny,
    } = message;
    refuse!(cx, "matcher trees are not supported: write rules"; matcher);
    refuse!(cx, "rules are evaluated once, when the connection begins"; enforcement_type);
    report!(cx, "dry-run rules are not evaluated yet"; shadow_rules, shadow_matcher, shadow_rules_stat_prefix);
    report!(cx, "there is one set of counters"; stat_prefix);
    report!(cx, "a denied connection is closed at once"; delay_deny);
    let rules =
        rules.as_ref().map(|rules| cx.field("rules", |cx| read_rules(cx, rules, false))).transpose()?;
    Ok(RbacFilter { rules })
}

/// `http`: whether conditions on a request may stand in it. On a connection they could not be evaluated.
fn read_rules(cx: &mut Context, message: &rbac::Rbac, http: bool) -> Result<RbacRules> {
    let rbac::Rbac { action, policies, audit_logging_options } = message;
    report!(cx, "verdicts are logged by the proxy itself"; audit_logging_options);
    let action = match cx.enumeration("action", *action)? {
        rbac::rbac::Action::Allow => RbacAction::Allow,
        rbac::rbac::Action::Deny => RbacAction::Deny,
        rbac::rbac::Action::Log => RbacAction::Log,
    };
    if policies.len() > LIMIT {
        return Err(
            cx.refused_field("policies", format!("{} policies, the limit is {LIMIT}", policies.len()))
        );
    }
    let sorted: BTreeMap<_, _> = policies.iter().collect();
    let read = |(name, policy): (&String, &rbac::Policy)| {
        cx.entry("policies", name, |cx| read_policy(cx, name, policy, http))
    };
    let policies = sorted.into_iter().map(read).collect::<Result<_>>()?;
    Ok(RbacRules { action, policies })
}

fn read_policy(cx: &mut Context, name: &str, message: &rbac::Policy, http: bool) -> Result<Policy> {
    let rbac::Policy { permissions, principals, condition, checked_condition, cel_config } = message;
    refuse!(cx, "CEL conditions are not supported"; condition, checked_condition, cel_config);
    let name = required_name(cx, "name", name)?;
    // Envoy demands one of each; an empty list would match nobody, which weakens a DENY.
    for (field, empty) in [("permissions", permissions.is_empty()), ("principals", principals.is_empty())] {
        cx.refuse_set(field, &empty, "is empty")?;
    }
    Ok(Policy {
        name,
        permissions: cx
            .list("permissions", permissions, LIMIT, |cx, item| read_permission(cx, item, http, 0))?,
        principals: cx.list("principals", principals, LIMIT, |cx, item| read_principal(cx, item, http, 0))?,
    })
}

fn read_permission(
    cx: &mut Context,
    message: &rbac::Permission,
    http: bool,
    depth: usize,
) -> Result<Permission> {
    use rbac::permission::{Rule, Set};
    check_depth(cx, depth)?;
    let rbac::Permission { rule } = message;
    let set = |cx: &mut Context, name: &str, set: &Set| {
        let Set { rules } = set;
        not_empty(cx, name, rules)?;
        cx.field(name, |cx| {
            cx.list("rules", rules, LIMIT, |cx, item| read_permission(cx, item, http, depth + 1))
        })
    };
    Ok(match rule {
        Some(Rule::AndRules(rules)) => Permission::And(set(cx, "and_rules", rules)?),
        Some(Rule::OrRules(rules)) => Permission::Or(set(cx, "or_rules", rules)?),
        Some(Rule::NotRule(rule)) => {
            Permission::Not(Box::new(cx.field("not_rule", |cx| read_permission(cx, rule, http, depth + 1))?))
        }
        Some(Rule::Any(true)) => Permission::Any,
        Some(Rule::Any(false)) => return Err(cx.refused_field("any", "only true is a value of any")),
        Some(Rule::Header(header)) => cx.field("header", |cx| {
            check_http(cx, http)?;
            Ok(Permission::Header(read_header_matcher(cx, header)?))
        })?,
        Some(Rule::UrlPath(path)) => Permission::Path(cx.field("url_path", |cx| read_path(cx, path, http))?),
        Some(Rule::DestinationIp(range)) => {
            Permission::DestinationIp(cx.field("destination_ip", |cx| read_cidr_range(cx, range))?)
        }
        Some(Rule::DestinationPort(port)) => {
            Permission::DestinationPort(read_port(cx, "destination_port", *port)?)
        }
        Some(Rule::DestinationPortRange(range)) => {
            let protos::envoy::envoy::r#type::v3::Int32Range { start, end } = range;
            match (u32::try_from(*start), u32::try_from(*end)) {
                (Ok(start), Ok(end)) if start < end && end <= 65536 => {
                    Permission::DestinationPortRange { start, end }
                }
                _ => {
                    return Err(cx.refused_field(
                        "destination_port_range",
                        format!("{start}..{end} is no range of ports"),
                    ));
                }
            }
        }
        Some(Rule::RequestedServerName(name)) => Permission::RequestedServerName(
            cx.field("requested_server_name", |cx| read_string_matcher(cx, name))?,
        ),
        Some(Rule::Metadata(_)) => {
            return Err(cx.refused_field("metadata", "metadata matchers are not supported"));
        }
        Some(Rule::SourcedMetadata(_)) => {
            return Err(cx.refused_field("sourced_metadata", "metadata matchers are not supported"));
        }
        Some(Rule::Matcher(extension)) => {
            let reason = format!("the matcher {:?} is not supported", extension.name);
            return Err(cx.refused_field("matcher", reason));
        }
        Some(Rule::UriTemplate(_)) => {
            return Err(cx.refused_field("uri_template", "URI templates are not supported"));
        }
        None => return Err(cx.refused("has no rule, or one of a kind that is not known")),
    })
}

fn read_principal(
    cx: &mut Context,
    message: &rbac::Principal,
    http: bool,
    depth: usize,
) -> Result<Principal> {
    use rbac::principal::{Identifier, Set};
    check_depth(cx, depth)?;
    let rbac::Principal { identifier } = message;
    let set = |cx: &mut Context, name: &str, set: &Set| {
        let Set { ids } = set;
        not_empty(cx, name, ids)?;
        cx.field(name, |cx| cx.list("ids", ids, LIMIT, |cx, item| read_principal(cx, item, http, depth + 1)))
    };
    Ok(match identifier {
        Some(Identifier::AndIds(ids)) => Principal::And(set(cx, "and_ids", ids)?),
        Some(Identifier::OrIds(ids)) => Principal::Or(set(cx, "or_ids", ids)?),
        Some(Identifier::NotId(id)) => {
            Principal::Not(Box::new(cx.field("not_id", |cx| read_principal(cx, id, http, depth + 1))?))
        }
        Some(Identifier::Any(true)) => Principal::Any,
        Some(Identifier::Any(false)) => return Err(cx.refused_field("any", "only true is a value of any")),
        Some(Identifier::Authenticated(rbac::principal::Authenticated { principal_name })) => {
            Principal::Authenticated(cx.field("authenticated", |cx| match principal_name {
                None => Ok(None),
                Some(name) => cx.field("principal_name", |cx| read_string_matcher(cx, name)).map(Some),
            })?)
        }
        // Deprecated; the connection's address, as long as PROXY protocol is not supported.
        Some(Identifier::SourceIp(range)) => {
            Principal::DirectRemoteIp(cx.field("source_ip", |cx| read_cidr_range(cx, range))?)
        }
        Some(Identifier::DirectRemoteIp(range)) => {
            Principal::DirectRemoteIp(cx.field("direct_remote_ip", |cx| read_cidr_range(cx, range))?)
        }
        Some(Identifier::RemoteIp(range)) => {
            Principal::RemoteIp(cx.field("remote_ip", |cx| read_cidr_range(cx, range))?)
        }
        Some(Identifier::Header(header)) => cx.field("header", |cx| {
            check_http(cx, http)?;
            Ok(Principal::Header(read_header_matcher(cx, header)?))
        })?,
        Some(Identifier::UrlPath(path)) => {
            Principal::Path(cx.field("url_path", |cx| read_path(cx, path, http))?)
        }
        Some(Identifier::Metadata(_)) => {
            return Err(cx.refused_field("metadata", "metadata matchers are not supported"));
        }
        Some(Identifier::SourcedMetadata(_)) => {
            return Err(cx.refused_field("sourced_metadata", "metadata matchers are not supported"));
        }
        Some(Identifier::FilterState(_)) => {
            return Err(cx.refused_field("filter_state", "filter state matchers are not supported"));
        }
        Some(Identifier::Custom(extension)) => {
            let reason = format!("the principal {:?} is not supported", extension.name);
            return Err(cx.refused_field("custom", reason));
        }
        None => return Err(cx.refused("has no identifier, or one of a kind that is not known")),
    })
}

fn read_path(cx: &mut Context, message: &matcher::PathMatcher, http: bool) -> Result<StringMatcher> {
    check_http(cx, http)?;
    let matcher::PathMatcher { rule } = message;
    match rule {
        Some(matcher::path_matcher::Rule::Path(path)) => cx.field("path", |cx| read_string_matcher(cx, path)),
        None => Err(cx.refused_field("path", "is missing")),
    }
}

fn check_http(cx: &mut Context, http: bool) -> Result<()> {
    if http {
        Ok(())
    } else {
        Err(cx.refused("a connection has no request that this condition could look at"))
    }
}

fn check_depth(cx: &mut Context, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH { Err(cx.refused(format!("nested deeper than {MAX_DEPTH}"))) } else { Ok(()) }
}

fn not_empty<T>(cx: &mut Context, field: &str, items: &[T]) -> Result<()> {
    cx.refuse_set(field, &items.is_empty(), "is empty")
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

    fn any_permission() -> rbac::Permission {
        rbac::Permission { rule: Some(rbac::permission::Rule::Any(true)) }
    }

    fn principal(name: &str) -> rbac::Principal {
        let matcher = matcher::StringMatcher {
            ignore_case: false,
            match_pattern: Some(MatchPattern::Exact(name.into())),
        };
        let authenticated = rbac::principal::Authenticated { principal_name: Some(matcher) };
        rbac::Principal { identifier: Some(rbac::principal::Identifier::Authenticated(authenticated)) }
    }

    fn rules(permission: rbac::Permission, principal: rbac::Principal) -> http::Rbac {
        let policy =
            rbac::Policy { permissions: vec![permission], principals: vec![principal], ..Default::default() };
        let name = "ns[production]-policy[payment-callers]-rule[0]".to_owned();
        let rules = rbac::Rbac { policies: [(name, policy)].into(), ..Default::default() };
        http::Rbac { rules: Some(rules), ..Default::default() }
    }

    fn read(message: &http::Rbac) -> Result<crate::Read<RbacFilter>> {
        Context::read(|cx| read_http_rbac(cx, message))
    }

    #[test]
    fn reads_istios_form_and_reports_dry_runs() {
        let mut message =
            rules(any_permission(), principal("spiffe://cluster.local/ns/production/sa/frontend"));
        message.shadow_rules = Some(Default::default());
        let read = read(&message).unwrap();
        let rules = read.value.rules.unwrap();
        assert_eq!(rules.action, RbacAction::Allow);
        assert_eq!(rules.policies[0].permissions, [Permission::Any]);
        assert!(matches!(rules.policies[0].principals[0], Principal::Authenticated(Some(_))));
        assert_eq!(read.notes[0].path, "shadow_rules");
    }

    #[test]
    fn refuses_what_it_cannot_evaluate() {
        let place = r#"rules.policies["ns[production]-policy[payment-callers]-rule[0]"]"#;
        let unknown = read(&rules(rbac::Permission { rule: None }, principal("a"))).unwrap_err();
        assert_eq!(unknown.path, format!("{place}.permissions[0]"));
        let state = rbac::principal::Identifier::FilterState(Default::default());
        let state = read(&rules(any_permission(), rbac::Principal { identifier: Some(state) })).unwrap_err();
        assert_eq!(state.path, format!("{place}.principals[0].filter_state"));
        let empty = rbac::permission::Rule::AndRules(Default::default());
        assert!(read(&rules(rbac::Permission { rule: Some(empty) }, principal("a"))).is_err());
        let mut deep = any_permission();
        for _ in 0..40 {
            deep = rbac::Permission { rule: Some(rbac::permission::Rule::NotRule(Box::new(deep))) };
        }
        assert!(read(&rules(deep, principal("a"))).unwrap_err().reason.contains("deeper"));
    }

    #[test]
    fn a_request_condition_on_a_connection_is_refused() {
        let header = rbac::permission::Rule::Header(protos::envoy::envoy::config::route::v3::HeaderMatcher {
            name: ":method".into(),
            ..Default::default()
        });
        let http::Rbac { rules, .. } = rules(rbac::Permission { rule: Some(header) }, principal("a"));
        let message = network::Rbac { rules, ..Default::default() };
        let refused = Context::read(|cx| read_network_rbac(cx, &message)).unwrap_err();
        assert!(refused.path.ends_with("permissions[0].header"), "{}", refused.path);
    }
}
