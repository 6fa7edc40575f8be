//! The HTTP connection manager of inbound and outbound listeners, with its filters.

use api::kinds::mesh_config::NormalizationType;
use api::kinds::telemetry::WorkloadMode;
use protos::Any;
use protos::envoy::envoy::config::rbac::v3::Rbac as Rules;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;
use protos::envoy::envoy::extensions::filters::http::rbac::v3::Rbac;
use protos::envoy::envoy::extensions::filters::http::router::v3::Router;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager as hcm, http_filter,
};
use protos::envoy::google::protobuf::Duration;
use protos::istio::{DiscoveryMethod, IstioHeaders, PeerMetadataConfig, PropagationMethod};

use crate::canonical;
use crate::kinds::authorization_policy;
use crate::scope::Scope;
use crate::values;
use crate::xds::default_access_log::Traffic;
use crate::xds::header_limits::{self, HeaderLimits};
use crate::xds::{access_log, stats, tracing};

/// Name of the network filter.
pub const NAME: &str = "envoy.filters.network.http_connection_manager";

/// For requests to the app: the routes are inside, the policies of the workload are asked first.
pub fn inbound(scope: &Scope<'_>, routes: RouteConfiguration, rules: &authorization_policy::Rules) -> Any {
    let details = hcm::SetCurrentClientCertDetails {
        subject: values::boolean(true),
        dns: true,
        uri: true,
        ..Default::default()
    };
    let mut filters = Vec::new();
    if scope.is_tulle() {
        let config = PeerMetadataConfig {
            downstream_discovery: vec![DiscoveryMethod { istio_headers: Some(IstioHeaders::default()) }],
            downstream_propagation: vec![PropagationMethod { istio_headers: Some(IstioHeaders::default()) }],
            ..Default::default()
        };
        filters.push(filter("istio.metadata_exchange", protos::any::pack(&config)));
    }
    filters.extend(rules.deny.as_ref().map(rbac));
    filters.extend(rules.allow.as_ref().map(rbac));
    filters.extend(last_filters(scope, WorkloadMode::Server));
    let stat_prefix =
        format!("inbound_{}", scope.instances.first().map(|it| it.address.to_string()).unwrap_or_default());
    let mut manager = HttpConnectionManager {
        stat_prefix,
        http_filters: filters,
        server_header_transformation: hcm::ServerHeaderTransformation::PassThrough as i32,
        forward_client_cert_details: hcm::ForwardClientCertDetails::AppendForward as i32,
        set_current_client_cert_details: Some(details),
        route_specifier: Some(hcm::RouteSpecifier::RouteConfig(routes)),
        ..common(scope, WorkloadMode::Server, header_limits::FROM_PEERS)
    };
    tracing::configure(scope, WorkloadMode::Server, &mut manager);
    canonical::pack(&manager)
}

/// For requests of the app: the routes are asked for by name.
pub fn outbound(scope: &Scope<'_>, stat_prefix: String, route_name: &str) -> Any {
    let mut filters = Vec::new();
    if scope.is_tulle() {
        let skip = IstioHeaders { skip_external_clusters: true };
        let config = PeerMetadataConfig {
            upstream_discovery: vec![DiscoveryMethod { istio_headers: Some(IstioHeaders::default()) }],
            upstream_propagation: vec![PropagationMethod { istio_headers: Some(skip) }],
            ..Default::default()
        };
        filters.push(filter("istio.metadata_exchange", protos::any::pack(&config)));
    }
    filters.extend(last_filters(scope, WorkloadMode::Client));
    let rds =
        Rds { config_source: Some(values::ads(scope.is_tulle())), route_config_name: route_name.to_owned() };
    let mut manager = HttpConnectionManager {
        stat_prefix,
        http_filters: filters,
        route_specifier: Some(hcm::RouteSpecifier::Rds(rds)),
        ..common(scope, WorkloadMode::Client, header_limits::FROM_APPS)
    };
    tracing::configure(scope, WorkloadMode::Client, &mut manager);
    canonical::pack(&manager)
}

fn common(scope: &Scope<'_>, side: WorkloadMode, limits: HeaderLimits) -> HttpConnectionManager {
    let mesh = scope.world.mesh();
    let normalization = mesh.path_normalization();
    let merge =
        matches!(normalization, NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes);
    let slashes = match normalization {
        NormalizationType::DecodeAndMergeSlashes => hcm::PathWithEscapedSlashesAction::UnescapeAndForward,
        _ => hcm::PathWithEscapedSlashesAction::KeepUnchanged,
    };
    let mut manager = HttpConnectionManager {
        server_name: "istio-envoy".to_owned(),
        use_remote_address: values::boolean(false),
        generate_request_id: values::boolean(true),
        stream_idle_timeout: Some(Duration::default()),
        normalize_path: values::boolean(normalization != NormalizationType::None),
        merge_slashes: merge,
        path_with_escaped_slashes_action: slashes as i32,
        access_log: access_log::access_logs(scope, side, Traffic::Http),
        upgrade_configs: vec![hcm::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    };
    limits.limit_requests(&mut manager);
    manager
}

fn last_filters(scope: &Scope<'_>, side: WorkloadMode) -> Vec<HttpFilter> {
    let stats = stats::stats(scope, side).map(|it| filter("istio.stats", protos::any::pack(&it)));
    let router = filter("envoy.filters.http.router", protos::any::pack(&Router::default()));
    stats.into_iter().chain([router]).collect()
}

/// The filter that asks these rules.
pub fn rbac(rules: &Rules) -> HttpFilter {
    let config = Rbac { rules: Some(rules.clone()), ..Default::default() };
    filter("envoy.filters.http.rbac", canonical::pack(&config))
}

/// A filter with this configuration.
pub fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
