//! The text form of the metrics, for `/stats/prometheus`.

use std::fmt::Write;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::cells::{BOUNDS_TEXT, BOUNDS_THOUSANDTHS, MergedHistogram};
use super::exemplar::Exemplar;
use super::metric_set::{METRICS, MetricSet};
use super::registry::{Family, Registry, Shown};
use super::request_cells::MergedRequests;
use super::series::Labels;
use super::tcp_cells::MergedTcp;

/// Which of Prometheus' text forms is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Exposition format 0.0.4.
    Text,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
}

impl Format {
    /// The form that a scraper's `accept` header asks for.
    pub fn asked_by(accept: &str) -> Format {
        let wanted = |part: &str| part.trim_start().starts_with("application/openmetrics-text");
        if accept.split(',').any(wanted) { Format::OpenMetrics } else { Format::Text }
    }

    /// The media type of what [`render`] returns.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A number of one series.
#[derive(Debug, Clone)]
pub enum Value {
    /// A counter.
    Counter(u64),
    /// A distribution, with a trace of one of its values.
    Histogram(MergedHistogram, Option<Exemplar>),
}

impl Value {
    fn add(&mut self, other: Value) {
        match (self, other) {
            (Value::Counter(sum), Value::Counter(more)) => *sum = sum.wrapping_add(more),
            (Value::Histogram(sum, exemplar), Value::Histogram(more, other)) => {
                sum.add(&more);
                *exemplar = Exemplar::later(*exemplar, other);
            }
            _ => {}
        }
    }
}

/// The series of each of Istio's metrics, by the place of the metric in [`METRICS`]. Series whose labels are equal
/// after a Telemetry took some out are one.
pub fn istio(registry: &Registry) -> Vec<Vec<(Arc<Labels>, Value)>> {
    let (requests, connections) = (registry.merged_requests(), registry.merged_connections());
    let of_metric = |index: usize| {
        let metric = MetricSet::at(index);
        if MetricSet::HTTP.has(metric) {
            one(&requests, metric, |merged| of_requests(merged, metric))
        } else {
            one(&connections, metric, |merged| Some(of_connections(*merged, metric)))
        }
    };
    (0..METRICS.len()).map(of_metric).collect()
}

fn one<M>(
    all: &[Shown<M>],
    metric: MetricSet,
    value: impl Fn(&M) -> Option<Value>,
) -> Vec<(Arc<Labels>, Value)> {
    let mut shown: Vec<(Arc<Labels>, Value)> = Vec::new();
    for (labels, metrics, merged) in all.iter().filter(|(_, metrics, _)| metrics.has(metric)) {
        debug_assert!(metrics.has(metric));
        let Some(value) = value(merged) else { continue };
        match shown.last_mut() {
            Some((last, sum)) if last == labels => sum.add(value),
            _ => shown.push((labels.clone(), value)),
        }
    }
    shown
}

fn of_requests(merged: &MergedRequests, metric: MetricSet) -> Option<Value> {
    Some(match metric {
        MetricSet::REQUESTS => Value::Counter(merged.requests),
        MetricSet::DURATION => Value::Histogram(merged.duration.clone(), merged.exemplar),
        MetricSet::REQUEST_BYTES => Value::Histogram(merged.request_bytes.clone(), None),
        MetricSet::RESPONSE_BYTES => Value::Histogram(merged.response_bytes.clone(), None),
        _ if merged.calls == 0 => return None,
        MetricSet::REQUEST_MESSAGES => Value::Counter(merged.request_messages),
        _ => Value::Counter(merged.response_messages),
    })
}

fn of_connections(merged: MergedTcp, metric: MetricSet) -> Value {
    Value::Counter(match metric {
        MetricSet::TCP_OPENED => merged.opened,
        MetricSet::TCP_CLOSED => merged.closed,
        MetricSet::TCP_SENT => merged.sent,
        _ => merged.received,
    })
}

/// All metrics of the process as text.
pub fn render(registry: &Registry, format: Format) -> String {
    let mut text = Text { out: String::with_capacity(64 * 1024), format };
    for (metric, series) in METRICS.iter().zip(istio(registry)) {
        text.header(metric.name, metric.help, metric.kind);
        for (labels, value) in series {
            match value {
                Value::Counter(value) => text.sample(metric.name, &pairs(&labels), &value.to_string()),
                Value::Histogram(values, exemplar) => {
                    text.histogram(metric.name, &pairs(&labels), &values, exemplar);
                }
            }
        }
    }
    let mut last: Option<&Family> = None;
    for (family, labels, value) in registry.merged_simple() {
        if last != Some(family) {
            text.header(family.name, family.help, family.kind);
            last = Some(family);
        }
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        text.sample(family.name, &labels, &value.to_string());
    }
    text.own(registry);
    text.out
}

fn pairs(labels: &Labels) -> Vec<(&str, &str)> {
    labels.iter().map(|(name, value)| (&**name, &**value)).collect()
}

/// The text while it is written.
struct Text {
    out: String,
    format: Format,
}

impl Text {
    /// The proxy's own figures.
    fn own(&mut self, registry: &Registry) {
        let budget = &registry.budget;
        for (name, help, kind, value) in [
            (
                "tulle_metrics_series_overflow_total",
                "Samples counted as `other` because the series budget was used up.",
                "counter",
                budget.overflowed(),
            ),
            (
                "tulle_metrics_series_expired_total",
                "Series that ended because nobody used them.",
                "counter",
                budget.expired(),
            ),
            ("tulle_metrics_series", "Series of Istio's metrics.", "gauge", budget.used() as u64),
            (
                "tulle_metrics_series_limit",
                "The most series of Istio's metrics.",
                "gauge",
                budget.limit() as u64,
            ),
        ] {
            self.header(name, help, kind);
            self.sample(name, &[], &value.to_string());
        }
        let name = "tulle_config_not_acting";
        self.header(name, "Fields of the configuration that were accepted and do not act.", "gauge");
        for (resource, fields) in registry.not_acting() {
            for field in fields {
                self.sample(name, &[("resource", &resource), ("field", &field)], "1");
            }
        }
    }

    fn header(&mut self, name: &str, help: &str, kind: &str) {
        // OpenMetrics names a counter's family without `_total`, and has no counter without it.
        let (name, kind) = match (self.format, kind) {
            (Format::OpenMetrics, "counter") => match name.strip_suffix("_total") {
                Some(family) => (family, kind),
                None => (name, "unknown"),
            },
            _ => (name, kind),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: &str) {
        self.out.push_str(name);
        self.braces(labels, None);
        self.out.push(' ');
        self.out.push_str(value);
        self.out.push('\n');
    }

    fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        values: &MergedHistogram,
        exemplar: Option<Exemplar>,
    ) {
        let exemplar = exemplar.filter(|_| self.format == Format::OpenMetrics);
        let its_bucket =
            exemplar.map(|it| BOUNDS_THOUSANDTHS.partition_point(|bound| it.value_thousandths > *bound));
        let mut cumulative = 0u64;
        for (bucket, count) in values.buckets.iter().enumerate() {
            cumulative = cumulative.wrapping_add(*count);
            let bound = BOUNDS_TEXT.get(bucket).copied().unwrap_or("+Inf");
            let _ = write!(self.out, "{name}_bucket");
            self.braces(labels, Some(bound));
            let _ = write!(self.out, " {cumulative}");
            if let Some(exemplar) = exemplar.filter(|_| its_bucket == Some(bucket)) {
                self.exemplar(&exemplar);
            }
            self.out.push('\n');
        }
        let _ = write!(self.out, "{name}_sum");
        self.braces(labels, None);
        self.out.push(' ');
        self.thousandths(values.sum_thousandths);
        let _ = write!(self.out, "\n{name}_count");
        self.braces(labels, None);
        let _ = writeln!(self.out, " {cumulative}");
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        self.out.push_str(" # {trace_id=\"");
        for byte in exemplar.trace_id {
            let _ = write!(self.out, "{byte:02x}");
        }
        self.out.push_str("\"} ");
        self.thousandths(exemplar.value_thousandths);
        let at = exemplar.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let _ = write!(self.out, " {}.{:03}", at.as_secs(), at.subsec_millis());
    }

    fn thousandths(&mut self, value: u64) {
        let (whole, rest) = (value / 1_000, value % 1_000);
        let _ = if rest == 0 { write!(self.out, "{whole}") } else { write!(self.out, "{whole}.{rest:03}") };
    }

    fn braces(&mut self, labels: &[(&str, &str)], bound: Option<&str>) {
        let bound = bound.map(|bound| ("le", bound));
        let mut all = labels.iter().copied().chain(bound).peekable();
        if all.peek().is_none() {
            return;
        }
        self.out.push('{');
        let mut first = true;
        for (name, value) in all {
            if !first {
                self.out.push(',');
            }
            first = false;
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
        self.out.push('}');
    }
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
mod tests;
