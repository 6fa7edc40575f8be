//! Endpoints of a cluster.

use std::collections::BTreeMap;

use api::Resource;
use api::kinds::destination_rule::Subset;
use api::kinds::peer_authentication::MutualTlsMode;
use api::kinds::service::{Service, ServicePort};
use api::kinds::workload_entry::WorkloadEntry;
use protos::envoy::envoy::config::core::v3::Locality;
use protos::envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};

use crate::kinds::{service, workload_entry};
use crate::merge;
use crate::scope::Scope;
use crate::xds::cluster::TLS_MODE;
use crate::{names, values};

/// Names of all assignments that the proxy's clusters ask for.
pub fn names(scope: &Scope<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for it in scope.services() {
        let host = service::fqdn(it);
        let rule = scope.destination_rule(&host);
        for port in it.spec.ports.iter().filter(|port| service::protocol(port).is_proxied()) {
            let subsets = rule.subsets.iter().map(|subset| subset.name.as_str());
            all.extend(
                [""].into_iter()
                    .chain(subsets)
                    .map(|it| names::outbound_cluster(u32::from(port.port), it, &host)),
            );
        }
    }
    all
}

/// The endpoints of the cluster with this name, if the proxy may use it. An empty list says that there are none.
pub fn by_name(scope: &Scope<'_>, name: &str) -> Option<ClusterLoadAssignment> {
    let (number, subset, host) = names::parse_outbound_cluster(name)?;
    let it = scope.service(host)?;
    let port = service::port(&it.spec, number).filter(|port| service::protocol(port).is_proxied())?;
    let subset = if subset.is_empty() { None } else { Some(scope.destination_rule(host).subset(subset)?) };
    Some(ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: endpoints(scope, it, port, subset),
        ..Default::default()
    })
}

fn endpoints(
    scope: &Scope<'_>,
    it: &Resource<Service>,
    port: &ServicePort,
    subset: Option<&Subset>,
) -> Vec<LocalityLbEndpoints> {
    let mut groups: BTreeMap<(String, String, String), Vec<LbEndpoint>> = BTreeMap::new();
    for entry in service::workloads(scope.world, it) {
        if !subset.is_none_or(|subset| workload_entry::has_labels(entry, &subset.labels)) {
            continue;
        }
        if let Some(endpoint) = endpoint(scope, entry, port) {
            groups.entry(workload_entry::locality(entry)).or_default().push(endpoint);
        }
    }
    let group = |((region, zone, sub_zone), lb_endpoints): (_, Vec<LbEndpoint>)| {
        let weights =
            lb_endpoints.iter().filter_map(|it| it.load_balancing_weight.map(|weight| weight.value));
        let weight = weights.fold(0u32, u32::saturating_add);
        let locality = Locality { region, zone, sub_zone };
        LocalityLbEndpoints {
            locality: (locality != Locality::default()).then_some(locality),
            lb_endpoints,
            load_balancing_weight: values::number(weight),
            ..Default::default()
        }
    };
    groups.into_iter().map(group).collect()
}

fn endpoint(scope: &Scope<'_>, entry: &Resource<WorkloadEntry>, port: &ServicePort) -> Option<LbEndpoint> {
    let address = workload_entry::address(&entry.spec)?;
    let target = service::target_port(port, &entry.spec)?;
    let namespace = entry.meta.namespace.as_str();
    let labels = workload_entry::labels(entry);
    let (name, revision) = workload_entry::canonical(&labels, &entry.meta.name);
    let workload = format!("{};{namespace};{name};{revision};{}", entry.meta.name, scope.node.cluster_id);
    let mut metadata = vec![("istio", values::struct_of([("workload", values::text(&workload))]))];
    let mode = merge::mutual_tls_mode(scope.world, namespace, &labels, target);
    if workload_entry::speaks_mutual_tls(entry) && mode != MutualTlsMode::Disable {
        let fields = values::struct_of([(TLS_MODE.0, values::text(TLS_MODE.1))]);
        metadata.push(("envoy.transport_socket_match", fields));
    }
    let endpoint = Endpoint { address: Some(values::socket_address(address, target)), ..Default::default() };
    Some(LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(endpoint)),
        metadata: Some(values::metadata(metadata)),
        load_balancing_weight: values::number(workload_entry::weight(&entry.spec)),
        ..Default::default()
    })
}
