//! The control plane's own metrics, under Istio's names, in Prometheus text.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// Something that adds its metrics to a scrape.
pub trait Render: Send + Sync {
    /// Appends Prometheus text.
    fn render(&self, out: &mut String);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the certificate service counts.
#[derive(Debug, Default)]
pub struct CertificateMetrics {
    /// CSRs received.
    pub requests: Counter,
    /// Callers that could not be authenticated.
    pub authentication_failures: Counter,
    /// CSRs that could not be read, were forged, or have a key that is not signed.
    pub malformed: Counter,
    /// CSRs for somebody else's name.
    pub identity_refused: Counter,
    /// Failures of the authority itself.
    pub sign_failures: Counter,
    /// Certificates issued.
    pub issued: Counter,
}

impl Render for CertificateMetrics {
    fn render(&self, out: &mut String) {
        counter(out, "citadel_server_csr_count", "CSRs received.", &self.requests);
        counter(
            out,
            "citadel_server_authentication_failure_count",
            "Callers of the certificate service that could not be authenticated.",
            &self.authentication_failures,
        );
        counter(
            out,
            "citadel_server_csr_parsing_err_count",
            "CSRs that could not be read or verified.",
            &self.malformed,
        );
        counter(
            out,
            "citadel_server_id_extraction_err_count",
            "CSRs for a name that is not the caller's.",
            &self.identity_refused,
        );
        counter(
            out,
            "citadel_server_csr_sign_err_count",
            "Failures of the authority to sign.",
            &self.sign_failures,
        );
        counter(out, "citadel_server_success_cert_issuance_count", "Certificates issued.", &self.issued);
    }
}

/// Appends one counter.
pub fn counter(out: &mut String, name: &str, help: &str, value: &Counter) {
    header(out, name, help, "counter");
    sample(out, name, "", value.get());
}

/// Appends one gauge.
pub fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    header(out, name, help, "gauge");
    sample(out, name, "", value);
}

/// Appends what the process uses; nothing where the kernel does not tell.
pub fn process(out: &mut String) {
    for (name, help, kind, value) in runtime::process::usage().iter().flat_map(|usage| usage.metrics()) {
        header(out, name, help, kind);
        let _ = writeln!(out, "{name} {value}");
    }
}

/// Appends the two comment lines of a metric.
pub fn header(out: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// Appends one sample; `labels` is empty or `{a="b"}` with escaped values.
pub fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    let _ = writeln!(out, "{name}{labels} {value}");
}

/// A label value with backslash, quote and line feed escaped.
pub fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_prometheus_text() {
        let metrics = CertificateMetrics::default();
        metrics.issued.add_one();
        let mut out = String::new();
        metrics.render(&mut out);
        assert!(out.contains("# TYPE citadel_server_success_cert_issuance_count counter\ncitadel_server_success_cert_issuance_count 1\n"));
        assert_eq!(escaped("a\"b\\\n"), "a\\\"b\\\\\\n");
    }
}
