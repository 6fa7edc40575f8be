//! `istio.stats`, before the router and before `tcp_proxy`.

use std::sync::Arc;
use std::time::Duration;

use protos::istio::{MetricConfig, StatsConfig};

use super::expression::read_expression;
use crate::context::{Context, Result, report};
use crate::model::{Dimension, MetricChange, StatsFilter};

/// Most changes, and most labels that one of them sets or removes.
const LIMIT: usize = 128;
/// How often an open connection is counted up where nothing is said.
const REPORTING: Duration = Duration::from_secs(5);
/// The shortest time between two reports of a connection.
const SHORTEST: Duration = Duration::from_millis(100);

/// Reads the filter's options.
pub(super) fn read_stats(cx: &mut Context, message: &StatsConfig) -> Result<StatsFilter> {
    let StatsConfig {
        disable_host_header_fallback,
        tcp_reporting_duration,
        metrics,
        definitions,
        reporter,
        rotation_interval,
        graceful_deletion_interval,
    } = message;
    report!(cx, "there are Istio's metrics only"; definitions);
    cx.report_set("reporter", reporter, "the listener's direction tells which side reports");
    report!(cx, "series end when nobody uses them"; rotation_interval, graceful_deletion_interval);
    let interval = cx.duration("tcp_reporting_duration", tcp_reporting_duration)?;
    Ok(StatsFilter {
        disable_host_header_fallback: *disable_host_header_fallback,
        tcp_reporting_duration: interval.map_or(REPORTING, |interval| interval.max(SHORTEST)),
        metrics: cx.list("metrics", metrics, LIMIT, read_metric)?,
    })
}

fn read_metric(cx: &mut Context, message: &MetricConfig) -> Result<(Option<Arc<str>>, MetricChange)> {
    let MetricConfig { dimensions, name, tags_to_remove, r#match, drop } = message;
    cx.report_set("match", r#match, "every request and connection is counted");
    for (field, count) in [("dimensions", dimensions.len()), ("tags_to_remove", tags_to_remove.len())] {
        if count > LIMIT {
            return Err(cx.refused_field(field, format!("has {count} entries; at most {LIMIT} are allowed")));
        }
    }
    let mut read = Vec::new();
    for (label, value) in dimensions {
        let path = format!("dimensions[{label:?}]");
        if !is_label(label) {
            return Err(cx.refused_field(&path, "is not a label: letters, digits and \"_\", no digit first"));
        }
        if value.is_empty() {
            return Err(cx.refused_field(&path, "the expression is empty"));
        }
        match literal(value) {
            Some(text) => read.push((Arc::from(label.as_str()), Dimension::Literal(text.into()))),
            None => {
                let expression = cx.field(&path, |cx| read_expression(cx, value))?;
                read.push((Arc::from(label.as_str()), Dimension::Expression(expression)));
            }
        }
    }
    let change = MetricChange {
        drop: *drop,
        tags_to_remove: tags_to_remove.iter().map(|label| label.as_str().into()).collect(),
        dimensions: read,
    };
    Ok(((!name.is_empty()).then(|| name.as_str().into()), change))
}

/// The text of an expression that is only a text.
fn literal(expression: &str) -> Option<&str> {
    let text = expression.trim();
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\'])).then_some(inner)
}

/// A label's name as Prometheus takes it.
fn is_label(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= 128
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Read;

    fn read(metric: MetricConfig) -> Result<Read<StatsFilter>> {
        let message = StatsConfig { metrics: vec![metric], ..Default::default() };
        Context::read(|cx| read_stats(cx, &message))
    }

    fn labelled(label: &str, value: &str) -> MetricConfig {
        MetricConfig { dimensions: [(label.to_owned(), value.to_owned())].into(), ..Default::default() }
    }

    #[test]
    fn changes_of_one_metric_and_of_all_add_up() {
        let all = MetricConfig { tags_to_remove: vec!["a".into(), "b".into()], ..labelled("c", "'x'") };
        let one = MetricConfig { name: "requests_total".into(), drop: true, ..labelled("b", "\"y\"") };
        let message = StatsConfig { metrics: vec![all, one], ..Default::default() };
        let filter = Context::read(|cx| read_stats(cx, &message)).unwrap().value;
        let change = filter.change("istio_requests_total").unwrap();
        assert!(change.drop && change.tags_to_remove == ["a".into()], "{change:?}");
        let literal = |text: &str| Dimension::Literal(text.into());
        assert_eq!(change.dimensions, [("c".into(), literal("x")), ("b".into(), literal("y"))]);
        assert!(!filter.change("istio_request_bytes").unwrap().drop);
        assert_eq!(
            Context::read(|cx| read_stats(cx, &StatsConfig::default())).unwrap().value.change("x"),
            None
        );
    }

    #[test]
    fn an_expression_is_read_and_a_bad_one_or_a_bad_label_refused() {
        let read_one = read(labelled("a", "request.path")).unwrap();
        assert!(read_one.notes.is_empty());
        let dimension = &read_one.value.metrics[0].1.dimensions[0].1;
        assert!(matches!(dimension, Dimension::Expression(it) if &*it.text == "request.path"));
        let refused = read(labelled("a", "request.path ==")).unwrap_err();
        assert_eq!(refused.path, "metrics[0].dimensions[\"a\"]");
        for (label, value) in [("a-b", "'x'"), ("1a", "'x'"), ("", "'x'"), ("a", "")] {
            assert!(read(labelled(label, value)).is_err(), "{label} {value}");
        }
    }
}
