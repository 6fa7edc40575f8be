//! VirtualServices: the routes that one client gets for one host, and what a user must be told.

use std::collections::BTreeSet;

use api::kinds::virtual_service::{Headers, HttpMatchRequest, HttpRoute, VirtualService};
use api::{Kind, Resource};
use protos::envoy::envoy::config::route::v3::Route;

use crate::host;
use crate::kinds::{http_match, http_route, sendable, service};
use crate::merge;
use crate::note::{About, Note};
use crate::scope::Scope;
use crate::values;
use crate::world::{World, origin};

/// The routes of a VirtualService for this client on this port, in order; empty when no rule can hold for it. What
/// stands behind a rule that matches everything is left out.
pub fn routes(scope: &Scope<'_>, route: &Resource<VirtualService>, port: u16) -> Vec<Route> {
    let mut routes = Vec::new();
    for (i, rule) in route.spec.http.iter().enumerate() {
        let conditions: Vec<Option<&HttpMatchRequest>> = if rule.matches.is_empty() {
            vec![None]
        } else {
            rule.matches.iter().filter(|it| http_match::applies(it, scope, port)).map(Some).collect()
        };
        for condition in conditions {
            let mut built = Route {
                name: route_name(rule, condition),
                r#match: Some(http_match::route_match(condition)),
                metadata: values::origin(&format!("{}#http[{i}]", origin(Kind::VirtualService, &route.meta))),
                stat_prefix: condition.map(|it| it.stat_prefix.clone()).unwrap_or_default(),
                ..Default::default()
            };
            if !http_route::fill(&mut built, rule, &route.meta.namespace, scope, port) {
                continue;
            }
            let last = built.r#match.as_ref().is_some_and(http_match::is_catch_all);
            routes.push(built);
            if last {
                return routes;
            }
        }
    }
    routes
}

fn route_name(rule: &HttpRoute, condition: Option<&HttpMatchRequest>) -> String {
    match condition.map(|it| it.name.as_str()) {
        Some(name) if !name.is_empty() && !rule.name.is_empty() => format!("{}.{name}", rule.name),
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => rule.name.clone(),
    }
}

/// What a user must be told about a VirtualService.
pub fn verdict(world: &World, route: &Resource<VirtualService>, notes: &mut Vec<Note>) {
    let mut about = About::new("VirtualService", &route.meta.namespace, &route.meta.name, notes);
    let spec = &route.spec;
    if spec.hosts.is_empty() {
        about.info(
            "spec.hosts",
            "a VirtualService without hosts is a delegate; delegates are not followed yet",
        );
    }
    if !merge::applies_to_mesh(spec) {
        about.info(
            "spec.gateways",
            "gateways are not served yet; without \"mesh\" in the list nothing is routed",
        );
    } else if spec.gateways.iter().any(|gateway| gateway != "mesh") {
        about.info("spec.gateways", "gateways are not served yet; only sidecars route by it");
    }
    if !spec.tls.is_empty() {
        about.info("spec.tls", "routing of TLS connections does not act yet");
    }
    if !spec.tcp.is_empty() {
        about.info("spec.tcp", "routing of TCP connections does not act yet");
    }
    for (i, name) in spec.hosts.iter().enumerate() {
        host_verdict(world, route, i, name, &mut about);
    }
    let mut catch_all = None;
    for (i, rule) in spec.http.iter().enumerate() {
        let field = format!("spec.http[{i}]");
        if let Some(before) = catch_all {
            about.warning(
                &field,
                format!("the rule is never reached: spec.http[{before}] matches every request"),
            );
        }
        rule_verdict(rule, &field, &mut about);
        port_verdict(world, route, rule, &field, &mut about);
        let every = |it: &HttpMatchRequest| {
            let narrowed = it.port.is_some()
                || !it.source_labels.is_empty()
                || !it.source_namespace.is_empty()
                || !it.gateways.is_empty();
            !narrowed && http_match::is_catch_all(&http_match::route_match(Some(it)))
        };
        if catch_all.is_none() && (rule.matches.is_empty() || rule.matches.iter().any(every)) {
            catch_all = Some(i);
        }
    }
}

/// Says when a host names nothing, or when another VirtualService has it already.
fn host_verdict(
    world: &World,
    route: &Resource<VirtualService>,
    i: usize,
    name: &str,
    about: &mut About<'_>,
) {
    let namespace = route.meta.namespace.as_str();
    let host = host::expand(name, namespace);
    let field = format!("spec.hosts[{i}]");
    let short = host.split_once('.').filter(|(_, rest)| world.namespace(rest).is_some());
    if let Some((service, in_namespace)) = short {
        let full = host::service_fqdn(service, in_namespace);
        about.warning(
            &field,
            format!("a host with a dot is taken as it is and names no Service; write {full}"),
        );
    } else if host::split_service_fqdn(&host).is_some()
        && !host.contains('*')
        && world.service(&host).is_none()
    {
        about.warning(&field, format!("no Service is named {host}"));
    }
    let first = merge::virtual_services(world, namespace, &host).into_iter().find(|other| {
        other.spec.hosts.iter().any(|other_host| host::expand(other_host, &other.meta.namespace) == host)
    });
    if let Some(first) = first.filter(|first| {
        (&first.meta.namespace, &first.meta.name) != (&route.meta.namespace, &route.meta.name)
    }) {
        let reason = format!(
            "VirtualService {}/{} comes first and has this host; rules of two are not merged for sidecars",
            first.meta.namespace, first.meta.name
        );
        about.warning(field, reason);
    }
}

/// Says when a destination without port leads to a port that its Service does not have.
fn port_verdict(
    world: &World,
    route: &Resource<VirtualService>,
    rule: &HttpRoute,
    field: &str,
    about: &mut About<'_>,
) {
    let service = |name: &str| world.service(&host::expand(name, &route.meta.namespace));
    let called: BTreeSet<u16> = route
        .spec
        .hosts
        .iter()
        .filter_map(|name| service(name))
        .flat_map(|it| it.spec.ports.iter().filter(|port| service::protocol(port).is_http()))
        .map(|port| port.port)
        .filter(|port| {
            rule.matches.is_empty()
                || rule.matches.iter().any(|it| it.port.is_none_or(|only| only == u32::from(*port)))
        })
        .collect();
    for (j, entry) in rule.route.iter().enumerate() {
        let Some(destination) = entry.destination.as_ref().filter(|it| it.port.is_none()) else { continue };
        let Some(target) = service(&destination.host).filter(|it| it.spec.ports.len() > 1) else { continue };
        if let Some(port) = called.iter().find(|port| service::port(&target.spec, **port).is_none()) {
            let reason = format!(
                "Service {} has several ports and not the called one, {port}: give the port; until then such calls are answered 503",
                service::fqdn(target)
            );
            about.warning(format!("{field}.route[{j}].destination.port"), reason);
        }
    }
}

fn rule_verdict(rule: &HttpRoute, field: &str, about: &mut About<'_>) {
    if rule.delegate.is_some() {
        about.warning(format!("{field}.delegate"), "delegates are not followed yet; the rule is left out");
    }
    if rule.fault.is_some() {
        about.info(format!("{field}.fault"), "faults are not injected yet");
    }
    if rule.mirror.is_some() {
        about.info(format!("{field}.mirror"), "requests are not mirrored yet");
    }
    if !rule.mirrors.is_empty() {
        about.info(format!("{field}.mirrors"), "requests are not mirrored yet");
    }
    if rule.cors_policy.is_some() {
        about.info(
            format!("{field}.corsPolicy"),
            "cross-origin rules do not act yet; the app answers preflights",
        );
    }
    if let Some(redirect) = &rule.redirect
        && http_route::redirect_code(redirect.redirect_code).is_none()
    {
        let reason = format!("{} cannot be made; 301 is sent", redirect.redirect_code);
        about.warning(format!("{field}.redirect.redirectCode"), reason);
    }
    if rule.retries.as_ref().is_some_and(|retries| retries.retry_remote_localities == Some(true)) {
        about.info(format!("{field}.retries.retryRemoteLocalities"), "retries do not look at localities yet");
    }
    for (part, reason) in sendable::rule_defects(rule) {
        about.warning(format!("{field}.{part}"), format!("{reason}; the rule answers 500"));
    }
    header_verdict(rule.headers.as_ref(), &format!("{field}.headers"), about);
    for (j, entry) in rule.route.iter().enumerate() {
        header_verdict(entry.headers.as_ref(), &format!("{field}.route[{j}].headers"), about);
    }
    for (j, condition) in rule.matches.iter().enumerate() {
        if let Some(reason) = sendable::path_defect(condition) {
            about.warning(format!("{field}.match[{j}].uri"), format!("{reason}; this match never holds"));
        }
        if let Some(name) = http_match::unsupported_header(condition) {
            let reason = "claims of tokens are not known to sidecars; this match never holds";
            about.warning(format!("{field}.match[{j}].headers[{name}]"), reason);
        }
    }
}

/// Says which header operations are left out.
fn header_verdict(headers: Option<&Headers>, field: &str, about: &mut About<'_>) {
    let Some(headers) = headers else { return };
    let sides = [("request", headers.request.as_ref()), ("response", headers.response.as_ref())];
    for (side, operations) in sides.into_iter().filter_map(|(side, it)| Some((side, it?))) {
        for (list, values) in [("set", &operations.set), ("add", &operations.add)] {
            for (name, value) in values {
                let rewrite = list == "set" && side == "request" && http_route::is_authority(name);
                let defect = if rewrite {
                    sendable::bad_host(value).then(|| format!("\"{value}\" is not a host"))
                } else {
                    sendable::header_defect(name).or_else(|| sendable::value_defect(value))
                };
                if let Some(reason) = defect {
                    about.warning(
                        format!("{field}.{side}.{list}.{name}"),
                        format!("{reason}; it is left out"),
                    );
                }
            }
        }
        for (i, name) in operations.remove.iter().enumerate() {
            if let Some(reason) = sendable::header_defect(name) {
                about.warning(format!("{field}.{side}.remove[{i}]"), format!("{reason}; it stays"));
            }
        }
    }
}

#[cfg(test)]
#[path = "virtual_service_tests.rs"]
mod tests;
