//! Validation of MeshConfig.

use std::collections::HashSet;

use super::{connection, http_route, load_balancer, names, shared};
use crate::kinds::extension_provider::ExtensionProvider;
use crate::kinds::mesh_config::MeshConfig;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Checks the settings of the mesh.
pub fn mesh_config(config: &MeshConfig, report: &mut Report<'_>) {
    for (field, number) in [
        ("proxyListenPort", config.proxy_listen_port),
        ("proxyInboundListenPort", config.proxy_inbound_listen_port),
        ("proxyHttpPort", config.proxy_http_port),
    ] {
        if number != 0 {
            shared::port(report, field, u32::try_from(number).unwrap_or(0));
        }
    }
    for (field, value) in [
        ("connectTimeout", config.connect_timeout),
        ("hboneIdleTimeout", config.hbone_idle_timeout),
        ("dnsRefreshRate", config.dns_refresh_rate),
    ] {
        shared::duration(report, field, value);
    }
    shared::duration_or_off(report, "protocolDetectionTimeout", config.protocol_detection_timeout);
    trust_domain(report, "trustDomain", &config.trust_domain);
    for (index, alias) in config.trust_domain_aliases.iter().enumerate() {
        trust_domain(report, &path::index("trustDomainAliases", index), alias);
    }
    if !config.root_namespace.is_empty() && !names::is_dns_label(&config.root_namespace) {
        report.error("rootNamespace", format!("{} is not a namespace", quote(&config.root_namespace)));
    }
    for (field, namespaces) in [
        ("defaultVirtualServiceExportTo", &config.default_virtual_service_export_to),
        ("defaultDestinationRuleExportTo", &config.default_destination_rule_export_to),
    ] {
        shared::export_to(report, field, namespaces);
    }
    if let Some(locality) = &config.locality_lb_setting {
        load_balancer::locality_lb(locality, "localityLbSetting", report);
    }
    http_route::retries(report, "defaultHttpRetryPolicy", config.default_http_retry_policy.as_ref());
    if let Some(policy) = &config.default_traffic_policy {
        if let Some(pool) = &policy.connection_pool {
            connection::connection_pool(pool, "defaultTrafficPolicy.connectionPool", report);
        }
        if let Some(outlier) = &policy.outlier_detection {
            connection::outlier_detection(outlier, "defaultTrafficPolicy.outlierDetection", report);
        }
    }
    let mut seen = HashSet::new();
    for (index, provider) in config.extension_providers.iter().enumerate() {
        let field = path::index("extensionProviders", index);
        extension_provider(provider, &field, report);
        if !provider.name.is_empty() && !seen.insert(&provider.name) {
            report.error(
                &path::key(&field, "name"),
                format!("the provider {} is given twice", quote(&provider.name)),
            );
        }
    }
}

/// A trust domain in the form of SPIFFE: lower-case letters, digits, `-`, `_` and `.`.
fn trust_domain(report: &mut Report<'_>, field: &str, domain: &str) {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    if domain.len() > 255 || !domain.bytes().all(letter) {
        let message = format!(
            "{} is not a trust domain: use lower-case letters, digits, \"-\", \"_\" and \".\"",
            quote(domain)
        );
        report.error(field, message);
    }
}

fn extension_provider(provider: &ExtensionProvider, field: &str, report: &mut Report<'_>) {
    if provider.name.is_empty() {
        report.error(&path::key(field, "name"), "the provider has no name");
    }
    let given = [
        provider.envoy_ext_authz_http.is_some(),
        provider.envoy_ext_authz_grpc.is_some(),
        provider.zipkin.is_some(),
        provider.lightstep.is_some(),
        provider.datadog.is_some(),
        provider.skywalking.is_some(),
        provider.opencensus.is_some(),
        provider.opentelemetry.is_some(),
        provider.stackdriver.is_some(),
        provider.prometheus.is_some(),
        provider.envoy_file_access_log.is_some(),
        provider.envoy_http_als.is_some(),
        provider.envoy_tcp_als.is_some(),
        provider.envoy_otel_als.is_some(),
        provider.sds.is_some(),
    ];
    if given.iter().filter(|given| **given).count() != 1 {
        report.error(field, "a provider has exactly one field beside its name, which says what it is");
    }
}
