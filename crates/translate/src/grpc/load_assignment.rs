//! Endpoints: those that the cluster's one transport can call, each group with a locality.

use protos::envoy::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};

use super::{cluster, targets};
use crate::scope::Scope;
use crate::xds::load_assignment;

/// Those of every cluster that the client may call.
pub fn all(scope: &Scope<'_>) -> Vec<ClusterLoadAssignment> {
    let names = targets(scope).flat_map(|(it, port)| cluster::names(scope, it, port));
    names.filter_map(|name| by_name(scope, &name)).collect()
}

/// The endpoints of the cluster with this name. gRPC has one transport for a whole cluster: where some endpoints speak
/// mutual TLS, those that do not are left out.
pub fn by_name(scope: &Scope<'_>, name: &str) -> Option<ClusterLoadAssignment> {
    let mut assignment = load_assignment::by_name(scope, name)?;
    let mutual = cluster::transport(scope, name)? == cluster::Transport::Automatic(true);
    for group in &mut assignment.endpoints {
        group.locality.get_or_insert_default();
        if mutual {
            group.lb_endpoints.retain(speaks_mutual_tls);
        }
    }
    assignment.endpoints.retain(|group| !group.lb_endpoints.is_empty());
    Some(assignment)
}

/// Whether an endpoint is called with mutual TLS where nothing else is said.
pub fn speaks_mutual_tls(endpoint: &LbEndpoint) -> bool {
    let metadata = endpoint.metadata.as_ref();
    metadata.is_some_and(|it| it.filter_metadata.contains_key("envoy.transport_socket_match"))
}
