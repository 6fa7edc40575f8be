//! Which resources a resource needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use config::model::{
    Cluster, ClusterSpecifier, Discovery, FilterChain, HttpConnectionManager, Listener, NetworkFilter,
    RouteAction, RouteConfiguration, RouteSource, TcpCluster,
};

/// A set of resource names.
pub type Names = BTreeSet<Arc<str>>;

/// Clusters that the routes of a configuration forward to.
pub fn clusters_of_routes(routes: &RouteConfiguration, names: &mut Names) {
    for route in routes.virtual_hosts.iter().flat_map(|host| &host.routes) {
        let RouteAction::Forward(forward) = &route.action else { continue };
        match &forward.cluster {
            ClusterSpecifier::Cluster(name) => {
                names.insert(name.clone());
            }
            ClusterSpecifier::Weighted(weighted) => {
                names.extend(weighted.clusters.iter().map(|cluster| cluster.name.clone()));
            }
            // The request names it.
            ClusterSpecifier::Header(_) => {}
        }
    }
}

/// Clusters that a listener names itself: in routes written in it, and for bytes.
pub fn clusters_of_listener(listener: &Listener, names: &mut Names) {
    for filter in filters(listener) {
        match filter {
            NetworkFilter::Tcp(proxy) => match &proxy.cluster {
                TcpCluster::One(name) => {
                    names.insert(name.clone());
                }
                TcpCluster::Weighted { clusters, .. } => {
                    names.extend(clusters.iter().map(|(name, _)| name.clone()))
                }
            },
            NetworkFilter::Http(manager) => {
                if let RouteSource::Inline(routes) = &manager.route {
                    clusters_of_routes(routes, names);
                }
            }
            NetworkFilter::Rbac(_) | NetworkFilter::Stats(_) => {}
        }
    }
}

/// Route configurations that a listener takes by name.
pub fn routes_of_listener(listener: &Listener, names: &mut Names) {
    names.extend(http_managers(listener).filter_map(|manager| match &manager.route {
        RouteSource::Rds { name } => Some(name.clone()),
        RouteSource::Inline(_) => None,
    }));
}

/// The load assignment that a cluster takes by name.
pub fn assignment_of_cluster(cluster: &Cluster) -> Option<&Arc<str>> {
    match &cluster.discovery {
        Discovery::Eds { service_name } => Some(service_name),
        _ => None,
    }
}

/// Every connection manager of a listener.
pub fn http_managers(listener: &Listener) -> impl Iterator<Item = &Arc<HttpConnectionManager>> {
    filters(listener).filter_map(|filter| match filter {
        NetworkFilter::Http(manager) => Some(manager),
        _ => None,
    })
}

fn filters(listener: &Listener) -> impl Iterator<Item = &NetworkFilter> {
    chains(listener).flat_map(|chain| &chain.filters)
}

/// Every chain of a listener, the default one last.
pub fn chains(listener: &Listener) -> impl Iterator<Item = &FilterChain> {
    listener.filter_chains.iter().chain(listener.default_filter_chain.as_deref())
}
