//! What Telemetry changes in Istio's metrics: which are produced, and which labels they have.

use std::borrow::Cow;
use std::sync::Arc;

use config::model::{Dimension, MetricChange, StatsFilter};
use decide::expression::Value;

use super::attributes::value_of;
use super::captures::Captures;
use super::labels::RequestLabels;
use super::log_value::LogContext;
use super::metric_set::{METRICS, MetricSet};
use super::registry::Registry;
use super::series::Labels;

/// Stands between the values of several labels.
pub const SEPARATOR: char = '\u{1f}';
/// The longest value of a label, in bytes.
const MAX_VALUE: usize = 253;

/// Metrics that have the same labels. Made when a configuration is applied.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Tells shapes apart in the keys of series; 0 is all metrics with Istio's labels.
    pub number: u32,
    /// The metrics.
    pub metrics: MetricSet,
    /// What is changed, if anything is.
    pub change: Option<Arc<MetricChange>>,
}

impl Shape {
    /// The shapes of the metrics in `kind` under a filter's options; none when nothing is produced.
    pub fn compile(options: &StatsFilter, kind: MetricSet, registry: &Registry) -> Vec<Shape> {
        let mut shapes: Vec<Shape> = Vec::new();
        for (index, family) in METRICS.iter().enumerate() {
            let metric = MetricSet::at(index);
            if !kind.has(metric) {
                continue;
            }
            let change = options.change(family.name);
            if change.as_ref().is_some_and(|change| change.drop) {
                continue;
            }
            let change = change.filter(|change| !change.keeps_labels());
            match shapes.iter_mut().find(|shape| shape.change.as_deref() == change.as_ref()) {
                Some(shape) => shape.metrics = shape.metrics.with(metric),
                None => shapes.push(Shape { number: 0, metrics: metric, change: change.map(Arc::new) }),
            }
        }
        for shape in &mut shapes {
            if shape.change.is_some() || shape.metrics != kind {
                shape.number = registry.next_shape();
            }
        }
        shapes
    }

    /// Adds what the values of labels need of heads.
    pub fn capture(&self, captures: &mut Captures) {
        for (_, dimension) in self.change.iter().flat_map(|change| &change.dimensions) {
            if let Dimension::Expression(expression) = dimension {
                captures.expression(expression);
            }
        }
    }

    /// The labels of a series: Istio's, without those that are removed, with those that are set. `values` are those
    /// of the set labels, as [`join`] made them.
    pub fn labels(&self, base: &RequestLabels<'_>, values: &str) -> Labels {
        let mut labels = base.pairs();
        let Some(change) = &self.change else { return labels };
        labels.retain(|(name, _)| !change.tags_to_remove.iter().any(|removed| **removed == **name));
        for ((name, _), value) in change.dimensions.iter().zip(values.split(SEPARATOR)) {
            match labels.iter_mut().find(|(known, _)| **known == **name) {
                Some((_, old)) => *old = value.into(),
                None => labels.push((Cow::Owned(name.to_string()), value.into())),
            }
        }
        labels
    }
}

/// The values of the labels that a change sets, in their order.
pub fn values(change: &MetricChange, context: &LogContext<'_>) -> String {
    let mut values = String::new();
    for (index, (_, dimension)) in change.dimensions.iter().enumerate() {
        match dimension {
            Dimension::Literal(text) => join(&mut values, text, index == 0),
            Dimension::Expression(expression) => {
                let value = value_of(expression, context).map(Value::into_text);
                let text = value.as_deref().ok().filter(|text| !text.is_empty());
                join(&mut values, text.unwrap_or("unknown"), index == 0);
            }
        }
    }
    values
}

/// Puts the value of one more label behind the others, bounded and without what would tear them apart.
fn join(values: &mut String, value: &str, first: bool) {
    if !first {
        values.push(SEPARATOR);
    }
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    values.extend(value[..end].chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::testing::Ended;

    #[test]
    fn a_label_is_the_value_of_an_expression() {
        let expression =
            |text: &str| Dimension::Expression(Arc::new(config::parse_expression(text).unwrap()));
        let change = MetricChange {
            dimensions: vec![
                ("a".into(), expression("string(destination.port)")),
                ("b".into(), expression("request.headers['x-none']")),
                ("c".into(), Dimension::Literal("fixed".into())),
                ("d".into(), expression("connection.mtls ? 'yes' : 'no'")),
                ("e".into(), expression("response.code >= 100")),
            ],
            ..Default::default()
        };
        let mut ended = Ended::default();
        ended.record.status = 200;
        let values = values(&change, &ended.context());
        let values: Vec<&str> = values.split(SEPARATOR).collect();
        assert_eq!(values, ["8080", "unknown", "fixed", "yes", "true"]);
    }
}
