//! The tracing of a connection manager: sampling, tags and the tracer.

use api::kinds::custom_tag::CustomTag as Tag;
use api::kinds::telemetry::WorkloadMode;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, RequestIdExtension, http_connection_manager::Tracing,
};
use protos::envoy::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use protos::envoy::envoy::r#type::metadata::v3::{MetadataKey, MetadataKind, metadata_key, metadata_kind};
use protos::envoy::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use protos::envoy::envoy::r#type::v3::Percent;

use crate::merge::telemetry;
use crate::merge::tracing::{self, MergedTracing};
use crate::scope::Scope;
use crate::values;
use crate::xds::tracer::tracer;

/// Whether spans are made on one side: only then anybody reads the names that routes give them.
pub fn is_on(scope: &Scope<'_>, side: WorkloadMode) -> bool {
    merged(scope, side).is_some_and(|it| tracer(scope, it.provider).is_some())
}

fn merged<'w>(scope: &Scope<'w>, side: WorkloadMode) -> Option<MergedTracing<'w>> {
    let all = telemetry::telemetries(scope.world, scope.namespace(), &scope.labels);
    tracing::tracing(scope.world.mesh(), &all, side)
}

/// Sets what a connection manager of that side traces.
pub fn configure(scope: &Scope<'_>, side: WorkloadMode, manager: &mut HttpConnectionManager) {
    let Some(merged) = merged(scope, side) else { return };
    let Some(provider) = tracer(scope, merged.provider) else { return };
    let percent = |value| Some(Percent { value });
    manager.tracing = Some(Tracing {
        client_sampling: percent(100.0),
        random_sampling: percent(merged.sampling),
        overall_sampling: percent(100.0),
        max_path_tag_length: merged.max_path_tag_length.and_then(values::number),
        custom_tags: custom_tags(scope, &merged),
        provider: Some(provider),
        no_context_propagation: merged.no_context_propagation,
        ..Default::default()
    });
    let options = UuidRequestIdConfig {
        use_request_id_for_trace_sampling: values::boolean(merged.use_request_id),
        ..Default::default()
    };
    manager.request_id_extension =
        Some(RequestIdExtension { typed_config: Some(protos::any::pack(&options)) });
}

/// Sorted by name; a tag of the user replaces Istio's of that name.
fn custom_tags(scope: &Scope<'_>, merged: &MergedTracing<'_>) -> Vec<CustomTag> {
    let mut tags: Vec<CustomTag> =
        merged.custom_tags.iter().filter_map(|(name, tag)| custom_tag(name, tag)).collect();
    if merged.istio_tags {
        let named = |name: &str| merged.custom_tags.contains_key(name);
        tags.extend(istio_tags(scope).into_iter().filter(|tag| !named(&tag.tag)));
    }
    tags.sort_by(|left, right| left.tag.cmp(&right.tag));
    tags
}

fn tag(name: &str, value: custom_tag::Type) -> CustomTag {
    CustomTag { tag: name.to_owned(), r#type: Some(value) }
}

fn literal(value: &str) -> custom_tag::Type {
    custom_tag::Type::Literal(custom_tag::Literal { value: value.to_owned() })
}

fn istio_tags(scope: &Scope<'_>) -> Vec<CustomTag> {
    let label = |name: &str| scope.labels.get(name).map(String::as_str).filter(|it| !it.is_empty());
    let or = |value: &str, default: &str| literal(if value.is_empty() { default } else { value });
    let revision = label("service.istio.io/canonical-revision").or(label("version"));
    let service = label("service.istio.io/canonical-name").or(label("app"));
    let mut tags = vec![
        tag("istio.canonical_revision", or(revision.unwrap_or_default(), "latest")),
        tag("istio.canonical_service", or(service.unwrap_or_default(), "unknown")),
        tag("istio.mesh_id", or(&scope.node.mesh_id, "unknown")),
        tag("istio.namespace", or(scope.namespace(), "default")),
        tag("istio.cluster_id", or(&scope.node.cluster_id, "unknown")),
    ];
    // What shadow policies would have said; `tulle-proxy` has none.
    if !scope.is_tulle() {
        for effect in ["allow", "deny"] {
            for (end, key) in [("name", "effective_policy_id"), ("result", "engine_result")] {
                let key = format!("istio_dry_run_{effect}_shadow_{key}");
                tags.push(tag(&format!("istio.authorization.dry_run.{effect}_policy.{end}"), metadata(&key)));
            }
        }
    }
    tags
}

fn metadata(key: &str) -> custom_tag::Type {
    let segment = metadata_key::path_segment::Segment::Key(key.to_owned());
    let path = vec![metadata_key::PathSegment { segment: Some(segment) }];
    let kind = Some(metadata_kind::Kind::Request(metadata_kind::Request {}));
    custom_tag::Type::Metadata(custom_tag::Metadata {
        kind: Some(MetadataKind { kind }),
        metadata_key: Some(MetadataKey { key: "envoy.filters.http.rbac".to_owned(), path }),
        ..Default::default()
    })
}

/// A tag of the user; `None` where it has no value that could be sent.
fn custom_tag(name: &str, wanted: &Tag) -> Option<CustomTag> {
    let value = match (&wanted.literal, &wanted.environment, &wanted.header, &wanted.formatter) {
        (Some(it), ..) => literal(&it.value),
        (_, Some(it), ..) => {
            let (name, default_value) = (it.name.clone(), it.default_value.clone());
            custom_tag::Type::Environment(custom_tag::Environment { name, default_value })
        }
        (_, _, Some(it), _) => {
            let (name, default_value) = (it.name.clone(), it.default_value.clone());
            custom_tag::Type::RequestHeader(custom_tag::Header { name, default_value })
        }
        (.., Some(it)) if crate::kinds::format_string::defect(&it.value).is_none() => {
            custom_tag::Type::Value(it.value.clone())
        }
        _ => return None,
    };
    Some(tag(name, value))
}
