//! Validation of WorkloadEntry.

use std::net::IpAddr;

use super::{names, shared};
use crate::kinds::workload_entry::WorkloadEntry;
use crate::object::Resource;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Checks a WorkloadEntry.
pub fn workload_entry(resource: &Resource<WorkloadEntry>, report: &mut Report<'_>) {
    let entry = &resource.spec;
    let address = entry.address.as_str();
    if let Some(socket) = address.strip_prefix("unix://") {
        if !(socket.starts_with('/') || socket.starts_with('@')) {
            report.error("spec.address", format!("{} is not an absolute path", quote(socket)));
        }
        if !entry.ports.is_empty() {
            report.error("spec.ports", "a unix socket has no ports");
        }
    } else if address.is_empty() {
        if entry.network.is_empty() {
            report.error_with("spec.address", "the address is missing", "give an IP address or a DNS name");
        }
    } else if address.parse::<IpAddr>().is_err() && !names::is_fqdn(address) {
        report.error("spec.address", format!("{} is neither an IP address nor a DNS name", quote(address)));
    }
    for (name, number) in &entry.ports {
        let field = path::key("spec.ports", name);
        if !names::is_dns_label(name) {
            report.error(&field, format!("{} is not a port name", quote(name)));
        }
        shared::port(report, &field, *number);
    }
    shared::labels(report, "spec.labels", &entry.labels);
    if !entry.service_account.is_empty() && !names::is_dns_subdomain(&entry.service_account) {
        report.error(
            "spec.serviceAccount",
            format!("{} is not a name of an account", quote(&entry.service_account)),
        );
    }
    if entry.locality.split('/').count() > 3 {
        report.error("spec.locality", format!("{} is not region/zone/subzone", quote(&entry.locality)));
    }
}
