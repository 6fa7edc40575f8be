//! Validation of the HTTP routes of a VirtualService.

use std::collections::BTreeMap;

use super::virtual_service::{destination, gateway_names, source_namespace, weights};
use super::{names, shared};
use crate::kinds::common::StringMatch;
use crate::kinds::http_policy::{CorsPolicy, HttpFaultInjection, HttpRetry};
use crate::kinds::virtual_service::{
    HeaderOperations, Headers, HttpDirectResponse, HttpMatchRequest, HttpRedirect, HttpRewrite, HttpRoute,
};
use crate::path;
use crate::report::Report;
use crate::text::{did_you_mean, quote};

/// Checks one HTTP route. `in_delegate`: its VirtualService has no hosts.
pub fn http_route(route: &HttpRoute, field: &str, in_delegate: bool, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    action(route, field, in_delegate, report);
    for (index, matcher) in route.matches.iter().enumerate() {
        http_match(matcher, &path::index(&at("match"), index), report);
    }
    headers(report, &at("headers"), route.headers.as_ref());
    for (index, target) in route.route.iter().enumerate() {
        let field = path::index(&at("route"), index);
        destination(report, &path::key(&field, "destination"), target.destination.as_ref());
        headers(report, &path::key(&field, "headers"), target.headers.as_ref());
    }
    weights(report, &at("route"), route.route.iter().map(|target| target.weight));
    if let Some(redirect) = &route.redirect {
        http_redirect(redirect, &at("redirect"), report);
    }
    if let Some(response) = &route.direct_response {
        direct_response(response, &at("directResponse"), report);
    }
    if let Some(rewrite) = &route.rewrite {
        http_rewrite(rewrite, route.headers.as_ref(), &at("rewrite"), report);
    }
    if route.delegate.as_ref().is_some_and(|delegate| delegate.name.is_empty()) {
        report.error(&path::key(&at("delegate"), "name"), "the delegate has no name");
    }
    shared::duration(report, &at("timeout"), route.timeout);
    retries(report, &at("retries"), route.retries.as_ref());
    if let Some(fault) = &route.fault {
        http_fault(fault, &at("fault"), report);
    }
    mirrors(route, field, report);
    if let Some(cors) = &route.cors_policy {
        cors_policy(cors, &at("corsPolicy"), report);
    }
}

/// Exactly one of route, redirect, directResponse, delegate; and what each excludes.
fn action(route: &HttpRoute, field: &str, in_delegate: bool, report: &mut Report<'_>) {
    let given: Vec<&str> = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
        ("delegate", route.delegate.is_some()),
    ]
    .into_iter()
    .filter_map(|(name, given)| given.then_some(name))
    .collect();
    match given[..] {
        [] => report.error_with(
            field,
            "the route does nothing",
            "give exactly one of route, redirect, directResponse, delegate",
        ),
        [_] => {}
        [first, second, ..] => {
            report.error(
                &path::key(field, second),
                format!("a route has either {first} or {second}, not both"),
            );
        }
    }
    if in_delegate && route.delegate.is_some() {
        report.error(&path::key(field, "delegate"), "a delegate cannot delegate again");
    }
    let answers = if route.redirect.is_some() { "redirect" } else { "directResponse" };
    if route.redirect.is_some() || route.direct_response.is_some() {
        for (name, given) in [("fault", route.fault.is_some()), ("rewrite", route.rewrite.is_some())] {
            if given {
                report.error(&path::key(field, name), format!("a route with {answers} has no {name}"));
            }
        }
    }
}

fn http_match(matcher: &HttpMatchRequest, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    for (name, value, empty_prefix) in [
        ("uri", &matcher.uri, true),
        ("scheme", &matcher.scheme, false),
        ("method", &matcher.method, false),
        ("authority", &matcher.authority, false),
    ] {
        if let Some(value) = value {
            shared::string_match(report, &at(name), value, empty_prefix);
        }
    }
    header_matches(report, &at("headers"), &matcher.headers, false);
    header_matches(report, &at("withoutHeaders"), &matcher.without_headers, true);
    for (name, value) in &matcher.query_params {
        let field = path::key(&at("queryParams"), name);
        if name.is_empty() {
            report.error(&field, "the query parameter has no name");
        }
        shared::string_match(report, &field, value, false);
    }
    if let Some(number) = matcher.port {
        shared::port(report, &at("port"), number);
    }
    shared::labels(report, &at("sourceLabels"), &matcher.source_labels);
    gateway_names(report, &at("gateways"), &matcher.gateways);
    source_namespace(report, field, &matcher.source_namespace);
}

fn header_matches(
    report: &mut Report<'_>,
    field: &str,
    headers: &BTreeMap<String, StringMatch>,
    star_is_presence: bool,
) {
    for (name, matcher) in headers {
        let field = path::key(field, name);
        let claim = name.starts_with("@request.auth.claims");
        if !claim && !names::is_header_name(name) {
            report.error(&field, format!("{} is not a header name", quote(name)));
        }
        if matches!(name.as_str(), "uri" | "scheme" | "method" | "authority") {
            let message = format!("a header match on {} is ignored", quote(name));
            report.warning(&field, format!("{message}: match {name} beside headers"));
        }
        let star = matches!(matcher, StringMatch::Regex(pattern) if pattern == "*");
        if !(star && star_is_presence) {
            shared::string_match(report, &field, matcher, false);
        }
    }
}

fn headers(report: &mut Report<'_>, field: &str, headers: Option<&Headers>) {
    let Some(headers) = headers else { return };
    if let Some(request) = &headers.request {
        header_operations(report, &path::key(field, "request"), request, true);
    }
    if let Some(response) = &headers.response {
        header_operations(report, &path::key(field, "response"), response, false);
    }
}

fn header_operations(report: &mut Report<'_>, field: &str, operations: &HeaderOperations, request: bool) {
    let mut name_is_good = |field: &str, name: &str, authority: bool| {
        if authority && request && is_authority(name) {
            return;
        }
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            report.error(field, format!("{} cannot be changed here", quote(name)));
        } else if !names::is_header_name(name) {
            report.error(field, format!("{} is not a header name", quote(name)));
        }
    };
    for (list, operations) in [("set", &operations.set), ("add", &operations.add)] {
        for name in operations.keys() {
            name_is_good(&path::key(&path::key(field, list), name), name, true);
        }
    }
    for (index, name) in operations.remove.iter().enumerate() {
        name_is_good(&path::index(&path::key(field, "remove"), index), name, false);
    }
    for (list, operations) in [("set", &operations.set), ("add", &operations.add)] {
        for (name, value) in operations {
            if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                let field = path::key(&path::key(field, list), name);
                report.error(&field, "a header value cannot hold a line break or NUL");
            }
        }
    }
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

fn http_redirect(redirect: &HttpRedirect, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    let empty = [&redirect.uri, &redirect.authority, &redirect.scheme, &redirect.prefix_rewrite];
    let code = redirect.redirect_code;
    if empty.iter().all(|text| text.is_empty())
        && redirect.port.is_none()
        && redirect.derive_port.is_none()
        && code == 0
    {
        report.error(field, "the redirect changes nothing: it would lead to itself");
    }
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        report.error(&at("prefixRewrite"), "a redirect has either uri or prefixRewrite, not both");
    }
    if !redirect.scheme.is_empty() && !matches!(redirect.scheme.as_str(), "http" | "https") {
        report.error(&at("scheme"), format!("{} is neither \"http\" nor \"https\"", quote(&redirect.scheme)));
    }
    if let Some(number) = redirect.port {
        shared::port(report, &at("port"), number);
        if redirect.derive_port.is_some() {
            report.error(&at("derivePort"), "a redirect has either port or derivePort, not both");
        }
    }
    if code != 0 && !(300..=399).contains(&code) {
        report
            .error(&at("redirectCode"), format!("{code} is not a redirect: it must be between 300 and 399"));
    }
}

fn direct_response(response: &HttpDirectResponse, field: &str, report: &mut Report<'_>) {
    const LONGEST: usize = 1024 * 1024;
    if !(200..=599).contains(&response.status) {
        let message = format!("{} is not a status: it must be between 200 and 599", response.status);
        report.error(&path::key(field, "status"), message);
    }
    let Some(body) = &response.body else { return };
    let field = path::key(field, "body");
    if body.string.is_some() == body.bytes.is_some() {
        report.error(&field, "a body is either string or bytes");
    }
    let size = body.string.as_ref().or(body.bytes.as_ref()).map_or(0, String::len);
    if size >= LONGEST {
        report.error(&field, format!("the body has {size} bytes; it must be below {LONGEST} (1 MiB)"));
    }
}

fn http_rewrite(rewrite: &HttpRewrite, headers: Option<&Headers>, field: &str, report: &mut Report<'_>) {
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && rewrite.uri_regex_rewrite.is_none() {
        report.error(field, "the rewrite changes nothing: give uri, uriRegexRewrite or authority");
    }
    if let Some(by_regex) = &rewrite.uri_regex_rewrite {
        let field = path::key(field, "uriRegexRewrite");
        if !rewrite.uri.is_empty() {
            report.error(&field, "a rewrite has either uri or uriRegexRewrite, not both");
        }
        if by_regex.pattern.is_empty() || by_regex.rewrite.is_empty() {
            report.error(&field, "both match and rewrite are needed");
        }
        shared::regex(report, &path::key(&field, "match"), &by_regex.pattern);
    }
    let request = headers.and_then(|headers| headers.request.as_ref());
    let names = request.into_iter().flat_map(|operations| operations.set.keys().chain(operations.add.keys()));
    if !rewrite.authority.is_empty() && names.into_iter().any(|name| is_authority(name)) {
        report.error(&path::key(field, "authority"), "the authority is set here and in headers: keep one");
    }
}

/// Conditions of `retryOn`, besides status codes.
const RETRY_CONDITIONS: [&str; 22] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
    "aborted",
    "data-loss",
    "unknown",
    "unauthenticated",
    "permission-denied",
    "not-found",
];

/// Retries of a route, or of the mesh.
pub fn retries(report: &mut Report<'_>, field: &str, retries: Option<&HttpRetry>) {
    let Some(retries) = retries else { return };
    shared::not_negative(report, &path::key(field, "attempts"), retries.attempts);
    let wants_more = retries.per_try_timeout.is_some()
        || !retries.retry_on.is_empty()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && wants_more {
        report.error_with(
            field,
            "attempts is missing or 0, which disables retries",
            "set attempts, or remove the other fields",
        );
    }
    // 0s stands for "no timeout of its own".
    shared::duration_or_off(report, &path::key(field, "perTryTimeout"), retries.per_try_timeout);
    shared::duration_or_off(report, &path::key(field, "backoff"), retries.backoff);
    for condition in retries.retry_on.split(',').map(str::trim).filter(|condition| !condition.is_empty()) {
        let status = condition.parse::<u32>().is_ok_and(|status| (100..=599).contains(&status));
        if !status && !RETRY_CONDITIONS.contains(&condition) {
            let message = format!("{} is not a condition for retries", quote(condition));
            match did_you_mean(condition, RETRY_CONDITIONS) {
                Some(suggestion) => report.error_with(&path::key(field, "retryOn"), message, suggestion),
                None => report.error(&path::key(field, "retryOn"), message),
            }
            return;
        }
    }
}

fn http_fault(fault: &HttpFaultInjection, field: &str, report: &mut Report<'_>) {
    if fault.delay.is_none() && fault.abort.is_none() {
        report.error(field, "the fault is empty: give delay or abort");
    }
    if let Some(delay) = &fault.delay {
        let field = path::key(field, "delay");
        shared::percent(report, &path::key(&field, "percent"), f64::from(delay.percent));
        shared::percentage(report, &path::key(&field, "percentage"), delay.percentage);
        match (delay.fixed_delay, delay.exponential_delay) {
            (_, Some(_)) => report
                .error(&path::key(&field, "exponentialDelay"), "exponentialDelay has never been supported"),
            (None, None) => report.error(&field, "fixedDelay is missing"),
            (fixed, None) => shared::duration(report, &path::key(&field, "fixedDelay"), fixed),
        }
    }
    if let Some(abort) = &fault.abort {
        let field = path::key(field, "abort");
        shared::percentage(report, &path::key(&field, "percentage"), abort.percentage);
        match (abort.http_status, &abort.grpc_status, &abort.http2_error) {
            (_, _, Some(_)) => {
                report.error(&path::key(&field, "http2Error"), "http2Error has never been supported")
            }
            (Some(_), Some(_), None) => {
                report.error(&field, "an abort has either httpStatus or grpcStatus, not both")
            }
            (None, None, None) => report.error(&field, "httpStatus or grpcStatus is missing"),
            (Some(status), None, None) if !(200..=599).contains(&status) => {
                let message = format!("{status} is not a status: it must be between 200 and 599");
                report.error(&path::key(&field, "httpStatus"), message);
            }
            (None, Some(name), None) if !GRPC_STATUS.contains(&name.as_str()) => {
                let message = format!("{} is not a gRPC status name such as \"UNAVAILABLE\"", quote(name));
                report.error(&path::key(&field, "grpcStatus"), message);
            }
            _ => {}
        }
    }
}

const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn mirrors(route: &HttpRoute, field: &str, report: &mut Report<'_>) {
    let at = |name: &str| path::key(field, name);
    if route.mirror.is_some() {
        destination(report, &at("mirror"), route.mirror.as_ref());
        if !route.mirrors.is_empty() {
            report.error(&at("mirrors"), "a route has either mirror or mirrors, not both");
        }
    }
    if let Some(share) = route.mirror_percent {
        shared::percent(report, &at("mirrorPercent"), f64::from(share));
    }
    shared::percentage(report, &at("mirrorPercentage"), route.mirror_percentage);
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let field = path::index(&at("mirrors"), index);
        destination(report, &path::key(&field, "destination"), mirror.destination.as_ref());
        shared::percentage(report, &path::key(&field, "percentage"), mirror.percentage);
    }
}

fn cors_policy(cors: &CorsPolicy, field: &str, report: &mut Report<'_>) {
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        shared::string_match(report, &path::index(&path::key(field, "allowOrigins"), index), origin, false);
    }
    for (list, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (index, name) in names.iter().enumerate() {
            if !names::is_header_name(name) {
                let field = path::index(&path::key(field, list), index);
                report.error(&field, format!("{} is not a header name", quote(name)));
            }
        }
    }
    if cors.max_age.is_some_and(|age| age.nanos() != 0) {
        report.error(&path::key(field, "maxAge"), "whole seconds are needed");
    }
}
