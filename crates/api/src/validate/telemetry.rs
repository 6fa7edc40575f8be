//! Validation of Telemetry.

use base::expression::{Attribute, parse};

use super::shared;
use crate::kinds::custom_tag::CustomTag;
use crate::kinds::telemetry::{AccessLogging, Metrics, ProviderRef, TagOperation, Telemetry, Tracing};
use crate::object::Resource;
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Blocks of one kind, entries of one list.
const MOST: usize = 256;
/// Characters of an expression.
const LONGEST_EXPRESSION: usize = 4096;

/// Checks a Telemetry.
pub fn telemetry(resource: &Resource<Telemetry>, report: &mut Report<'_>) {
    let spec = &resource.spec;
    shared::selector(report, "spec.selector", spec.selector.as_ref());
    let mut refs: Vec<_> =
        spec.target_ref.iter().map(|target| ("spec.targetRef".to_string(), target)).collect();
    let listed = spec.target_refs.iter().enumerate();
    refs.extend(listed.map(|(at, target)| (path::index("spec.targetRefs", at), target)));
    shared::target_refs(report, &resource.meta.namespace, &refs, spec.selector.is_some());
    for (field, count) in [
        ("spec.tracing", spec.tracing.len()),
        ("spec.metrics", spec.metrics.len()),
        ("spec.accessLogging", spec.access_logging.len()),
    ] {
        at_most(report, field, count);
    }
    for (index, block) in spec.tracing.iter().enumerate() {
        tracing(block, &path::index("spec.tracing", index), report);
    }
    for (index, block) in spec.metrics.iter().enumerate() {
        metrics(block, &path::index("spec.metrics", index), report);
    }
    for (index, block) in spec.access_logging.iter().enumerate() {
        access_logging(block, &path::index("spec.accessLogging", index), report);
    }
}

fn at_most(report: &mut Report<'_>, field: &str, count: usize) {
    if count > MOST {
        report.error(field, format!("{count} entries; at most {MOST} are allowed"));
    }
}

fn providers(providers: &[ProviderRef], field: &str, report: &mut Report<'_>) {
    let field = path::key(field, "providers");
    at_most(report, &field, providers.len());
    for (index, provider) in providers.iter().enumerate() {
        if provider.name.is_empty() {
            report.error(&path::key(&path::index(&field, index), "name"), "the provider has no name");
        }
    }
}

fn tracing(block: &Tracing, field: &str, report: &mut Report<'_>) {
    providers(&block.providers, field, report);
    if let Some(share) = block.random_sampling_percentage {
        shared::percent(report, &path::key(field, "randomSamplingPercentage"), share);
    }
    let tags = path::key(field, "customTags");
    at_most(report, &tags, block.custom_tags.len());
    for (name, tag) in &block.custom_tags {
        if name.is_empty() {
            report.error(&tags, "a tag has no name");
        }
        custom_tag(tag, &path::key(&tags, name), report);
    }
}

fn custom_tag(tag: &CustomTag, field: &str, report: &mut Report<'_>) {
    let given =
        [tag.literal.is_some(), tag.environment.is_some(), tag.header.is_some(), tag.formatter.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        report.error(field, "a tag has exactly one of literal, environment, header, formatter");
    }
    for (name, source) in [("literal", &tag.literal), ("formatter", &tag.formatter)] {
        if source.as_ref().is_some_and(|source| source.value.is_empty()) {
            report.error(&path::key(&path::key(field, name), "value"), "the value is empty");
        }
    }
    for (name, source) in [("environment", &tag.environment), ("header", &tag.header)] {
        if source.as_ref().is_some_and(|source| source.name.is_empty()) {
            report.error(&path::key(&path::key(field, name), "name"), "the name is empty");
        }
    }
}

fn metrics(block: &Metrics, field: &str, report: &mut Report<'_>) {
    providers(&block.providers, field, report);
    shared::duration_or_off(report, &path::key(field, "reportingInterval"), block.reporting_interval);
    let overrides = path::key(field, "overrides");
    at_most(report, &overrides, block.overrides.len());
    for (index, one) in block.overrides.iter().enumerate() {
        let field = path::index(&overrides, index);
        if let Some(selector) = &one.selector {
            let custom = path::key(&path::key(&field, "match"), "customMetric");
            match &selector.custom_metric {
                Some(_) if selector.metric.is_some() => {
                    report.error(&custom, "a match has either metric or customMetric, not both");
                }
                Some(name) if name.is_empty() => report.error(&custom, "the name is empty"),
                _ => {}
            }
        }
        let tags = path::key(&field, "tagOverrides");
        at_most(report, &tags, one.tag_overrides.len());
        for (name, tag) in &one.tag_overrides {
            let field = path::key(&tags, name);
            if !is_label_name(name) {
                let message = format!("{} is not a label of a metric", quote(name));
                report.error_with(&field, message, "use letters, digits and \"_\", no digit first");
            }
            let value = path::key(&field, "value");
            match tag.operation {
                TagOperation::Upsert if tag.value.is_empty() => {
                    report.error(&value, "operation UPSERT needs a value");
                }
                TagOperation::Upsert => expression(report, &value, &tag.value),
                TagOperation::Remove if !tag.value.is_empty() => {
                    report.error(&value, "operation REMOVE has no value");
                }
                TagOperation::Remove => {}
            }
        }
    }
}

/// A label's name as Prometheus takes it.
fn is_label_name(name: &str) -> bool {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.len() <= 128
        && name.bytes().next().is_some_and(first)
        && name.bytes().all(|byte| first(byte) || byte.is_ascii_digit())
}

fn access_logging(block: &AccessLogging, field: &str, report: &mut Report<'_>) {
    providers(&block.providers, field, report);
    if let Some(filter) = &block.filter {
        let field = path::key(&path::key(field, "filter"), "expression");
        if filter.expression.is_empty() {
            report.error(&field, "the expression is empty");
        } else {
            expression(report, &field, &filter.expression);
        }
    }
}

/// An expression that proxies evaluate; what has never a value in them is told.
fn expression(report: &mut Report<'_>, field: &str, text: &str) {
    let length = text.chars().count();
    if length > LONGEST_EXPRESSION {
        let message =
            format!("the expression has {length} characters; at most {LONGEST_EXPRESSION} are allowed");
        report.error(field, message);
        return;
    }
    let parsed = match parse(text, &|pattern| shared::regex_defect(pattern).map_or(Ok(()), Err)) {
        Ok(parsed) => parsed,
        Err(reason) => {
            report.error(field, format!("the expression {}: {reason}", quote(text)));
            return;
        }
    };
    let mut unknown = Vec::new();
    let mut whole = false;
    parsed.root.attributes(&mut |attribute| match attribute {
        Attribute::Unknown(path) => unknown.push(path.clone()),
        Attribute::Whole(_) => whole = true,
        _ => {}
    });
    if whole {
        let message = "the name of a header must stand in brackets as a text: request.headers['x']";
        report.error(field, message);
    }
    for path in unknown {
        let message = format!("{} has never a value in a proxy: what needs it is an error", quote(&path));
        report.warning(field, message);
    }
}
