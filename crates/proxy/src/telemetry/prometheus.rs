//! The text form of the metrics (Prometheus exposition format 0.0.4), for `/stats/prometheus`.

use std::fmt::Write;

use super::cells::{BOUNDS_TEXT, MergedHistogram};
use super::registry::{Family, MergedRequests, Registry};

/// The media type of what [`render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Takes one of a series' histograms.
type Pick = fn(&MergedRequests) -> &MergedHistogram;

/// All metrics of the process as text.
pub fn render(registry: &Registry) -> String {
    let requests = registry.merged_requests();
    let mut text = String::with_capacity(4_096 + requests.len() * 8_192);
    let name = "istio_requests_total";
    header(&mut text, name, "Requests answered, by caller, called workload and outcome.", "counter");
    for series in &requests {
        sample(&mut text, name, &series.labels, &series.requests.to_string());
    }
    let histograms: [(&str, &str, Pick); 3] = [
        ("istio_request_duration_milliseconds", "Time from the request to the end of the response.", |s| {
            &s.duration
        }),
        ("istio_request_bytes", "Size of the request, head and body.", |s| &s.request_bytes),
        ("istio_response_bytes", "Size of the response, head and body.", |s| &s.response_bytes),
    ];
    for (name, help, pick) in histograms {
        header(&mut text, name, help, "histogram");
        for series in &requests {
            histogram(&mut text, name, &series.labels, pick(series));
        }
    }
    let mut last: Option<&Family> = None;
    for (family, labels, value) in registry.merged_simple() {
        if last != Some(family) {
            header(&mut text, family.name, family.help, family.kind);
            last = Some(family);
        }
        sample(&mut text, family.name, &labels, &value.to_string());
    }
    own(&mut text, registry);
    text
}

/// The proxy's own figures.
fn own(text: &mut String, registry: &Registry) {
    let name = "tulle_metrics_series_overflow_total";
    header(text, name, "Requests counted as `other` because the series budget was used up.", "counter");
    sample(text, name, &[], &registry.overflowed().to_string());
    let name = "tulle_config_not_acting";
    header(text, name, "Fields of the configuration that were accepted and do not act.", "gauge");
    for (resource, fields) in registry.not_acting() {
        for field in fields {
            sample(text, name, &[("resource", resource.clone()), ("field", field)], "1");
        }
    }
}

fn header(text: &mut String, name: &str, help: &str, kind: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &[(&'static str, String)], value: &str) {
    text.push_str(name);
    braces(text, labels, None);
    text.push(' ');
    text.push_str(value);
    text.push('\n');
}

fn histogram(text: &mut String, name: &str, labels: &[(&'static str, String)], values: &MergedHistogram) {
    let mut cumulative = 0u64;
    for (bucket, count) in values.buckets.iter().enumerate() {
        cumulative = cumulative.wrapping_add(*count);
        let bound = BOUNDS_TEXT.get(bucket).copied().unwrap_or("+Inf");
        let _ = write!(text, "{name}_bucket");
        braces(text, labels, Some(bound));
        let _ = writeln!(text, " {cumulative}");
    }
    let _ = write!(text, "{name}_sum");
    braces(text, labels, None);
    let (whole, thousandths) = (values.sum_thousandths / 1_000, values.sum_thousandths % 1_000);
    let _ = if thousandths == 0 {
        writeln!(text, " {whole}")
    } else {
        writeln!(text, " {whole}.{thousandths:03}")
    };
    let _ = write!(text, "{name}_count");
    braces(text, labels, None);
    let _ = writeln!(text, " {cumulative}");
}

fn braces(text: &mut String, labels: &[(&'static str, String)], bound: Option<&str>) {
    let bound = bound.map(|bound| ("le", bound));
    let mut all = labels.iter().map(|(name, value)| (*name, value.as_str())).chain(bound).peekable();
    if all.peek().is_none() {
        return;
    }
    text.push('{');
    let mut first = true;
    for (name, value) in all {
        if !first {
            text.push(',');
        }
        first = false;
        text.push_str(name);
        text.push_str("=\"");
        escape(text, value);
        text.push('"');
    }
    text.push('}');
}

/// Backslash, quote and line feed are escaped by the format; other control characters would confuse its readers.
fn escape(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => text.push('\u{fffd}'),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::telemetry::flags::ResponseFlags;
    use crate::telemetry::labels::{
        ConnectionSecurity, Protocol, Reporter, RequestLabels, Service, Workload,
    };
    use crate::telemetry::registry::{MAX_REQUEST_SERIES, RequestSample, WorkerMetrics};

    fn workload(name: &str) -> Workload {
        Workload {
            workload: name.to_owned(),
            namespace: "production".to_owned(),
            app: name.to_owned(),
            version: "v1".to_owned(),
            canonical_service: name.to_owned(),
            canonical_revision: "v1".to_owned(),
            cluster: "here".to_owned(),
        }
    }

    fn count(worker: &WorkerMetrics, host: &str) {
        let registry = worker.registry();
        let service =
            Service { host: host.to_owned(), name: "payment".into(), namespace: "production".into() };
        let labels = RequestLabels {
            reporter: Reporter::Destination,
            source: &registry.workloads.intern(Arc::new(workload("frontend"))),
            source_principal: &registry
                .principals
                .intern("spiffe://cluster.local/ns/production/sa/web".into()),
            destination: &registry.workloads.intern(Arc::new(workload("payment"))),
            destination_principal: &registry.principals.unknown(),
            service: &registry.services.intern(Arc::new(service)),
            protocol: Protocol::Http,
            code: 200,
            flags: ResponseFlags::NONE,
            security: ConnectionSecurity::MutualTls,
        };
        let sample =
            RequestSample { duration_microseconds: 1_500, request_bytes: 100, response_bytes: 2_000 };
        worker.count(&labels, &sample);
    }

    #[test]
    fn labels_are_exactly_istios_and_workers_are_summed() {
        let registry = Arc::new(Registry::new());
        let workers = [WorkerMetrics::new(registry.clone()), WorkerMetrics::new(registry.clone())];
        workers.iter().for_each(|worker| count(worker, "payment.production.svc.cluster.local"));
        count(&workers[0], "payment.production.svc.cluster.local");
        let text = render(&registry);
        let labels = "reporter=\"destination\",source_workload=\"frontend\",source_canonical_service=\"frontend\",\
            source_canonical_revision=\"v1\",source_workload_namespace=\"production\",\
            source_principal=\"spiffe://cluster.local/ns/production/sa/web\",source_app=\"frontend\",\
            source_version=\"v1\",source_cluster=\"here\",destination_workload=\"payment\",\
            destination_workload_namespace=\"production\",destination_principal=\"unknown\",destination_app=\"payment\",\
            destination_version=\"v1\",destination_service=\"payment.production.svc.cluster.local\",\
            destination_canonical_service=\"payment\",destination_canonical_revision=\"v1\",\
            destination_service_name=\"payment\",destination_service_namespace=\"production\",\
            destination_cluster=\"here\",request_protocol=\"http\",response_code=\"200\",grpc_response_status=\"\",\
            response_flags=\"-\",connection_security_policy=\"mutual_tls\"";
        for line in [
            format!("istio_requests_total{{{labels}}} 3"),
            format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"1\"}} 0"),
            format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"5\"}} 3"),
            format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"+Inf\"}} 3"),
            format!("istio_request_duration_milliseconds_sum{{{labels}}} 4.500"),
            format!("istio_request_duration_milliseconds_count{{{labels}}} 3"),
            format!("istio_request_bytes_sum{{{labels}}} 300"),
            format!("istio_response_bytes_bucket{{{labels},le=\"1000\"}} 0"),
            format!("istio_response_bytes_bucket{{{labels},le=\"2500\"}} 3"),
        ] {
            assert!(text.lines().any(|have| have == line), "missing: {line}\nin:\n{text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("istio_requests_total{")).count(), 1);
    }

    #[test]
    fn a_hostile_label_value_stays_inside_its_quotes() {
        let registry = Arc::new(Registry::new());
        count(&WorkerMetrics::new(registry.clone()), "a\"} 1\nevil \\ \r");
        let text = render(&registry);
        assert!(text.contains("destination_service=\"a\\\"} 1\\nevil \\\\ \u{fffd}\""), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("evil")));
    }

    #[test]
    fn series_beyond_the_budget_are_counted_as_other() {
        let registry = Arc::new(Registry::new());
        let worker = WorkerMetrics::new(registry.clone());
        for n in 0..MAX_REQUEST_SERIES + 25 {
            count(&worker, &format!("host-{n}"));
        }
        count(&worker, "host-0");
        let merged = registry.merged_requests();
        assert_eq!(merged.len(), MAX_REQUEST_SERIES + 1);
        let total: u64 = merged.iter().map(|series| series.requests).sum();
        assert_eq!(total, MAX_REQUEST_SERIES as u64 + 26, "no request is lost");
        let other = merged.iter().find(|series| series.labels.iter().all(|(_, value)| value == "other"));
        assert_eq!(other.map(|series| series.requests), Some(25));
        assert_eq!(registry.overflowed(), 25);
        assert!(render(&registry).contains("tulle_metrics_series_overflow_total 25\n"));
    }

    #[test]
    fn a_simple_series_lives_as_long_as_somebody_counts_in_it() {
        const FAMILY: Family = Family { name: "envoy_cluster_upstream_rq_total", help: "x", kind: "counter" };
        static COUNTED: Family = FAMILY;
        let registry = Registry::new();
        let labels = || vec![("envoy_cluster_name", "outbound|80||a".to_owned())];
        let (one, two) = (registry.counter(&COUNTED, labels()), registry.counter(&COUNTED, labels()));
        one.add(2);
        two.add(3);
        let line = "envoy_cluster_upstream_rq_total{envoy_cluster_name=\"outbound|80||a\"} 5\n";
        assert!(render(&registry).contains(line));
        drop((one, two));
        assert!(!render(&registry).contains("envoy_cluster_upstream_rq_total"));
    }

    #[test]
    fn fields_that_do_not_act_are_listed_until_the_resource_changes() {
        let registry = Registry::new();
        registry.set_not_acting("cluster/a", ["circuit_breakers".to_owned()]);
        let line = "tulle_config_not_acting{resource=\"cluster/a\",field=\"circuit_breakers\"} 1\n";
        assert!(render(&registry).contains(line));
        registry.set_not_acting("cluster/a", []);
        assert!(!render(&registry).contains(line));
    }
}
