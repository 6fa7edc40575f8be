//! Clusters: round robin (gRFC A27), one transport (A29), a limit of requests (A32).

use api::Resource;
use api::kinds::destination_rule::{ClientTlsMode, Subset};
use api::kinds::load_balancer::SimpleLb;
use api::kinds::service::{Service, ServicePort};
use protos::envoy::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, LbPolicy},
};

use super::{load_assignment::speaks_mutual_tls, targets, tls};
use crate::kinds::{destination_rule, service};
use crate::merge::{self, ClusterPolicy};
use crate::note::About;
use crate::scope::Scope;
use crate::xds::cluster::server_identities;
use crate::xds::load_assignment;
use crate::{names, values};

/// How a cluster is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As its endpoints say: mutual TLS, or plain text where none of them speaks it.
    Automatic(bool),
    /// As a DestinationRule says: mutual TLS of the mesh, or plain text.
    Written(bool),
    /// As gRPC cannot.
    Impossible,
}

/// Names of the clusters of a Service port: the whole, and each subset.
pub fn names(scope: &Scope<'_>, it: &Resource<Service>, port: &ServicePort) -> Vec<String> {
    let host = service::fqdn(it);
    let rule = scope.destination_rule(&host);
    let subsets = rule.subsets.iter().map(|subset| subset.name.as_str());
    [""].into_iter()
        .chain(subsets)
        .map(|it| names::outbound_cluster(u32::from(port.port), it, &host))
        .collect()
}

/// Every cluster that the client may call.
pub fn all(scope: &Scope<'_>, about: &mut About<'_>) -> Vec<Cluster> {
    let names: Vec<String> = targets(scope).flat_map(|(it, port)| names(scope, it, port)).collect();
    names.iter().filter_map(|name| by_name(scope, name, about)).collect()
}

/// What a cluster's name stands for, if the client may call it.
struct Found<'w> {
    service: &'w Resource<Service>,
    port: &'w ServicePort,
    host: String,
    subset: Option<&'w Subset>,
    policy: ClusterPolicy<'w>,
}

fn find<'w>(scope: &Scope<'w>, name: &str) -> Option<Found<'w>> {
    let (number, subset, host) = names::parse_outbound_cluster(name)?;
    let service = scope.service(host)?;
    let port = service::port(&service.spec, number).filter(|port| service::protocol(port).is_http())?;
    let rule = scope.destination_rule(host);
    let subset = if subset.is_empty() { None } else { Some(rule.subset(subset)?) };
    let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
    let policy = merge::cluster_policy(rule.traffic_policy, own, number);
    Some(Found { service, port, host: host.to_owned(), subset, policy })
}

/// How the cluster with this name is called, if the client may call it.
pub fn transport(scope: &Scope<'_>, name: &str) -> Option<Transport> {
    find(scope, name).map(|found| found.transport(scope, name))
}

impl Found<'_> {
    fn transport(&self, scope: &Scope<'_>, name: &str) -> Transport {
        match self.policy.tls.map(|settings| settings.mode) {
            Some(ClientTlsMode::Disable) => Transport::Written(false),
            Some(ClientTlsMode::IstioMutual) => Transport::Written(true),
            Some(ClientTlsMode::Simple | ClientTlsMode::Mutual) => Transport::Impossible,
            None if !scope.world.mesh().enable_auto_mtls() => Transport::Automatic(false),
            None => {
                let assignment = load_assignment::by_name(scope, name).unwrap_or_default();
                let mut endpoints =
                    assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints).peekable();
                // Nobody there yet: who joins the mesh speaks mutual TLS.
                Transport::Automatic(endpoints.peek().is_none() || endpoints.any(speaks_mutual_tls))
            }
        }
    }
}

/// The cluster with this name, if the client may call it. One that gRPC cannot call as its rule says is not there:
/// calls fail, and go nowhere else.
pub fn by_name(scope: &Scope<'_>, name: &str, about: &mut About<'_>) -> Option<Cluster> {
    let found = find(scope, name)?;
    let transport_socket = match found.transport(scope, name) {
        Transport::Impossible => {
            let reason = "gRPC takes certificates from its bootstrap only, not from tls.mode SIMPLE or MUTUAL: calls fail";
            about.warning(name, reason);
            return None;
        }
        Transport::Automatic(false) | Transport::Written(false) => None,
        Transport::Automatic(true) | Transport::Written(true) => {
            let written =
                found.policy.tls.map(|settings| settings.subject_alt_names.as_slice()).unwrap_or_default();
            let identities = match written {
                [] => server_identities(scope, found.service, found.port),
                written => written.iter().map(values::exact).collect(),
            };
            let subset = found.subset.map_or("", |subset| subset.name.as_str());
            let sni = found.policy.tls.map(|settings| settings.sni.clone()).filter(|sni| !sni.is_empty());
            let own = || names::sni(u32::from(found.port.port), subset, &found.host);
            Some(tls::upstream(sni.unwrap_or_else(own), identities))
        }
    };
    policy_notes(&found.policy, name, about);
    Some(Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(values::ads(true)),
            service_name: name.to_owned(),
        }),
        lb_policy: LbPolicy::RoundRobin as i32,
        circuit_breakers: Some(destination_rule::circuit_breakers(found.policy.connection_pool, None)),
        transport_socket,
        ..Default::default()
    })
}

/// Says which parts of a policy gRPC does not know.
fn policy_notes(policy: &ClusterPolicy<'_>, name: &str, about: &mut About<'_>) {
    let simple = policy.load_balancer.and_then(|balancer| balancer.simple);
    if !matches!(simple, None | Some(SimpleLb::RoundRobin | SimpleLb::Unspecified)) {
        about.info(format!("{name} loadBalancer"), "not every gRPC library knows it; ROUND_ROBIN is used");
    }
    if policy.load_balancer.is_some_and(|balancer| balancer.consistent_hash.is_some()) {
        about
            .info(format!("{name} loadBalancer"), "consistent hashing does not act yet; ROUND_ROBIN is used");
    }
    if policy.outlier_detection.is_some() {
        about.info(
            format!("{name} outlierDetection"),
            "gRPC ejects by success rate and not by consecutive errors: nothing is ejected",
        );
    }
    let Some(pool) = policy.connection_pool else { return };
    let mut written = pool.http.clone().unwrap_or_default();
    written.http2_max_requests = 0;
    if pool.tcp.is_some() || written != Default::default() {
        about.info(format!("{name} connectionPool"), "gRPC knows http2MaxRequests only");
    }
}
