//! Checks that several kinds share; each adds to the report at the field it is given.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration as StdDuration;

use super::names;
use crate::duration::Duration;
use crate::kinds::common::{Percent, PolicyTargetReference, StringMatch, WorkloadSelector};
use crate::path;
use crate::report::Report;
use crate::text::quote;

/// Characters of a regular expression.
const LONGEST_REGEX: usize = 1024;
/// Bytes a compiled expression may take.
const REGEX_BYTES: usize = 1 << 20;

/// A duration of at least 1ms, in whole milliseconds.
pub fn duration(report: &mut Report<'_>, field: &str, value: Option<Duration>) {
    let Some(value) = value else { return };
    if value.as_std() < StdDuration::from_millis(1) {
        report.error_with(
            field,
            format!("{value} is too short"),
            "the shortest is 1ms; to switch it off, remove the field",
        );
    } else if value.as_std().subsec_nanos() % 1_000_000 != 0 {
        report.error(field, format!("{value} is finer than a millisecond"));
    }
}

/// As [`duration`], where `0s` means off.
pub fn duration_or_off(report: &mut Report<'_>, field: &str, value: Option<Duration>) {
    duration(report, field, value.filter(|value| !value.is_zero()));
}

/// A number of at least 0.
pub fn not_negative(report: &mut Report<'_>, field: &str, value: i32) {
    if value < 0 {
        report.error(field, format!("{value} is negative: it must be at least 0"));
    }
}

/// A share, 0 to 100.
pub fn percent(report: &mut Report<'_>, field: &str, value: f64) {
    if !(0.0..=100.0).contains(&value) {
        report.error(field, format!("{value} is not a percentage: it must be between 0 and 100"));
    }
}

/// A share given as a message.
pub fn percentage(report: &mut Report<'_>, field: &str, value: Option<Percent>) {
    if let Some(share) = value {
        percent(report, &path::key(field, "value"), share.value);
    }
}

/// A port, 1 to 65535.
pub fn port(report: &mut Report<'_>, field: &str, number: u32) {
    if !names::is_port(number) {
        report.error(field, format!("{number} is not a port: it must be between 1 and 65535"));
    }
}

/// An expression that compiles and is not too long.
pub fn regex(report: &mut Report<'_>, field: &str, pattern: &str) {
    if let Some(reason) = regex_defect(pattern) {
        report.error(field, reason);
    }
}

/// What is wrong with an expression; `None` where nothing is.
pub fn regex_defect(pattern: &str) -> Option<String> {
    let length = pattern.chars().count();
    if length > LONGEST_REGEX {
        return Some(format!("the expression has {length} characters; at most {LONGEST_REGEX} are allowed"));
    }
    let error = regex::RegexBuilder::new(pattern).size_limit(REGEX_BYTES).build().err()?;
    let reason = match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_string(),
        other => other.to_string().lines().last().unwrap_or_default().trim().to_string(),
    };
    Some(format!("{} is not a valid RE2 expression: {reason}", quote(pattern)))
}

/// A string match. An empty prefix matches everything, which only a path may say.
pub fn string_match(report: &mut Report<'_>, field: &str, matcher: &StringMatch, empty_prefix: bool) {
    match matcher {
        StringMatch::Present | StringMatch::Exact(_) => {}
        StringMatch::Prefix(prefix) => {
            if prefix.is_empty() && !empty_prefix {
                let remedy = "to ask only for presence, write {}";
                report.error_with(&path::key(field, "prefix"), "the prefix is empty", remedy);
            }
        }
        StringMatch::Regex(pattern) => {
            let field = path::key(field, "regex");
            if pattern.is_empty() {
                report.error(&field, "the expression is empty");
            } else {
                regex(report, &field, pattern);
            }
        }
    }
}

/// Labels whose keys and values Kubernetes would take.
pub fn labels(report: &mut Report<'_>, field: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let field = path::key(field, key);
        if !names::is_label_key(key) {
            report.error(&field, format!("{} is not a label key", quote(key)));
        }
        if !names::is_label_value(value) {
            report.error(&field, format!("{} is not a label value", quote(value)));
        }
    }
}

/// A selector by labels; wildcards do not exist there.
pub fn selector(report: &mut Report<'_>, field: &str, selector: Option<&WorkloadSelector>) {
    let Some(selector) = selector else { return };
    let field = path::key(field, "matchLabels");
    for (key, value) in &selector.match_labels {
        let field = path::key(&field, key);
        if key.contains('*') || value.contains('*') {
            report.error_with(&field, "a selector has no wildcards", "name the label and its exact value");
        } else if !names::is_label_key(key) {
            report.error(&field, format!("{} is not a label key", quote(key)));
        } else if !names::is_label_value(value) {
            report.error(&field, format!("{} is not a label value", quote(value)));
        }
    }
}

/// References of a policy, and that they exclude a selector.
pub fn target_refs(
    report: &mut Report<'_>,
    namespace: &str,
    refs: &[(String, &PolicyTargetReference)],
    selector: bool,
) {
    if let Some((field, _)) = refs.first()
        && selector
    {
        report.error(field, "a policy has either a selector or targetRefs, not both");
    }
    if refs.len() > 16 {
        report.error("spec.targetRefs", format!("{} references; at most 16 are allowed", refs.len()));
    }
    for (field, target) in refs {
        for (name, value) in [("kind", &target.kind), ("name", &target.name)] {
            if value.is_empty() {
                report.error(&path::key(field, name), format!("the reference has no {name}"));
            }
        }
        if !target.namespace.is_empty() && target.namespace != namespace {
            let message = format!("namespace {} is not the policy's own", quote(&target.namespace));
            report.error(&path::key(field, "namespace"), message);
        }
    }
}

/// Namespaces that see a resource: `.`, `*` alone, or names.
pub fn export_to(report: &mut Report<'_>, field: &str, namespaces: &[String]) {
    let mut seen = HashSet::new();
    for (index, namespace) in namespaces.iter().enumerate() {
        let at = path::index(field, index);
        match namespace.as_str() {
            "*" if namespaces.len() > 1 => report.error(&at, "\"*\" (all namespaces) must stand alone"),
            "." | "*" => {}
            "~" => report.error_with(
                &at,
                "\"~\" (no namespace) is for services only",
                "remove the resource instead",
            ),
            name if !names::is_dns_label(name) => {
                report.error(&at, format!("{} is neither a namespace nor \".\" nor \"*\"", quote(name)));
            }
            _ => {}
        }
        if !seen.insert(namespace) {
            report.error(&at, format!("{} is given twice", quote(namespace)));
        }
    }
}

/// A host of the registry. A wildcard at its start is that of a ServiceEntry with the same host.
pub fn host(report: &mut Report<'_>, field: &str, host: &str) {
    if host.is_empty() {
        report.error(field, "the host is missing");
    } else if host == "*" {
        report.error(field, "\"*\" is no destination: name a host");
    } else if !names::is_wildcard_fqdn(host) && host.parse::<std::net::IpAddr>().is_err() {
        report.error(field, format!("{} is not a host name", quote(host)));
    }
}
