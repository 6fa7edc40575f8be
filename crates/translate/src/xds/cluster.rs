//! Clusters: one per port and subset of every visible Service, and one per own port to the app.

use std::collections::BTreeSet;

use api::Resource;
use api::kinds::destination_rule::{ClientTlsMode, Subset};
use api::kinds::service::{Service, ServicePort};
use protos::envoy::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig, TransportSocketMatch},
};
use protos::envoy::envoy::config::core::v3::Metadata;
use protos::envoy::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use protos::envoy::envoy::r#type::matcher::v3::StringMatcher;
use protos::envoy::google::protobuf::Struct;

use crate::kinds::service::Protocol;
use crate::kinds::{destination_rule, service, workload_entry};
use crate::merge::{self, MergedRule};
use crate::scope::Scope;
use crate::xds::header_limits::{FROM_APPS, FROM_PEERS};
use crate::xds::{listener, transport_socket, upstream_http};
use crate::{names, values};

/// Key of an endpoint's metadata that says how it wants to be called, and the value for mutual TLS.
pub const TLS_MODE: (&str, &str) = ("tlsMode", "istio");

/// All clusters of the proxy.
pub fn clusters(scope: &Scope<'_>) -> Vec<Cluster> {
    let mut all = inbound(scope);
    for it in scope.services() {
        let host = service::fqdn(it);
        let rule = scope.destination_rule(&host);
        for port in it.spec.ports.iter().filter(|port| service::protocol(port).is_proxied()) {
            let subsets = rule.subsets.iter().copied().map(Some);
            let made = |subset| outbound(scope, it, port, &host, &rule, subset);
            all.extend([None].into_iter().chain(subsets).filter_map(made));
        }
    }
    all
}

/// The cluster with this name, if the proxy may use it.
pub fn by_name(scope: &Scope<'_>, name: &str) -> Option<Cluster> {
    let Some((number, subset, host)) = names::parse_outbound_cluster(name) else {
        return inbound(scope).into_iter().find(|cluster| cluster.name == name);
    };
    let service = scope.service(host)?;
    let port = service::port(&service.spec, number).filter(|port| service::protocol(port).is_proxied())?;
    let rule = scope.destination_rule(host);
    let subset = if subset.is_empty() { None } else { Some(rule.subset(subset)?) };
    outbound(scope, service, port, host, &rule, subset)
}

/// `None` where a DestinationRule asks for TLS that cannot be spoken: calls are answered 503, never sent otherwise.
fn outbound(
    scope: &Scope<'_>,
    service: &Resource<Service>,
    port: &ServicePort,
    host: &str,
    rule: &MergedRule<'_>,
    subset: Option<&Subset>,
) -> Option<Cluster> {
    let subset_name = subset.map_or("", |subset| subset.name.as_str());
    let name = names::outbound_cluster(u32::from(port.port), subset_name, host);
    let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
    let policy = merge::cluster_policy(rule.traffic_policy, own, port.port);
    if policy.tls.and_then(|tls| transport_socket::explicit_defect(tls, scope.is_tulle())).is_some() {
        return None;
    }
    let mut cluster = Cluster {
        name: name.clone(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(values::ads(scope.is_tulle())),
            service_name: name,
        }),
        metadata: Some(metadata(service, host, subset_name, port.port)),
        ..Default::default()
    };
    destination_rule::apply(&policy, scope, &mut cluster);
    let protocol = service::protocol(port);
    let pool = policy.connection_pool;
    // Istio's ALPN filter, by which a caller would say what it found out, is in no Envoy but Istio's own.
    let undetected = protocol == Protocol::Unknown && !scope.is_tulle();
    let declared = if undetected { Protocol::Http } else { protocol };
    let spoken = protocol.is_http().then(|| upstream_http::upstream(declared, pool, scope.world.mesh()));
    if let Some(spoken) = spoken {
        let common = FROM_PEERS.limit_responses(destination_rule::http_options(pool));
        let (key, options) = upstream_http::options(spoken, common, pool, policy.outlier_detection);
        cluster.typed_extension_protocol_options.insert(key, options);
    }

    let sni = names::sni(u32::from(port.port), subset_name, host);
    let mesh = scope.world.mesh();
    match policy.tls {
        Some(settings) if settings.mode == ClientTlsMode::Disable => {}
        Some(settings) => {
            let identities = server_identities(scope, service, port);
            cluster.transport_socket =
                transport_socket::upstream_explicit(scope, spoken, settings, sni, identities);
        }
        None if mesh.enable_auto_mtls() => {
            let identities = server_identities(scope, service, port);
            cluster.transport_socket_matches = vec![
                TransportSocketMatch {
                    name: "tlsMode-istio".to_owned(),
                    r#match: Some(values::struct_of([(TLS_MODE.0, values::text(TLS_MODE.1))])),
                    transport_socket: Some(transport_socket::upstream_mesh(scope, spoken, sni, identities)),
                },
                TransportSocketMatch {
                    name: "tlsMode-disabled".to_owned(),
                    r#match: Some(Struct::default()),
                    transport_socket: Some(transport_socket::raw_buffer()),
                },
            ];
        }
        None => {}
    }
    Some(cluster)
}

/// The identities that servers of a Service may show: those of its workloads. A Service without any gets those of its
/// namespace, so that a server that joins later is not called under a foreign identity.
pub fn server_identities(
    scope: &Scope<'_>,
    it: &Resource<Service>,
    port: &ServicePort,
) -> Vec<StringMatcher> {
    let mesh = scope.world.mesh();
    let namespace = it.meta.namespace.as_str();
    let reachable =
        service::workloads(scope.world, it).filter(|entry| service::target_port(port, &entry.spec).is_some());
    let accounts: BTreeSet<&str> =
        reachable.filter_map(|entry| workload_entry::service_account(entry)).collect();
    let aliases = mesh.trust_domain_aliases.iter().map(String::as_str);
    let domains: Vec<&str> = std::iter::once(mesh.trust_domain()).chain(aliases).collect();
    let base = |domain: &str| format!("spiffe://{domain}/ns/{namespace}/sa/");
    if accounts.is_empty() {
        return domains.iter().map(|domain| values::prefix(base(domain))).collect();
    }
    let names = accounts.iter().flat_map(|account| domains.iter().map(move |domain| (account, domain)));
    names.map(|(account, domain)| values::exact(format!("{}{account}", base(domain)))).collect()
}

fn metadata(service: &Resource<Service>, host: &str, subset: &str, port: u16) -> Metadata {
    let entry = values::struct_of([
        ("host", values::text(host)),
        ("name", values::text(&service.meta.name)),
        ("namespace", values::text(&service.meta.namespace)),
    ]);
    let mut fields = vec![
        ("services", values::list(vec![values::structure(entry)])),
        ("default_original_port", values::float(f64::from(port))),
    ];
    if !subset.is_empty() {
        fields.push(("subset", values::text(subset)));
    }
    values::metadata([("istio", values::struct_of(fields))])
}

/// One cluster per own port, to the app beside the proxy.
fn inbound(scope: &Scope<'_>) -> Vec<Cluster> {
    let mut all: Vec<Cluster> = Vec::new();
    for ((_, target), (it, service_port)) in listener::own_ports(scope) {
        let name = names::inbound_cluster(target);
        if all.iter().any(|cluster| cluster.name == name) {
            continue;
        }
        let endpoint = Endpoint {
            address: Some(values::socket_address(scope.node.app_address, target)),
            ..Default::default()
        };
        let endpoint =
            LbEndpoint { host_identifier: Some(HostIdentifier::Endpoint(endpoint)), ..Default::default() };
        let group = LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() };
        let protocol = service::protocol(service_port);
        // What the app speaks is what its port declares, whatever callers and policies do.
        let spoken = upstream_http::to_app(protocol);
        let options = protocol
            .is_http()
            .then(|| upstream_http::options(spoken, FROM_APPS.limit_responses(None), None, None));
        all.push(Cluster {
            name: name.clone(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32)),
            connect_timeout: Some(values::duration(scope.world.mesh().connect_timeout())),
            load_assignment: Some(ClusterLoadAssignment {
                cluster_name: name,
                endpoints: vec![group],
                ..Default::default()
            }),
            typed_extension_protocol_options: options.into_iter().collect(),
            metadata: Some(metadata(it, &service::fqdn(it), "", service_port.port)),
            ..Default::default()
        });
    }
    all
}
