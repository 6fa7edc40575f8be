//! `envoy.config.route.v3.Route`.

use super::filter_config::read_filter_configs;
use super::header_operation::read_header_operations;
use super::metadata::{read_metadata, texts};
use super::name::name;
use super::redirect::{read_direct_response, read_redirect};
use super::route_action::read_route_action;
use super::route_match::read_route_match;
use super::tracing::{read_decorator, read_route_tracing};
use crate::context::{Context, Result, number, refuse, report};
use crate::model::{RetryPolicy, Route, RouteAction, Value};
use protos::envoy::envoy::config::route::v3 as pb;
use protos::envoy::google::protobuf::{UInt32Value, UInt64Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads a route; `body` is the largest body of a direct response, in bytes.
pub fn read_route(cx: &mut Context, message: &pb::Route, body: usize) -> Result<Route> {
    use pb::route::Action;
    let pb::Route {
        name: route_name,
        r#match: condition,
        metadata,
        decorator,
        typed_per_filter_config,
        request_headers_to_add,
        request_headers_to_remove,
        response_headers_to_add,
        response_headers_to_remove,
        tracing,
        per_request_buffer_limit_bytes,
        stat_prefix,
        request_body_buffer_limit,
        route_specifiers,
        action,
    } = message;
    refuse!(cx, "route extensions are not supported"; route_specifiers);
    report!(cx, "metrics are named after workloads"; stat_prefix);
    read_filter_configs(cx, typed_per_filter_config)?;
    let metadata = read_metadata(cx, metadata, &["tulle"])?;
    let condition = cx.required("match", condition)?;
    let action = match action {
        Some(Action::Route(action)) => {
            let mut forward = cx.field("route", |cx| read_route_action(cx, action))?;
            forward.request_body_buffer_limit =
                read_buffer_limit(per_request_buffer_limit_bytes, request_body_buffer_limit);
            if is_default_retry(&metadata) {
                forward.retry = forward
                    .retry
                    .map(|policy| Arc::new(RetryPolicy { is_default: true, ..RetryPolicy::clone(&policy) }));
            }
            RouteAction::Forward(Box::new(forward))
        }
        Some(Action::Redirect(action)) => {
            RouteAction::Redirect(cx.field("redirect", |cx| read_redirect(cx, action))?)
        }
        Some(Action::DirectResponse(action)) => RouteAction::DirectResponse(
            cx.field("direct_response", |cx| read_direct_response(cx, action, body))?,
        ),
        Some(Action::FilterAction(_)) => return Err(cx.refused_field("filter_action", "is not supported")),
        Some(Action::NonForwardingAction(_)) => {
            return Err(cx.refused_field(
                "non_forwarding_action",
                "is for gRPC servers: a proxy needs route, redirect or direct_response",
            ));
        }
        None => return Err(cx.refused_field("action", "is missing, or of a kind that is not known")),
    };
    Ok(Route {
        name: name(cx, "name", route_name)?,
        origin: texts(&metadata, "tulle").remove("origin"),
        matcher: cx.field("match", |cx| read_route_match(cx, condition))?,
        action,
        tracing: read_route_tracing(cx, tracing)?.map(Box::new),
        decorator: read_decorator(cx, decorator)?,
        request_headers: read_header_operations(
            cx,
            "request",
            request_headers_to_add,
            request_headers_to_remove,
        )?,
        response_headers: read_header_operations(
            cx,
            "response",
            response_headers_to_add,
            response_headers_to_remove,
        )?,
    })
}

/// Most bytes of a request's body that are kept for a retry; the newer field counts.
pub fn read_buffer_limit(old: &Option<UInt32Value>, new: &Option<UInt64Value>) -> Option<u64> {
    new.as_ref().map(|limit| limit.value).or_else(|| number(old).map(u64::from))
}

/// Our control plane marks the retry policy that nobody wrote: `filter_metadata["tulle"].default_retry_policy`.
fn is_default_retry(metadata: &BTreeMap<Arc<str>, Value>) -> bool {
    matches!(
        metadata.get("tulle").and_then(|tulle| tulle.get("default_retry_policy")),
        Some(Value::Bool(true))
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use protos::envoy::envoy::config::core::v3::Metadata;
    use protos::envoy::google::protobuf::{Struct, Value, value::Kind};

    /// A route of everything to a cluster.
    pub fn to_cluster(cluster: &str) -> pb::Route {
        let cluster = pb::route_action::ClusterSpecifier::Cluster(cluster.into());
        let action = pb::RouteAction { cluster_specifier: Some(cluster), ..Default::default() };
        let path = pb::route_match::PathSpecifier::Prefix("/".into());
        pb::Route {
            r#match: Some(pb::RouteMatch { path_specifier: Some(path), ..Default::default() }),
            action: Some(pb::route::Action::Route(action)),
            ..Default::default()
        }
    }

    fn read(change: impl FnOnce(&mut pb::Route)) -> Result<crate::Read<Route>> {
        let mut message = to_cluster("a");
        change(&mut message);
        Context::read(|cx| read_route(cx, &message, 4096))
    }

    #[test]
    fn reads_the_origin_and_the_decorator() {
        let origin = "VirtualService/production/payment-service#http[1]";
        let read = read(|message| {
            let value = Value { kind: Some(Kind::StringValue(origin.into())) };
            let ours = Struct { fields: [("origin".to_owned(), value)].into() };
            let filter_metadata = [("tulle".to_owned(), ours)].into();
            message.metadata = Some(Metadata { filter_metadata, ..Default::default() });
            message.decorator = Some(pb::Decorator { operation: "a:80/*".into(), propagate: None });
        })
        .unwrap();
        assert_eq!(read.value.origin.as_deref(), Some(origin));
        let decorator = read.value.decorator.unwrap();
        assert!(&*decorator.operation == "a:80/*" && decorator.propagate, "{decorator:?}");
        assert!(read.notes.is_empty(), "{:?}", read.notes);
    }

    #[test]
    fn refuses_a_route_without_match_or_action() {
        assert_eq!(read(|message| message.r#match = None).unwrap_err().path, "match");
        assert_eq!(read(|message| message.action = None).unwrap_err().path, "action");
        let filter = pb::route::Action::FilterAction(Default::default());
        assert_eq!(read(|message| message.action = Some(filter)).unwrap_err().path, "filter_action");
    }
}
