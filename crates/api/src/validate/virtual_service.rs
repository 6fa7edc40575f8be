//! Validation of VirtualService: hosts, gateways, TLS and TCP routes. HTTP routes: [`super::http_route`].

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::names::HostSet;
use super::{http_route, names, shared};
use crate::kinds::virtual_service::{
    Destination, L4MatchAttributes, RouteDestination, TlsMatchAttributes, VirtualService,
};
use crate::object::Resource;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Checks a VirtualService.
pub fn virtual_service(resource: &Resource<VirtualService>, report: &mut Report<'_>) {
    let service = &resource.spec;
    let delegate = service.hosts.is_empty();
    if delegate {
        for (field, given) in [
            ("spec.gateways", !service.gateways.is_empty()),
            ("spec.tls", !service.tls.is_empty()),
            ("spec.tcp", !service.tcp.is_empty()),
        ] {
            if given {
                let message = "a VirtualService without hosts is a delegate, and a delegate has only http";
                report.error_with(field, message, "add spec.hosts, or remove this");
            }
        }
    }
    gateway_names(report, "spec.gateways", &service.gateways);
    own_hosts(service, report);
    if service.http.is_empty() && service.tls.is_empty() && service.tcp.is_empty() {
        report.error_with("spec", "there is no route", "give at least one of http, tls, tcp");
    }
    for (index, route) in service.http.iter().enumerate() {
        http_route::http_route(route, &path::index("spec.http", index), delegate, report);
    }
    let hosts = HostSet::new(&service.hosts);
    for (index, route) in service.tls.iter().enumerate() {
        let field = path::index("spec.tls", index);
        if route.matches.is_empty() {
            report.error(&path::key(&field, "match"), "a TLS route needs at least one match");
        }
        for (index, matcher) in route.matches.iter().enumerate() {
            tls_match(matcher, &path::index(&path::key(&field, "match"), index), &hosts, report);
        }
        destinations(&route.route, &path::key(&field, "route"), report);
    }
    for (index, route) in service.tcp.iter().enumerate() {
        let field = path::index("spec.tcp", index);
        for (index, matcher) in route.matches.iter().enumerate() {
            tcp_match(matcher, &path::index(&path::key(&field, "match"), index), report);
        }
        destinations(&route.route, &path::key(&field, "route"), report);
    }
    shared::export_to(report, "spec.exportTo", &service.export_to);
}

fn own_hosts(service: &VirtualService, report: &mut Report<'_>) {
    let in_mesh = service.gateways.is_empty() || service.gateways.iter().any(|gateway| gateway == "mesh");
    for (index, host) in service.hosts.iter().enumerate() {
        let field = path::index("spec.hosts", index);
        if host.is_empty() {
            report.error(&field, "the host is empty");
            continue;
        }
        if host == "*" && in_mesh {
            report.error_with(
                &field,
                "\"*\" is for gateways only",
                "name hosts, or list gateways without mesh",
            );
        } else if !names::is_wildcard_fqdn(host) && host.parse::<IpAddr>().is_err() {
            let message =
                format!("{} is not a host: a name, or a wildcard at its start (*.example.com)", quote(host));
            report.error(&field, message);
        }
    }
    for (earlier, later) in names::overlapping_hosts(&service.hosts) {
        let (one, two) = (quote(&service.hosts[earlier]), quote(&service.hosts[later]));
        report.error(&path::index("spec.hosts", later), format!("{one} and {two} name the same host"));
    }
}

/// Names of gateways.
pub fn gateway_names(report: &mut Report<'_>, field: &str, gateways: &[String]) {
    for (index, gateway) in gateways.iter().enumerate() {
        if !names::is_gateway_name(gateway) {
            let message = format!("{} is not a gateway: write [namespace/]name, or mesh", quote(gateway));
            report.error(&path::index(field, index), message);
        }
    }
}

fn tls_match(matcher: &TlsMatchAttributes, field: &str, hosts: &HostSet<'_>, report: &mut Report<'_>) {
    let sni = path::key(field, "sniHosts");
    if matcher.sni_hosts.is_empty() {
        report.error(&sni, "a TLS match needs at least one server name");
    }
    for (index, name) in matcher.sni_hosts.iter().enumerate() {
        let field = path::index(&sni, index);
        if !names::is_wildcard_fqdn(name) {
            report.error(&field, format!("{} is not a host name", quote(name)));
        } else if !hosts.covers(name) {
            report.error(&field, format!("{} is not within the hosts of this VirtualService", quote(name)));
        }
    }
    l4(report, field, &matcher.destination_subnets, matcher.port, &matcher.source_labels, &matcher.gateways);
    source_namespace(report, field, &matcher.source_namespace);
}

fn tcp_match(matcher: &L4MatchAttributes, field: &str, report: &mut Report<'_>) {
    if !matcher.source_subnet.is_empty() && !names::is_ip_block(&matcher.source_subnet) {
        let message = format!("{} is not an address or a block", quote(&matcher.source_subnet));
        report.error(&path::key(field, "sourceSubnet"), message);
    }
    l4(report, field, &matcher.destination_subnets, matcher.port, &matcher.source_labels, &matcher.gateways);
    source_namespace(report, field, &matcher.source_namespace);
}

fn l4(
    report: &mut Report<'_>,
    field: &str,
    subnets: &[String],
    port: Option<u32>,
    labels: &BTreeMap<String, String>,
    gateways: &[String],
) {
    for (index, subnet) in subnets.iter().enumerate() {
        if !names::is_ip_block(subnet) {
            let field = path::index(&path::key(field, "destinationSubnets"), index);
            report.error(&field, format!("{} is not an address or a block", quote(subnet)));
        }
    }
    if let Some(number) = port {
        shared::port(report, &path::key(field, "port"), number);
    }
    shared::labels(report, &path::key(field, "sourceLabels"), labels);
    gateway_names(report, &path::key(field, "gateways"), gateways);
}

/// The namespace of a client.
pub fn source_namespace(report: &mut Report<'_>, field: &str, namespace: &str) {
    if !namespace.is_empty() && !names::is_dns_label(namespace) {
        report
            .error(&path::key(field, "sourceNamespace"), format!("{} is not a namespace", quote(namespace)));
    }
}

/// One destination.
pub fn destination(report: &mut Report<'_>, field: &str, destination: Option<&Destination>) {
    let Some(destination) = destination else {
        report.error(field, "the destination is missing");
        return;
    };
    shared::host(report, &path::key(field, "host"), &destination.host);
    if !destination.subset.is_empty() && !names::is_dns_label(&destination.subset) {
        report.error(
            &path::key(field, "subset"),
            format!("{} is not a subset name", quote(&destination.subset)),
        );
    }
    if let Some(port) = destination.port {
        shared::port(report, &path::key(&path::key(field, "port"), "number"), port.number);
    }
}

fn destinations(routes: &[RouteDestination], field: &str, report: &mut Report<'_>) {
    if routes.is_empty() {
        report.error(field, "the route has no destination");
    }
    for (index, route) in routes.iter().enumerate() {
        let at = path::index(field, index);
        destination(report, &path::key(&at, "destination"), route.destination.as_ref());
    }
    weights(report, field, routes.iter().map(|route| route.weight));
}

/// Weights of several destinations: none negative, not all zero.
pub fn weights(report: &mut Report<'_>, field: &str, weights: impl ExactSizeIterator<Item = i32>) {
    let several = weights.len() > 1;
    let mut total: i64 = 0;
    for (index, weight) in weights.enumerate() {
        if weight < 0 {
            let field = path::key(&path::index(field, index), "weight");
            report.error(&field, format!("the weight {weight} is negative"));
        }
        total += i64::from(weight);
    }
    if several && total == 0 {
        report.error_with(
            field,
            "the weights sum to 0: no destination would get a request",
            "give each its weight",
        );
    }
    if total > i64::from(u32::MAX) {
        report.error(field, format!("the weights sum to {total}; at most {} is allowed", u32::MAX));
    }
}
