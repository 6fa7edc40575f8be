use std::sync::Arc;

use super::*;
use crate::telemetry::flags::ResponseFlags;
use crate::telemetry::labels::{ConnectionSecurity, Protocol, Reporter, RequestLabels, Service, Workload};
use crate::telemetry::registry::{DEFAULT_SERIES, WorkerMetrics};
use crate::telemetry::request_cells::RequestSample;
use crate::telemetry::shape::Shape;

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
    let service = Service { host: host.to_owned(), name: "payment".into(), namespace: "production".into() };
    let labels = RequestLabels {
        reporter: Reporter::Destination,
        source: &registry.workloads.intern(Arc::new(workload("frontend"))),
        source_principal: &registry.principals.intern("spiffe://cluster.local/ns/production/sa/web".into()),
        destination: &registry.workloads.intern(Arc::new(workload("payment"))),
        destination_principal: &registry.principals.unknown(),
        service: &registry.services.intern(Arc::new(service)),
        protocol: Protocol::Http,
        code: 200,
        flags: ResponseFlags::NONE,
        security: ConnectionSecurity::MutualTls,
    };
    let sample = RequestSample {
        duration_microseconds: 1_500,
        request_bytes: 100,
        response_bytes: 2_000,
        messages: None,
        exemplar: None,
    };
    let shape = Shape { number: 0, metrics: MetricSet::HTTP, change: None };
    worker.count(&labels, &shape, "", &sample);
}

#[test]
fn labels_are_exactly_istios_and_workers_are_summed() {
    let registry = Arc::new(Registry::new());
    let workers = [WorkerMetrics::new(registry.clone()), WorkerMetrics::new(registry.clone())];
    workers.iter().for_each(|worker| count(worker, "payment.production.svc.cluster.local"));
    count(&workers[0], "payment.production.svc.cluster.local");
    let text = render(&registry, Format::Text);
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
    let text = render(&registry, Format::Text);
    assert!(text.contains("destination_service=\"a\\\"} 1\\nevil \\\\ \u{fffd}\""), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("evil")));
}

#[test]
fn series_beyond_the_budget_are_counted_as_other() {
    let registry = Arc::new(Registry::new());
    let worker = WorkerMetrics::new(registry.clone());
    for n in 0..DEFAULT_SERIES + 25 {
        count(&worker, &format!("host-{n}"));
    }
    count(&worker, "host-0");
    let merged = registry.merged_requests();
    assert_eq!(merged.len(), DEFAULT_SERIES + 1);
    let total: u64 = merged.iter().map(|(.., series)| series.requests).sum();
    assert_eq!(total, DEFAULT_SERIES as u64 + 26, "no request is lost");
    let other = merged.iter().find(|(labels, ..)| labels.iter().all(|(_, value)| &**value == "other"));
    assert_eq!(other.map(|(.., series)| series.requests), Some(25));
    assert_eq!(registry.budget.overflowed(), 25);
    assert!(render(&registry, Format::Text).contains("tulle_metrics_series_overflow_total 25\n"));
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
    assert!(render(&registry, Format::Text).contains(line));
    drop((one, two));
    assert!(!render(&registry, Format::Text).contains("envoy_cluster_upstream_rq_total"));
}

#[test]
fn fields_that_do_not_act_are_listed_until_the_resource_changes() {
    let registry = Registry::new();
    registry.set_not_acting("cluster/a", ["circuit_breakers".to_owned()]);
    let line = "tulle_config_not_acting{resource=\"cluster/a\",field=\"circuit_breakers\"} 1\n";
    assert!(render(&registry, Format::Text).contains(line));
    registry.set_not_acting("cluster/a", []);
    assert!(!render(&registry, Format::Text).contains(line));
}

#[test]
fn a_telemetry_changes_labels_and_takes_metrics_out() {
    use config::model::{Dimension, MetricChange, StatsFilter};
    let registry = Arc::new(Registry::new());
    let worker = WorkerMetrics::new(registry.clone());
    let removed = MetricChange { tags_to_remove: vec!["source_app".into()], ..Default::default() };
    let set = vec![("part".into(), Dimension::Literal("shop".into()))];
    let options = StatsFilter {
        disable_host_header_fallback: false,
        tcp_reporting_duration: std::time::Duration::from_secs(5),
        metrics: vec![
            (None, removed),
            (Some("requests_total".into()), MetricChange { dimensions: set, ..Default::default() }),
            (Some("response_bytes".into()), MetricChange { drop: true, ..Default::default() }),
        ],
    };
    let shapes = Shape::compile(&options, MetricSet::HTTP, &registry);
    assert_eq!(shapes.len(), 2, "{shapes:?}");
    for app in ["one", "two"] {
        let source = Workload { app: app.to_owned(), ..workload("frontend") };
        let service = registry.services.unknown();
        let labels = RequestLabels {
            reporter: Reporter::Destination,
            source: &registry.workloads.intern(Arc::new(source)),
            source_principal: &registry.principals.unknown(),
            destination: &registry.workloads.unknown(),
            destination_principal: &registry.principals.unknown(),
            service: &service,
            protocol: Protocol::Grpc(Some(0)),
            code: 200,
            flags: ResponseFlags::NONE,
            security: ConnectionSecurity::None,
        };
        let sample = RequestSample {
            duration_microseconds: 1,
            request_bytes: 1,
            response_bytes: 1,
            messages: Some((2, 3)),
            exemplar: None,
        };
        for shape in &shapes {
            let ended = crate::telemetry::testing::Ended::default();
            let values =
                shape.change.as_deref().map(|it| crate::telemetry::shape::values(it, &ended.context()));
            let values = values.unwrap_or_default();
            worker.count(&labels, shape, &values, &sample);
        }
    }
    let text = render(&registry, Format::Text);
    let line = |start: &str| text.lines().find(|line| line.starts_with(start)).map(str::to_owned);
    let requests = line("istio_requests_total{").unwrap();
    assert!(requests.contains(",part=\"shop\"} ") && requests.ends_with(" 2"), "{requests}");
    assert!(!text.contains("source_app"), "what is taken out leaves one series: {text}");
    assert_eq!(line("istio_response_bytes"), None);
    let sizes = line("istio_request_bytes_count{").unwrap();
    assert!(sizes.ends_with(" 2") && !sizes.contains("part"), "{sizes}");
    assert!(line("istio_request_messages_total{").unwrap().ends_with(" 4"));
    assert!(line("istio_response_messages_total{").unwrap().ends_with(" 6"));
}

#[test]
fn exemplars_are_shown_to_those_who_ask() {
    let registry = Arc::new(Registry::new());
    let worker = WorkerMetrics::new(registry.clone());
    let unknown = registry.workloads.unknown();
    let (nobody, service) = (registry.principals.unknown(), registry.services.unknown());
    let labels = RequestLabels {
        reporter: Reporter::Source,
        source: &unknown,
        source_principal: &nobody,
        destination: &unknown,
        destination_principal: &nobody,
        service: &service,
        protocol: Protocol::Http,
        code: 200,
        flags: ResponseFlags::NONE,
        security: ConnectionSecurity::Unknown,
    };
    let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_500);
    let exemplar = Exemplar { trace_id: [0xab; 16], value_thousandths: 7_250, at };
    let sample = RequestSample {
        duration_microseconds: 7_250,
        request_bytes: 1,
        response_bytes: 1,
        messages: None,
        exemplar: Some(exemplar),
    };
    worker.count(&labels, &Shape { number: 0, metrics: MetricSet::HTTP, change: None }, "", &sample);
    let open = render(&registry, Format::OpenMetrics);
    let line = open.lines().find(|line| line.contains(" # {")).unwrap();
    let trace = "ab".repeat(16);
    assert!(line.contains("le=\"10\"} 1 # "), "{line}");
    assert!(line.ends_with(&format!("{{trace_id=\"{trace}\"}} 7.250 1.500")), "{line}");
    assert!(open.contains("# TYPE istio_requests counter\nistio_requests_total{"), "{open}");
    assert!(!render(&registry, Format::Text).contains(" # {"));
    assert_eq!(
        Format::asked_by("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"),
        Format::OpenMetrics
    );
    assert_eq!(Format::asked_by("text/plain"), Format::Text);
}
