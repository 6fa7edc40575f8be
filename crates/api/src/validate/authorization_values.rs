//! Forms of the values in the rules of an AuthorizationPolicy.

use super::names;
use crate::report::Report;
use crate::text::quote;

/// Checks one value of a list.
pub type Check = fn(&mut Report<'_>, &str, &str);

/// Attributes of conditions; those with `[` take a name in brackets.
pub const KEYS: [&str; 14] = [
    "request.headers[",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[",
    "destination.ip",
    "destination.port",
    "connection.sni",
];

/// How values of the attribute `key` are checked; `None` when there is no such attribute.
pub fn for_key(key: &str) -> Option<Check> {
    match key {
        "source.ip" | "remote.ip" | "destination.ip" => Some(ip_block),
        "destination.port" => Some(port),
        "source.principal" => Some(principal),
        "source.namespace" => Some(namespace),
        "source.serviceAccount" => Some(service_account),
        "source.trustDomain"
        | "request.auth.principal"
        | "request.auth.audiences"
        | "request.auth.presenter"
        | "connection.sni" => Some(text),
        _ => {
            let bracketed = |prefix: &str| {
                key.strip_prefix(prefix)
                    .is_some_and(|rest| rest.len() > 1 && rest.ends_with(']') && !rest.starts_with(']'))
            };
            let header = key.strip_prefix("request.headers[").and_then(|rest| rest.strip_suffix(']'));
            // A pseudo header such as `:method` is one too.
            let header = header.map(|name| name.strip_prefix(':').unwrap_or(name));
            let known = header.is_some_and(names::is_header_name)
                || bracketed("request.auth.claims[")
                || (key.starts_with("experimental.envoy.filters.")
                    && key.len() > "experimental.envoy.filters.".len());
            known.then_some(text as Check)
        }
    }
}

/// Text with an optional `*` at one end.
pub fn text(report: &mut Report<'_>, field: &str, value: &str) {
    if value.is_empty() {
        report.error(field, "the value is empty");
    } else if value.len() > 1 {
        let inside = match (value.strip_prefix('*'), value.strip_suffix('*')) {
            (Some(rest), _) | (None, Some(rest)) => rest.contains('*'),
            (None, None) => value.contains('*'),
        };
        if inside {
            let message = format!(
                "only one \"*\" at the start or the end of {} is a wildcard: the others stand for themselves",
                quote(value)
            );
            report.warning(field, message);
        }
    }
}

/// `trust-domain/ns/NAMESPACE/sa/ACCOUNT`, with an optional `*` at one end.
pub fn principal(report: &mut Report<'_>, field: &str, value: &str) {
    text(report, field, value);
    if let Some(rest) = value.strip_prefix("spiffe://") {
        let message = format!("{} would never match: the prefix spiffe:// is added to it", quote(value));
        report.error_with(field, message, format!("write {}", quote(rest)));
    } else if !value.is_empty() && !value.contains('*') {
        let parts: Vec<&str> = value.split('/').collect();
        if !matches!(parts[..], [domain, "ns", namespace, "sa", account]
            if ![domain, namespace, account].contains(&""))
        {
            let message = format!(
                "{} never matches a workload: a principal is TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT",
                quote(value)
            );
            report.warning(field, message);
        }
    }
}

/// A namespace; every `*` stands for any characters.
pub fn namespace(report: &mut Report<'_>, field: &str, value: &str) {
    if value.is_empty() {
        report.error(field, "the namespace is empty");
    }
}

/// `NAMESPACE/ACCOUNT` or `ACCOUNT`.
pub fn service_account(report: &mut Report<'_>, field: &str, value: &str) {
    let (namespace, account) = value.split_once('/').unwrap_or(("default", value));
    if value.contains('*') {
        report.error(field, format!("{} has a wildcard: an account is named exactly", quote(value)));
    } else if !names::is_dns_label(namespace) || !names::is_dns_subdomain(account) {
        report.error(field, format!("{} is not NAMESPACE/ACCOUNT or ACCOUNT", quote(value)));
    }
}

/// An address or a block.
pub fn ip_block(report: &mut Report<'_>, field: &str, value: &str) {
    if !names::is_ip_block(value) {
        report.error(
            field,
            format!("{} is neither an IP address nor a block such as \"10.0.0.0/8\"", quote(value)),
        );
    }
}

/// A port as text.
pub fn port(report: &mut Report<'_>, field: &str, value: &str) {
    if !value.parse::<u32>().is_ok_and(names::is_port) {
        report.error(field, format!("{} is not a port: it must be between 1 and 65535", quote(value)));
    }
}

/// A path: text with a `*` at one end, or a template with `{*}` (one segment) and `{**}` (the rest).
pub fn url_path(report: &mut Report<'_>, field: &str, value: &str) {
    if !value.contains(['{', '}']) {
        return text(report, field, value);
    }
    if value.contains('*') && value.replace("{**}", "").replace("{*}", "").contains('*') {
        report.error(field, format!("{} mixes a template with \"*\": use only one of them", quote(value)));
        return;
    }
    let mut rest = false;
    for segment in value.split('/').filter(|segment| segment.contains(['{', '}'])) {
        if rest {
            report.error(
                field,
                format!("{} has a template after {{**}}: it must be the last one", quote(value)),
            );
            return;
        }
        match segment {
            "{*}" => {}
            "{**}" => rest = true,
            _ => {
                let message =
                    format!("{} is not a template: a whole segment must be {{*}} or {{**}}", quote(segment));
                report.error(field, message);
                return;
            }
        }
    }
    if !value.starts_with('/') {
        report.error(field, format!("{} does not start with \"/\"", quote(value)));
    }
}
