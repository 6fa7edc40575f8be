//! Listeners of a proxy without redirection: its own ports inbound, Service addresses and the HTTP proxy outbound.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Resource;
use api::kinds::service::{Service, ServicePort};
use protos::envoy::envoy::config::core::v3::TrafficDirection;
use protos::envoy::envoy::config::listener::v3::{FilterChain, Listener};

use crate::kinds::authorization_policy::{self, Rules};
use crate::kinds::service::{self, Protocol};
use crate::note::About;
use crate::scope::Scope;
use crate::xds::{detection, http_connection_manager, inbound_chains, tcp_proxy};
use crate::{merge, names, values};

/// An own port of the workload: the Services that lead to it, the first by name first, and the port of each.
pub type OwnPorts<'w> = BTreeMap<(IpAddr, u16), (&'w Arc<Resource<Service>>, &'w ServicePort)>;

/// The own ports behind the ports of the workload's Services.
pub fn own_ports<'w>(scope: &Scope<'w>) -> OwnPorts<'w> {
    let mut ports = BTreeMap::new();
    for service in scope.own_services() {
        for port in service.spec.ports.iter().filter(|port| service::protocol(port).is_proxied()) {
            for instance in &scope.instances {
                if let Some(target) = service::target_port(port, &instance.entry.spec) {
                    ports.entry((instance.address, target)).or_insert((service, port));
                }
            }
        }
    }
    ports
}

/// All listeners of the proxy.
pub fn listeners(scope: &Scope<'_>, about: &mut About<'_>) -> Vec<Listener> {
    let mut all = Vec::new();
    let own = own_ports(scope);
    if own.is_empty() {
        let reason =
            "no Service with a TCP port selects the workload, so nothing can call it through its proxy";
        about.info("node.metadata.LABELS", reason);
    }
    let (requests, connections) =
        (authorization_policy::rules(scope), authorization_policy::connection_rules(scope));
    for ((address, port), (service, service_port)) in &own {
        let target =
            inbound_chains::Target { service, port: *port, protocol: service::protocol(service_port) };
        all.push(inbound(scope, *address, &target, (&requests, &connections)));
    }
    for ((address, number), (service, port)) in service_addresses(scope) {
        if own.contains_key(&(address, number)) {
            let reason = format!(
                "{address}:{number} is also an address of Service {}; calls to it stay local",
                service::fqdn(service)
            );
            about.warning("node.metadata.INSTANCE_IPS", reason);
            continue;
        }
        all.push(match service::protocol(port) {
            Protocol::Unknown if scope.is_tulle() => outbound_undeclared(scope, address, service, port),
            Protocol::Http | Protocol::Http2 | Protocol::Unknown => {
                outbound_http(scope, address, number, &number.to_string())
            }
            Protocol::Tcp | Protocol::Datagram => outbound_tcp(scope, address, service, port),
        });
    }
    if let Some((port, instance)) = scope.world.mesh().proxy_http_port().zip(scope.instances.first()) {
        if own.contains_key(&(instance.address, port)) {
            let reason =
                format!("port {port} is the workload's own, so it gets no HTTP proxy; change MeshConfig");
            about.warning("meshConfig.proxyHttpPort", reason);
        } else {
            all.push(outbound_http(scope, instance.address, port, names::HTTP_PROXY_ROUTE));
        }
    }
    all
}

/// The addresses of visible Services on which this proxy listens.
fn service_addresses<'w>(scope: &Scope<'w>) -> OwnPorts<'w> {
    let mut found = BTreeMap::new();
    if !scope.node.bind_vips {
        return found;
    }
    for service in scope.services() {
        for address in service::loopback_addresses(&service.spec) {
            for port in service.spec.ports.iter().filter(|port| service::protocol(port).is_proxied()) {
                found.entry((address, port.port)).or_insert((service, port));
            }
        }
    }
    found
}

fn inbound(
    scope: &Scope<'_>,
    address: IpAddr,
    target: &inbound_chains::Target<'_>,
    (requests, connections): (&Rules, &Rules),
) -> Listener {
    let name = format!("{address}_{}", target.port);
    let mode = merge::mutual_tls_mode(scope.world, scope.namespace(), &scope.labels, target.port);
    let mut listener = bound(address, target.port, &name, TrafficDirection::Inbound);
    inbound_chains::fill(&mut listener, scope, target, mode, (requests, connections));
    listener
}

fn outbound_http(scope: &Scope<'_>, address: IpAddr, port: u16, route_name: &str) -> Listener {
    let name = format!("{address}_{port}");
    let manager = http_connection_manager::outbound(scope, format!("outbound_{name}"), route_name);
    let filters = vec![tcp_proxy::filter(http_connection_manager::NAME, manager)];
    Listener {
        filter_chains: vec![FilterChain { filters, ..Default::default() }],
        ..bound(address, port, &name, TrafficDirection::Outbound)
    }
}

fn outbound_tcp(
    scope: &Scope<'_>,
    address: IpAddr,
    service: &Resource<Service>,
    port: &ServicePort,
) -> Listener {
    let host = service::fqdn(service);
    let rule = scope.destination_rule(&host);
    let policy = merge::cluster_policy(rule.traffic_policy, None, port.port);
    let settings = policy.connection_pool.and_then(|pool| pool.tcp.as_ref());
    let cluster = names::outbound_cluster(u32::from(port.port), "", &host);
    let filters = tcp_proxy::outbound(scope, cluster, settings);
    let name = format!("{address}_{}", port.port);
    Listener {
        filter_chains: vec![FilterChain { filters, ..Default::default() }],
        ..bound(address, port.port, &name, TrafficDirection::Outbound)
    }
}

/// Requests are routed, anything else is passed on as it is.
fn outbound_undeclared(
    scope: &Scope<'_>,
    address: IpAddr,
    service: &Resource<Service>,
    port: &ServicePort,
) -> Listener {
    let mut listener = outbound_tcp(scope, address, service, port);
    let requests = outbound_http(scope, address, port.port, &port.port.to_string());
    let requests = requests.filter_chains.into_iter().map(|chain| FilterChain {
        name: format!("{}_http", listener.name),
        filter_chain_match: inbound_chains::condition("raw_buffer", &inbound_chains::HTTP),
        ..chain
    });
    // Not one of the chains: who has matched the transport is not looked for among chains without one.
    listener.default_filter_chain = listener.filter_chains.pop();
    listener.filter_chains = requests.collect();
    listener.listener_filters = vec![detection::tls_inspector(), detection::http_inspector()];
    detection::limit(&mut listener, scope);
    listener
}

fn bound(address: IpAddr, port: u16, name: &str, direction: TrafficDirection) -> Listener {
    Listener {
        name: name.to_owned(),
        address: Some(values::socket_address(address, port)),
        traffic_direction: direction as i32,
        bind_to_port: values::boolean(true),
        ..Default::default()
    }
}
