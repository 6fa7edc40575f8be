//! What a VirtualService HTTP rule does with a request: forward, redirect, answer; with rewrites, headers and retries.

use api::kinds::http_policy::HttpRetry;
use api::kinds::virtual_service::{
    Destination, HeaderOperations, Headers, HttpDirectResponse, HttpRedirect, HttpRewrite, HttpRoute,
    HttpRouteDestination, RedirectPortSelection,
};
use base64::Engine;
use protos::envoy::envoy::config::core::v3::{
    DataSource, HeaderValue, HeaderValueOption, data_source::Specifier,
    header_value_option::HeaderAppendAction,
};
use protos::envoy::envoy::config::route::v3::{
    DirectResponseAction, RedirectAction, RetryPolicy, Route, RouteAction, WeightedCluster,
    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
    retry_policy::{RetryBackOff, RetryHostPredicate, retry_host_predicate},
    route::Action,
    route_action::{ClusterSpecifier, HostRewriteSpecifier},
    weighted_cluster::{ClusterWeight, cluster_weight},
};
use protos::envoy::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use protos::envoy::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use protos::envoy::google::protobuf::Duration;

use crate::kinds::sendable;
use crate::node::Flavour;
use crate::scope::Scope;
use crate::{host, names, values};

/// Conditions retried when nothing else is said.
const DEFAULT_RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// Retries when nothing else is said.
const DEFAULT_RETRIES: u32 = 2;
/// Field of a route's `tulle` metadata: its retry policy is the default one, not a user's.
pub const DEFAULT_RETRY_POLICY: &str = "default_retry_policy";
/// How often another host is looked for before one already tried is taken.
const HOST_SELECTION_ATTEMPTS: i64 = 5;

/// Fills in what a rule does; `false` when the rule does nothing that can be served (a delegate).
pub fn fill(route: &mut Route, rule: &HttpRoute, namespace: &str, scope: &Scope<'_>, port: u16) -> bool {
    apply_headers(route, rule.headers.as_ref());
    route.action = if !sendable::rule_defects(rule).is_empty() {
        Some(Action::DirectResponse(DirectResponseAction { status: 500, ..Default::default() }))
    } else if let Some(redirect) = &rule.redirect {
        Some(Action::Redirect(redirect_action(redirect, port)))
    } else if let Some(response) = &rule.direct_response {
        Some(Action::DirectResponse(direct_response(response)))
    } else if rule.route.is_empty() {
        return false;
    } else {
        Some(forward(route, rule, namespace, scope, port))
    };
    if rule.retries.is_none() {
        mark_default_retries(route, scope);
    }
    true
}

/// Whether a route carries the mark of [`mark_default_retries`].
pub fn has_default_retries(route: &Route) -> bool {
    let ours = route.metadata.as_ref().and_then(|metadata| metadata.filter_metadata.get("tulle"));
    ours.is_some_and(|ours| ours.fields.contains_key(DEFAULT_RETRY_POLICY))
}

/// Tells `tulle-proxy` that nobody wrote the retries of a forwarding route: it then repeats only what cannot have
/// reached the app, or what may be repeated. A policy that a user wrote runs as written.
pub fn mark_default_retries(route: &mut Route, scope: &Scope<'_>) {
    let forwards = matches!(&route.action, Some(Action::Route(action)) if action.retry_policy.is_some());
    if scope.node.flavour == Flavour::Envoy
        || !forwards
        || scope.world.mesh().default_http_retry_policy.is_some()
    {
        return;
    }
    let metadata = route.metadata.get_or_insert_default();
    let ours = metadata.filter_metadata.entry("tulle".to_owned()).or_default();
    ours.fields.insert(DEFAULT_RETRY_POLICY.to_owned(), values::truth(true));
}

fn forward(route: &mut Route, rule: &HttpRoute, namespace: &str, scope: &Scope<'_>, port: u16) -> Action {
    let mut action = RouteAction {
        timeout: Some(rule.timeout.map(values::duration).unwrap_or_default()),
        retry_policy: retries(rule.retries.as_ref(), scope),
        ..Default::default()
    };
    // Of several new hosts `rewrite.authority` counts, then the rule's header, then the destination's, as in Istio.
    action.host_rewrite_specifier =
        authority(rule.headers.as_ref()).map(HostRewriteSpecifier::HostRewriteLiteral);
    if let Some(rewrite) = &rule.rewrite {
        apply_rewrite(&mut action, rewrite);
    }
    let single = rule.route.len() == 1;
    let live: Vec<&HttpRouteDestination> =
        rule.route.iter().filter(|entry| single || entry.weight > 0).collect();
    match live.as_slice() {
        // The resource was validated; were all weights 0, nobody could be called.
        [] => return Action::DirectResponse(DirectResponseAction { status: 503, ..Default::default() }),
        [only] => {
            let cluster = cluster(only.destination.as_ref(), namespace, scope, port);
            action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster));
            // After the rule's, so that the destination's word is the last.
            apply_headers(route, only.headers.as_ref());
            let of_destination =
                authority(only.headers.as_ref()).map(HostRewriteSpecifier::HostRewriteLiteral);
            action.host_rewrite_specifier = action.host_rewrite_specifier.or(of_destination);
        }
        several => {
            let clusters =
                several.iter().map(|entry| cluster_weight(entry, namespace, scope, port)).collect();
            let weighted = WeightedCluster { clusters, ..Default::default() };
            action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(weighted));
        }
    }
    Action::Route(action)
}

/// A plain forward to one cluster, with the default retries.
pub fn plain(cluster: String, scope: &Scope<'_>) -> RouteAction {
    RouteAction {
        timeout: Some(Duration::default()),
        retry_policy: retries(None, scope),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..Default::default()
    }
}

/// The cluster of a destination: its port, else the only port of its Service, else the port of the listener.
fn cluster(
    destination: Option<&Destination>,
    namespace: &str,
    scope: &Scope<'_>,
    listener_port: u16,
) -> String {
    let Some(destination) = destination else { return String::new() };
    let host = host::expand(&destination.host, namespace);
    let only_port = || match scope.world.service(&host).map(|service| service.spec.ports.as_slice()) {
        Some([only]) => u32::from(only.port),
        _ => u32::from(listener_port),
    };
    let port = destination.port.map_or_else(only_port, |selector| selector.number);
    names::outbound_cluster(port, &destination.subset, &host)
}

fn cluster_weight(
    entry: &HttpRouteDestination,
    namespace: &str,
    scope: &Scope<'_>,
    port: u16,
) -> ClusterWeight {
    let (request, response) = operations(entry.headers.as_ref());
    ClusterWeight {
        name: cluster(entry.destination.as_ref(), namespace, scope, port),
        weight: values::number(u32::try_from(entry.weight).unwrap_or_default()),
        request_headers_to_add: additions(request),
        request_headers_to_remove: removals(request),
        response_headers_to_add: additions(response),
        response_headers_to_remove: removals(response),
        host_rewrite_specifier: authority(entry.headers.as_ref())
            .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

fn operations(headers: Option<&Headers>) -> (Option<&HeaderOperations>, Option<&HeaderOperations>) {
    (headers.and_then(|it| it.request.as_ref()), headers.and_then(|it| it.response.as_ref()))
}

/// Whether a header name stands for the request's authority.
pub fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// The authority that `headers.request.set` asks for.
fn authority(headers: Option<&Headers>) -> Option<String> {
    let request = operations(headers).0?;
    let mut written =
        request.set.iter().filter(|(name, value)| is_authority(name) && !sendable::bad_host(value));
    written.next().map(|(_, value)| value.clone())
}

fn additions(operations: Option<&HeaderOperations>) -> Vec<HeaderValueOption> {
    let Some(operations) = operations else { return Vec::new() };
    let option = |(name, value): (&String, &String), action: HeaderAppendAction| HeaderValueOption {
        header: Some(HeaderValue { key: name.clone(), value: value.clone(), ..Default::default() }),
        append_action: action as i32,
        ..Default::default()
    };
    let sendable = |(name, value): &(&String, &String)| {
        sendable::header_defect(name).is_none() && sendable::value_defect(value).is_none()
    };
    let set = operations.set.iter().filter(|(name, _)| !is_authority(name)).filter(sendable);
    let set = set.map(|it| option(it, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add =
        operations.add.iter().filter(sendable).map(|it| option(it, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add).collect()
}

fn removals(operations: Option<&HeaderOperations>) -> Vec<String> {
    let names = operations.into_iter().flat_map(|operations| &operations.remove);
    names.filter(|name| sendable::header_defect(name).is_none()).cloned().collect()
}

fn apply_headers(route: &mut Route, headers: Option<&Headers>) {
    let (request, response) = operations(headers);
    route.request_headers_to_add.extend(additions(request));
    route.request_headers_to_remove.extend(removals(request));
    route.response_headers_to_add.extend(additions(response));
    route.response_headers_to_remove.extend(removals(response));
}

fn apply_rewrite(action: &mut RouteAction, rewrite: &HttpRewrite) {
    match &rewrite.uri_regex_rewrite {
        Some(regex) => {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(values::regex_matcher(&regex.pattern)),
                substitution: regex.rewrite.clone(),
            });
        }
        // With an exact or a regex match Envoy takes the whole path for the matched prefix.
        None => action.prefix_rewrite.clone_from(&rewrite.uri),
    }
    if !rewrite.authority.is_empty() {
        let literal = HostRewriteSpecifier::HostRewriteLiteral(rewrite.authority.clone());
        action.host_rewrite_specifier = Some(literal);
    }
}

/// The redirect codes that can be made.
pub fn redirect_code(code: u32) -> Option<RedirectResponseCode> {
    match code {
        0 | 301 => Some(RedirectResponseCode::MovedPermanently),
        302 => Some(RedirectResponseCode::Found),
        303 => Some(RedirectResponseCode::SeeOther),
        307 => Some(RedirectResponseCode::TemporaryRedirect),
        308 => Some(RedirectResponseCode::PermanentRedirect),
        _ => None,
    }
}

fn redirect_action(redirect: &HttpRedirect, port: u16) -> RedirectAction {
    let path = if redirect.prefix_rewrite.is_empty() {
        (!redirect.uri.is_empty()).then(|| PathRewriteSpecifier::PathRedirect(redirect.uri.clone()))
    } else {
        Some(PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone()))
    };
    let derived = match redirect.derive_port {
        Some(RedirectPortSelection::FromRequestPort) => u32::from(port),
        Some(RedirectPortSelection::FromProtocolDefault) | None => 0,
    };
    let scheme = Some(redirect.scheme.clone()).filter(|scheme| !scheme.is_empty());
    RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: redirect.port.unwrap_or(derived),
        response_code: redirect_code(redirect.redirect_code).unwrap_or(RedirectResponseCode::MovedPermanently)
            as i32,
        scheme_rewrite_specifier: scheme.map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        ..Default::default()
    }
}

fn direct_response(response: &HttpDirectResponse) -> DirectResponseAction {
    let specifier = response.body.as_ref().and_then(|body| match (&body.string, &body.bytes) {
        (Some(text), _) => Some(Specifier::InlineString(text.clone())),
        (None, Some(encoded)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok()?;
            Some(Specifier::InlineBytes(decoded))
        }
        (None, None) => None,
    });
    let body = specifier.map(|specifier| DataSource { specifier: Some(specifier), ..Default::default() });
    DirectResponseAction { status: response.status, body, ..Default::default() }
}

/// The retries of a rule, else of the mesh, else the default.
fn retries(written: Option<&HttpRetry>, scope: &Scope<'_>) -> Option<RetryPolicy> {
    retry_policy(written.or(scope.world.mesh().default_http_retry_policy.as_ref()))
}

/// Envoy's retry policy; absent settings mean the default, zero attempts mean none.
fn retry_policy(settings: Option<&HttpRetry>) -> Option<RetryPolicy> {
    let previous_hosts = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(protos::any::pack(
            &PreviousHostsPredicate {},
        ))),
    };
    let mut policy = RetryPolicy {
        retry_on: DEFAULT_RETRY_ON.to_owned(),
        num_retries: values::number(DEFAULT_RETRIES),
        retry_host_predicate: vec![previous_hosts],
        host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
        ..Default::default()
    };
    let Some(settings) = settings else { return Some(policy) };
    policy.num_retries =
        values::number(u32::try_from(settings.attempts).ok().filter(|attempts| *attempts > 0)?);
    policy.per_try_timeout = settings.per_try_timeout.map(values::duration);
    policy.retry_back_off = settings
        .backoff
        .map(|interval| RetryBackOff { base_interval: Some(values::duration(interval)), max_interval: None });
    if settings.retry_ignore_previous_hosts == Some(false) {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    if !settings.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = retry_conditions(&settings.retry_on);
    }
    Some(policy)
}

/// Splits `retryOn` into Envoy's conditions and status codes.
fn retry_conditions(retry_on: &str) -> (String, Vec<u32>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut codes = Vec::new();
    for part in retry_on.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<u32>() {
            Ok(code) => codes.push(code),
            Err(_) => conditions.push(part),
        }
    }
    if !codes.is_empty() && !conditions.contains(&"retriable-status-codes") {
        conditions.push("retriable-status-codes");
    }
    (conditions.join(","), codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_two_retries_of_the_default_conditions() {
        let policy = retry_policy(None).unwrap();
        assert_eq!((policy.num_retries.unwrap().value, policy.retry_on.as_str()), (2, DEFAULT_RETRY_ON));
    }

    #[test]
    fn zero_attempts_mean_no_retries() {
        assert_eq!(retry_policy(Some(&HttpRetry::default())), None);
        assert!(retry_policy(Some(&HttpRetry { attempts: 1, ..Default::default() })).is_some());
    }

    #[test]
    fn status_codes_leave_the_list_of_conditions() {
        assert_eq!(
            retry_conditions("5xx, 418,429"),
            ("5xx,retriable-status-codes".to_owned(), vec![418, 429])
        );
        assert_eq!(retry_conditions("connect-failure"), ("connect-failure".to_owned(), vec![]));
    }

    #[test]
    fn only_host_and_authority_rewrite_the_authority() {
        let set = |name: &str| Headers {
            request: Some(HeaderOperations {
                set: [(name.to_owned(), "a.example".to_owned())].into(),
                ..Default::default()
            }),
            response: None,
        };
        assert_eq!(authority(Some(&set("Host"))).as_deref(), Some("a.example"));
        assert_eq!(authority(Some(&set(":authority"))).as_deref(), Some("a.example"));
        assert_eq!(authority(Some(&set("x-host"))), None);
        assert!(additions(set("host").request.as_ref()).is_empty());
    }
}
