//! Validation of DestinationRule. Its blocks: [`super::connection`], [`super::load_balancer`].

use std::collections::HashSet;

use super::{connection, load_balancer, names, shared};
use crate::kinds::destination_rule::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, PortTrafficPolicy, RetryBudget, TrafficPolicy,
    TunnelSettings,
};
use crate::object::Resource;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Checks a DestinationRule.
pub fn destination_rule(resource: &Resource<DestinationRule>, report: &mut Report<'_>) {
    let rule = &resource.spec;
    if rule.host.is_empty() {
        report.error("spec.host", "the host is missing");
    } else if !names::is_wildcard_fqdn(&rule.host) {
        let message = format!(
            "{} is not a host: a name, or a wildcard at its start (*.example.com)",
            quote(&rule.host)
        );
        report.error("spec.host", message);
    }
    if let Some(policy) = &rule.traffic_policy {
        traffic_policy(policy, "spec.trafficPolicy", rule.workload_selector.is_some(), report);
    }
    let mut seen = HashSet::new();
    for (index, subset) in rule.subsets.iter().enumerate() {
        let field = path::index("spec.subsets", index);
        let name = path::key(&field, "name");
        if subset.name.is_empty() {
            report.error(&name, "the subset has no name");
        } else if !names::is_dns_label(&subset.name) {
            report.error(
                &name,
                format!(
                    "{} is not a subset name: use lower-case letters, digits and \"-\"",
                    quote(&subset.name)
                ),
            );
        } else if !seen.insert(&subset.name) {
            report.error(&name, format!("the subset {} is given twice", quote(&subset.name)));
        }
        shared::labels(report, &path::key(&field, "labels"), &subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(
                policy,
                &path::key(&field, "trafficPolicy"),
                rule.workload_selector.is_some(),
                report,
            );
        }
    }
    shared::export_to(report, "spec.exportTo", &rule.export_to);
    shared::selector(report, "spec.workloadSelector", rule.workload_selector.as_ref());
}

fn traffic_policy(policy: &TrafficPolicy, field: &str, for_workload: bool, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    if *policy == TrafficPolicy::default() {
        report.error(field, "the policy is empty: give at least one field, or remove it");
    }
    let ejects = policy.outlier_detection.is_some();
    if let Some(balancer) = &policy.load_balancer {
        load_balancer::load_balancer(balancer, &at("loadBalancer"), ejects, report);
    }
    if let Some(pool) = &policy.connection_pool {
        connection::connection_pool(pool, &at("connectionPool"), report);
    }
    if let Some(outlier) = &policy.outlier_detection {
        connection::outlier_detection(outlier, &at("outlierDetection"), report);
    }
    if let Some(settings) = &policy.tls {
        tls(settings, &at("tls"), for_workload, report);
    }
    let mut seen = HashSet::new();
    for (index, settings) in policy.port_level_settings.iter().enumerate() {
        let field = path::index(&at("portLevelSettings"), index);
        port_policy(settings, &field, for_workload, report);
        if settings.port.is_some_and(|port| !seen.insert(port.number)) {
            report.warning(&path::key(&field, "port"), "the port is given twice: the first one counts");
        }
    }
    if let Some(settings) = &policy.tunnel {
        tunnel(settings, &at("tunnel"), report);
    }
    if let Some(budget) = &policy.retry_budget {
        retry_budget(budget, &at("retryBudget"), report);
    }
}

fn port_policy(policy: &PortTrafficPolicy, field: &str, for_workload: bool, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    match policy.port {
        Some(port) => shared::port(report, &path::key(&at("port"), "number"), port.number),
        None => report.error(&at("port"), "the port is missing"),
    }
    let ejects = policy.outlier_detection.is_some();
    if let Some(balancer) = &policy.load_balancer {
        load_balancer::load_balancer(balancer, &at("loadBalancer"), ejects, report);
    }
    if let Some(pool) = &policy.connection_pool {
        connection::connection_pool(pool, &at("connectionPool"), report);
    }
    if let Some(outlier) = &policy.outlier_detection {
        connection::outlier_detection(outlier, &at("outlierDetection"), report);
    }
    if let Some(settings) = &policy.tls {
        tls(settings, &at("tls"), for_workload, report);
    }
}

fn tls(settings: &ClientTlsSettings, field: &str, for_workload: bool, report: &mut Report<'_>) {
    let files = [
        ("clientCertificate", &settings.client_certificate),
        ("privateKey", &settings.private_key),
        ("caCertificates", &settings.ca_certificates),
        ("caCrl", &settings.ca_crl),
    ];
    let mut none_of = |names: &[(&str, &String)], reason: &str| {
        for (name, value) in names {
            if !value.is_empty() {
                report.error(&path::key(field, name), format!("{name} is not allowed {reason}"));
            }
        }
    };
    match settings.mode {
        ClientTlsMode::IstioMutual => {
            none_of(&files, "with ISTIO_MUTUAL: the mesh's certificates are used");
            none_of(&[("credentialName", &settings.credential_name)], "with ISTIO_MUTUAL");
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual if !settings.credential_name.is_empty() => {
            none_of(&files, "beside credentialName");
            if !for_workload {
                let message = "sidecars read a Secret only where spec.workloadSelector names them: without it, \
                               gateways only";
                report.warning(&path::key(field, "credentialName"), message);
            }
        }
        ClientTlsMode::Mutual => {
            for (name, value) in &files[..2] {
                if value.is_empty() {
                    report.error(&path::key(field, name), format!("MUTUAL needs {name} (or credentialName)"));
                }
            }
        }
        ClientTlsMode::Simple | ClientTlsMode::Disable => {}
    }
    if settings.insecure_skip_verify == Some(true) {
        let field = path::key(field, "insecureSkipVerify");
        if !settings.ca_certificates.is_empty() || !settings.subject_alt_names.is_empty() {
            let message = "nothing is verified, so caCertificates and subjectAltNames have no meaning";
            report.error_with(&field, message, "remove insecureSkipVerify");
        }
    }
}

fn tunnel(settings: &TunnelSettings, field: &str, report: &mut Report<'_>) {
    if !matches!(settings.protocol.as_str(), "" | "CONNECT" | "POST") {
        let message = format!("{} is neither \"CONNECT\" nor \"POST\"", quote(&settings.protocol));
        report.error(&path::key(field, "protocol"), message);
    }
    shared::host(report, &path::key(field, "targetHost"), &settings.target_host);
    shared::port(report, &path::key(field, "targetPort"), settings.target_port);
}

fn retry_budget(budget: &RetryBudget, field: &str, report: &mut Report<'_>) {
    if let Some(percent) = budget.percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        report.error(&path::key(field, "percent"), format!("{percent} is not between 0 and 100"));
    }
}
