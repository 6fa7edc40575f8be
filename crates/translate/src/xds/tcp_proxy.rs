//! The network filters of a chain whose bytes are passed on as they are: policies, then `tcp_proxy`.

use api::kinds::destination_rule::TcpSettings;
use api::kinds::telemetry::WorkloadMode;
use protos::envoy::envoy::config::listener::v3::{Filter, filter};
use protos::envoy::envoy::config::rbac::v3::Rbac as Rules;
use protos::envoy::envoy::extensions::filters::network::rbac::v3::Rbac;
use protos::envoy::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};

use crate::kinds::authorization_policy;
use crate::scope::Scope;
use crate::xds::default_access_log::Traffic;
use crate::xds::{access_log, stats};
use crate::{canonical, values};

/// Prefix of the counters of policies on connections, as in Istio.
const RBAC_PREFIX: &str = "tcp.";

/// To the app: the policies of the workload are asked once, when the connection begins.
pub fn inbound(scope: &Scope<'_>, cluster: String, rules: &authorization_policy::Rules) -> Vec<Filter> {
    let mut filters: Vec<Filter> = rules.deny.iter().chain(&rules.allow).map(|it| rbac(scope, it)).collect();
    filters.extend(counted(scope, WorkloadMode::Server));
    filters.push(forward(scope, WorkloadMode::Server, cluster, None));
    filters
}

/// To a Service; how long a silent connection stays is its DestinationRule's matter.
pub fn outbound(scope: &Scope<'_>, cluster: String, settings: Option<&TcpSettings>) -> Vec<Filter> {
    let forward = forward(scope, WorkloadMode::Client, cluster, settings);
    counted(scope, WorkloadMode::Client).into_iter().chain([forward]).collect()
}

/// Istio's metrics of connections.
fn counted(scope: &Scope<'_>, side: WorkloadMode) -> Option<Filter> {
    stats::stats(scope, side).map(|it| filter("istio.stats", protos::any::pack(&it)))
}

fn forward(scope: &Scope<'_>, side: WorkloadMode, cluster: String, settings: Option<&TcpSettings>) -> Filter {
    let config = TcpProxy {
        stat_prefix: cluster.clone(),
        idle_timeout: settings.and_then(|it| it.idle_timeout).map(values::duration),
        max_downstream_connection_duration: settings
            .and_then(|it| it.max_connection_duration)
            .map(values::duration),
        access_log: access_log::access_logs(scope, side, Traffic::Tcp),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster)),
        ..Default::default()
    };
    filter("envoy.filters.network.tcp_proxy", protos::any::pack(&config))
}

fn rbac(scope: &Scope<'_>, rules: &Rules) -> Filter {
    // `tulle-proxy` has one set of counters.
    let stat_prefix = if scope.is_tulle() { String::new() } else { RBAC_PREFIX.to_owned() };
    let config = Rbac { rules: Some(rules.clone()), stat_prefix, ..Default::default() };
    filter("envoy.filters.network.rbac", canonical::pack(&config))
}

/// A network filter with this configuration.
pub fn filter(name: &str, config: protos::Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}
