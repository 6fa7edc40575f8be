//! `/stats` and `/stats/prometheus`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::StatusCode;
use regex::RegexBuilder;
use serde_json::{Value, json};

use super::page::{Asked, Context, Page, json as json_page, status, text, typed};
use super::readiness::State;
use super::stat_names::envoy_name;
use crate::telemetry::metric_set::METRICS;
use crate::telemetry::prometheus::{self, Format};

/// The longest filter and the largest program that it may compile to, in bytes.
const MAX_FILTER: (usize, usize) = (1024, 1 << 20);

/// Envoy's text form: `name: value`, sorted.
pub fn page(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&["filter", "usedonly", "format"]) {
        return page;
    }
    let as_json = match query.get("format") {
        None | Some("text") => false,
        Some("json") => true,
        Some("prometheus") => return prometheus_answer(context, query),
        Some(other) => {
            return status(
                StatusCode::BAD_REQUEST,
                format!("format \"{other}\" is not known; there are text, json and prometheus\n"),
            );
        }
    };
    let pattern = query.get("filter").unwrap_or_default();
    let filter = RegexBuilder::new(pattern).size_limit(MAX_FILTER.1).build();
    let filter = match filter {
        Ok(filter) if pattern.len() <= MAX_FILTER.0 => filter,
        Ok(_) => {
            return status(
                StatusCode::BAD_REQUEST,
                format!("the filter is longer than {} bytes\n", MAX_FILTER.0),
            );
        }
        Err(error) => return status(StatusCode::BAD_REQUEST, format!("filter: {error}\n")),
    };
    let used_only = query.get("usedonly").is_some();
    let mut lines: BTreeMap<String, i128> = server_stats(context);
    lines.extend(own_stats(context).into_iter().map(|(name, _, value)| (name.to_owned(), value)));
    for (family, labels, value) in context.registry.merged_simple() {
        lines.insert(envoy_name(family.name, &labels), value);
    }
    for (metric, series) in METRICS.iter().zip(prometheus::istio(&context.registry)) {
        for (labels, value) in series {
            if let prometheus::Value::Counter(value) = value {
                let labels: String = labels.iter().map(|(name, value)| format!(".{name}.{value}")).collect();
                lines.insert(format!("{}{labels}", metric.name), i128::from(value));
            }
        }
    }
    let shown = lines.iter().filter(|(name, value)| filter.is_match(name) && (!used_only || **value != 0));
    if as_json {
        let shown: Vec<Value> =
            shown.map(|(name, value)| json!({"name": name, "value": number(*value)})).collect();
        return json_page(&json!({"stats": shown}));
    }
    text(shown.map(|(name, value)| format!("{name}: {value}\n")).collect::<String>())
}

/// A statistic as JSON has numbers.
fn number(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value.to_string()), Value::from)
}

/// The form that Prometheus reads.
pub fn prometheus_page(context: &Context, query: &Asked<'_>) -> Page {
    query
        .refusal(&["usedonly", "text_readouts", "filter"])
        .unwrap_or_else(|| prometheus_answer(context, query))
}

fn prometheus_answer(context: &Context, query: &Asked<'_>) -> Page {
    let format = Format::asked_by(query.accept);
    let mut body = prometheus_text(context, format);
    if format == Format::OpenMetrics {
        body.push_str("# EOF\n");
    }
    typed(format.content_type(), body)
}

/// The proxy's metrics as Prometheus reads them, without OpenMetrics' end.
pub fn prometheus_text(context: &Context, format: Format) -> String {
    let mut body = prometheus::render(&context.registry, format);
    for (name, value) in server_stats(context) {
        let name = format!("envoy_{}", name.replace('.', "_"));
        body.push_str(&format!("# TYPE {name} gauge\n{name} {value}\n"));
    }
    let version = env!("CARGO_PKG_VERSION");
    body.push_str("# TYPE istio_build gauge\n");
    body.push_str(&format!("istio_build{{component=\"proxy\",tag=\"{version}\"}} 1\n"));
    // The program beside the proxy has `process_…` of its own, and one page may show both.
    for (name, _, kind, value) in runtime::process::usage().iter().flat_map(|usage| usage.metrics()) {
        body.push_str(&typed_sample(format, &format!("istio_agent_{name}"), kind, value));
    }
    for (name, kind, value) in own_stats(context) {
        body.push_str(&typed_sample(format, name, kind, value));
    }
    body
}

/// One sample with its type; OpenMetrics names a counter's family without `_total`.
fn typed_sample(format: Format, name: &str, kind: &str, value: impl std::fmt::Display) -> String {
    let open = format == Format::OpenMetrics;
    let family = if open { name.strip_suffix("_total").unwrap_or(name) } else { name };
    format!("# TYPE {family} {kind}\n{name} {value}\n")
}

/// Numbers of the process that Envoy does not have: certificate, renewal, sealed snapshot. Name, kind, value.
fn own_stats(context: &Context) -> Vec<(&'static str, &'static str, i128)> {
    let readiness = &context.readiness;
    let facts = readiness.sealed.facts();
    let unix = |at: Option<SystemTime>| at.map_or(0, |at| i128::from(crate::tls::error::unix(at)));
    let received = i128::from(readiness.stream.borrow().resources);
    let mut list = vec![
        ("tulle_xds_resources_received_total", "counter", received),
        ("tulle_snapshot_in_use", "gauge", i128::from(readiness.from_snapshot())),
        ("tulle_snapshot_refused", "gauge", i128::from(facts.refused.is_some())),
        ("tulle_snapshot_bytes", "gauge", i128::try_from(facts.bytes).unwrap_or(i128::MAX)),
        ("tulle_snapshot_saved_timestamp_seconds", "gauge", unix(facts.saved)),
        ("tulle_snapshot_writes_total", "counter", i128::from(facts.writes)),
        ("tulle_snapshot_write_failures_total", "counter", i128::from(facts.write_failures)),
    ];
    if let Some(own) = readiness.secrets.current() {
        // Negative once it has expired, so that an alarm can tell how long ago.
        let (end, now) = (unix(Some(own.own.not_after)), unix(Some(readiness.secrets.now())));
        list.push(("tulle_certificate_expiry_seconds", "gauge", end - now));
    }
    if let Some(status) = &readiness.identity {
        let renewal = status.renewal();
        list.extend([
            ("tulle_certificates_issued_total", "counter", i128::from(renewal.issued)),
            ("tulle_certificate_renewal_failures_total", "counter", i128::from(renewal.failures_in_total)),
            ("tulle_certificate_renewal_failing", "gauge", i128::from(renewal.failures > 0)),
            ("tulle_certificate_renewal_next_timestamp_seconds", "gauge", unix(renewal.next)),
        ]);
    }
    list
}

/// Numbers of the process as such, by Envoy's names.
fn server_stats(context: &Context) -> BTreeMap<String, i128> {
    let readiness = &context.readiness;
    let stream = readiness.stream.borrow();
    let state = readiness.state();
    let live = i128::from(state == State::Live);
    // Envoy's numbers of `ServerInfo.State`.
    let state = match state {
        State::Live => 0,
        State::Draining => 1,
        State::Initializing(_) => 3,
    };
    let mut stats = BTreeMap::from([
        ("server.live".to_owned(), live),
        ("server.state".to_owned(), state),
        ("server.uptime".to_owned(), i128::from(context.started.elapsed().as_secs())),
        ("server.concurrency".to_owned(), i128::from(context.command_line.concurrency.unwrap_or(1))),
        ("control_plane.connected_state".to_owned(), i128::from(stream.up)),
        ("control_plane.updates".to_owned(), i128::from(stream.updates)),
        ("control_plane.updates_rejected".to_owned(), i128::from(stream.rejected)),
    ]);
    if let Some(own) = readiness.secrets.current() {
        let left = own.own.not_after.duration_since(std::time::SystemTime::now()).unwrap_or_default();
        stats.insert("server.seconds_until_first_cert_expiring".to_owned(), i128::from(left.as_secs()));
        stats.insert("server.days_until_first_cert_expiring".to_owned(), i128::from(left.as_secs() / 86_400));
    }
    if let Some(usage) = runtime::process::usage() {
        stats.insert("server.memory_physical_size".to_owned(), i128::from(usage.resident_bytes));
    }
    stats
}
