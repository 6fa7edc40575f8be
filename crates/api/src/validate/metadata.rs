//! Names, namespaces, labels and annotations of all kinds, as Kubernetes takes them.

use super::{names, shared};
use crate::object::ObjectMeta;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Checks the metadata of a resource.
pub fn metadata(meta: &ObjectMeta, cluster_wide: bool, report: &mut Report<'_>) {
    if meta.name.is_empty() {
        report.error_with("metadata.name", "the resource has no name", "add metadata.name");
    } else if cluster_wide && !names::is_dns_label(&meta.name) {
        report.error("metadata.name", not_a_label(&meta.name));
    } else if !names::is_dns_subdomain(&meta.name) {
        let message = format!(
            "{} is not a name: use lower-case letters, digits, \"-\" and \".\", at most 253 characters",
            quote(&meta.name)
        );
        report.error("metadata.name", message);
    }
    if !cluster_wide && !names::is_dns_label(&meta.namespace) {
        report.error("metadata.namespace", not_a_label(&meta.namespace));
    }
    shared::labels(report, "metadata.labels", &meta.labels);
    for key in meta.annotations.keys() {
        // Kubernetes compares annotation keys in lower case.
        if !names::is_label_key(&key.to_ascii_lowercase()) {
            let field = path::key("metadata.annotations", key);
            report.error(&field, format!("{} is not an annotation key", quote(key)));
        }
    }
}

fn not_a_label(name: &str) -> String {
    format!("{} is not a name: use lower-case letters, digits and \"-\", at most 63 characters", quote(name))
}
