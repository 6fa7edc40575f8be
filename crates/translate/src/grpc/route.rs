//! One route as gRPC understands it (gRFCs A28, A31, A44).

use protos::envoy::envoy::config::route::v3::{
    RetryPolicy, Route, RouteAction,
    route::Action,
    route_action::{ClusterSpecifier, MaxStreamDuration},
};

use crate::kinds::http_route;
use crate::note::About;

/// The retry conditions that gRPC knows; it counts statuses, never HTTP codes.
const RETRY_ON: [&str; 5] =
    ["cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"];

/// The route without what gRPC does not know, which is said about `config`; `None` when no call can match it.
pub fn adapt(mut route: Route, config: &str, about: &mut About<'_>) -> Option<Route> {
    if route.r#match.as_ref().is_some_and(|it| !it.query_parameters.is_empty()) {
        // A gRPC call has no query, and gRPC itself would take the route without this condition or not at all.
        return None;
    }
    let field = format!("{config} route \"{}\"", route.name);
    let default_retries = http_route::has_default_retries(&route);
    let mut changed = take_headers(&mut route);
    match &mut route.action {
        Some(Action::Route(action)) => {
            changed |= take_rewrites(action);
            if changed {
                about.info(&field, "gRPC changes neither headers nor authority nor path of a call");
            }
            deadline(action);
            action.retry_policy = action
                .retry_policy
                .take()
                .filter(|_| !default_retries)
                .and_then(|it| retries(it, &field, about));
        }
        _ => about
            .info(&field, "gRPC neither redirects nor answers by itself: such calls fail with UNAVAILABLE"),
    }
    route.decorator = None;
    route.stat_prefix.clear();
    Some(route)
}

fn take_headers(route: &mut Route) -> bool {
    let before = route.clone();
    route.request_headers_to_add.clear();
    route.request_headers_to_remove.clear();
    route.response_headers_to_add.clear();
    route.response_headers_to_remove.clear();
    *route != before
}

fn take_rewrites(action: &mut RouteAction) -> bool {
    let before = action.clone();
    action.host_rewrite_specifier = None;
    action.prefix_rewrite.clear();
    action.regex_rewrite = None;
    if let Some(ClusterSpecifier::WeightedClusters(weighted)) = &mut action.cluster_specifier {
        for cluster in &mut weighted.clusters {
            cluster.host_rewrite_specifier = None;
            cluster.request_headers_to_add.clear();
            cluster.request_headers_to_remove.clear();
            cluster.response_headers_to_add.clear();
            cluster.response_headers_to_remove.clear();
        }
    }
    *action != before
}

/// gRPC does not read a route's timeout; the longest life of a stream is the same thing.
fn deadline(action: &mut RouteAction) {
    let timeout = action.timeout.take().filter(|it| it.seconds > 0 || it.nanos > 0);
    action.max_stream_duration =
        timeout.map(|it| MaxStreamDuration { max_stream_duration: Some(it), ..Default::default() });
}

/// The retries that a user wrote. gRPC repeats by itself what did not reach the server, so the default policy, which
/// goes further, is not sent.
fn retries(mut policy: RetryPolicy, field: &str, about: &mut About<'_>) -> Option<RetryPolicy> {
    let (known, unknown): (Vec<&str>, Vec<&str>) =
        policy.retry_on.split(',').partition(|condition| RETRY_ON.contains(condition));
    if !unknown.is_empty() {
        let reason = format!("gRPC retries by status, so it does not know {}", unknown.join(", "));
        about.info(format!("{field} retryOn"), reason);
    }
    if policy.per_try_timeout.take().is_some() {
        about.info(format!("{field} perTryTimeout"), "gRPC has one deadline for all attempts");
    }
    policy.retry_on = known.join(",");
    policy.retry_host_predicate.clear();
    policy.host_selection_retry_max_attempts = 0;
    policy.retriable_status_codes.clear();
    (!policy.retry_on.is_empty()).then_some(policy)
}
