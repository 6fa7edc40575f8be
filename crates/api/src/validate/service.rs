//! Validation of Service.

use std::collections::HashSet;
use std::net::IpAddr;

use super::{names, shared};
use crate::kinds::common::IntOrString;
use crate::kinds::service::{Service, ServicePort, ServiceType};
use crate::object::Resource;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Checks a Service as Kubernetes would.
pub fn service(resource: &Resource<Service>, report: &mut Report<'_>) {
    let service = &resource.spec;
    if !resource.meta.name.is_empty() && !names::is_dns_label(&resource.meta.name) {
        let message =
            format!("{} is not a name of a Service: it must be one DNS label", quote(&resource.meta.name));
        report.error("metadata.name", message);
    }
    shared::labels(report, "spec.selector", &service.selector);
    addresses(service, report);
    if service.service_type == ServiceType::ExternalName {
        if !names::is_fqdn(&service.external_name) {
            report
                .error("spec.externalName", format!("{} is not a host name", quote(&service.external_name)));
        }
    } else if service.ports.is_empty() && !service.is_headless() {
        report.error_with(
            "spec.ports",
            "the service has no port",
            "give at least one, or set clusterIP: None",
        );
    }
    let (mut port_names, mut ports) = (HashSet::new(), HashSet::new());
    for (index, port) in service.ports.iter().enumerate() {
        let field = path::index("spec.ports", index);
        one_port(port, &field, service.ports.len() > 1, report);
        if !port.name.is_empty() && !port_names.insert(&port.name) {
            report.error(
                &path::key(&field, "name"),
                format!("the port name {} is given twice", quote(&port.name)),
            );
        }
        if !ports.insert((port.port, port.protocol)) {
            report.error(&path::key(&field, "port"), format!("port {} is given twice", port.port));
        }
    }
}

fn addresses(service: &Service, report: &mut Report<'_>) {
    let address = |text: &str| text.is_empty() || text == "None" || text.parse::<IpAddr>().is_ok();
    if !address(&service.cluster_ip) {
        let message = format!("{} is neither an IP address nor \"None\"", quote(&service.cluster_ip));
        report.error("spec.clusterIP", message);
    }
    for (index, text) in service.cluster_ips.iter().enumerate() {
        let field = path::index("spec.clusterIPs", index);
        if text.is_empty() || !address(text) {
            report.error(&field, format!("{} is neither an IP address nor \"None\"", quote(text)));
        } else if index == 0 && !service.cluster_ip.is_empty() && *text != service.cluster_ip {
            report.error(
                &field,
                format!("the first of clusterIPs must equal clusterIP {}", quote(&service.cluster_ip)),
            );
        }
    }
    if service.service_type == ServiceType::ExternalName && !service.cluster_ip.is_empty() {
        report.error("spec.clusterIP", "a service of type ExternalName has no address");
    }
}

fn one_port(port: &ServicePort, field: &str, several: bool, report: &mut Report<'_>) {
    if port.port == 0 {
        report.error(&path::key(field, "port"), "the port is missing or 0: it must be between 1 and 65535");
    }
    if port.name.is_empty() {
        if several {
            report.error(field, "the port has no name: each needs one when there are several");
        }
    } else if !names::is_dns_label(&port.name) {
        let message =
            format!("{} is not a port name: use lower-case letters, digits and \"-\"", quote(&port.name));
        report.error(&path::key(field, "name"), message);
    }
    let target = path::key(field, "targetPort");
    match &port.target_port {
        Some(IntOrString::Int(number)) if !(1..=65535).contains(number) => {
            report.error(&target, format!("{number} is not a port: it must be between 1 and 65535"));
        }
        Some(IntOrString::Name(name)) if name.parse::<i64>().is_ok() => {
            report.error_with(&target, format!("{} is a number in quotes", quote(name)), "remove the quotes");
        }
        Some(IntOrString::Name(name)) if !names::is_port_name(name) => {
            report.error(
                &target,
                format!(
                    "{} is not a port name: at most 15 lower-case letters, digits and \"-\"",
                    quote(name)
                ),
            );
        }
        _ => {}
    }
}
