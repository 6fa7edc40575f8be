//! Listeners of a proxy without redirection: its own ports inbound, Service addresses and the HTTP proxy outbound.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::Resource;
use api::kinds::peer_authentication::MutualTlsMode;
use api::kinds::service::Service;
use protos::Any;
use protos::envoy::envoy::config::core::v3::TrafficDirection;
use protos::envoy::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, filter, listener_filter,
};
use protos::envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

use crate::kinds::{authorization_policy, service};
use crate::merge;
use crate::names;
use crate::note::About;
use crate::scope::Scope;
use crate::values;
use crate::xds::{http_connection_manager, route_configuration, transport_socket};

/// An own port of the workload: the Services that lead to it, the first by name first, and the Service port of each.
pub type OwnPorts<'w> = BTreeMap<(IpAddr, u16), (&'w Arc<Resource<Service>>, u16)>;

/// The own ports behind HTTP ports of the workload's Services.
pub fn own_ports<'w>(scope: &Scope<'w>) -> OwnPorts<'w> {
    let mut ports = BTreeMap::new();
    for service in scope.own_services() {
        for port in service.spec.ports.iter().filter(|port| service::protocol(port).is_http()) {
            for instance in &scope.instances {
                if let Some(target) = service::target_port(port, &instance.entry.spec) {
                    ports.entry((instance.address, target)).or_insert((service, port.port));
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
            "no Service with an HTTP port selects the workload, so nothing can call it through its proxy";
        about.info("node.metadata.LABELS", reason);
    }
    let rules = authorization_policy::rules(scope);
    for ((address, port), (service, _)) in &own {
        all.push(inbound(scope, *address, *port, service, &rules));
    }
    for ((address, port), service) in service_addresses(scope) {
        if own.contains_key(&(address, port)) {
            let reason = format!(
                "{address}:{port} is also an address of Service {}; calls to it stay local",
                service::fqdn(service)
            );
            about.warning("node.metadata.INSTANCE_IPS", reason);
            continue;
        }
        all.push(outbound(scope, address, port, &port.to_string()));
    }
    if let Some((port, instance)) = scope.world.mesh().proxy_http_port().zip(scope.instances.first()) {
        if own.contains_key(&(instance.address, port)) {
            let reason =
                format!("port {port} is the workload's own, so it gets no HTTP proxy; change MeshConfig");
            about.warning("meshConfig.proxyHttpPort", reason);
        } else {
            all.push(outbound(scope, instance.address, port, names::HTTP_PROXY_ROUTE));
        }
    }
    all
}

/// The addresses of visible Services on which this proxy listens.
fn service_addresses<'w>(scope: &Scope<'w>) -> BTreeMap<(IpAddr, u16), &'w Arc<Resource<Service>>> {
    let mut found = BTreeMap::new();
    if !scope.node.bind_vips {
        return found;
    }
    for service in scope.services() {
        for address in service::loopback_addresses(&service.spec) {
            for port in service.spec.ports.iter().filter(|port| service::protocol(port).is_http()) {
                found.entry((address, port.port)).or_insert(service);
            }
        }
    }
    found
}

fn inbound(
    scope: &Scope<'_>,
    address: IpAddr,
    port: u16,
    service: &Resource<Service>,
    rules: &authorization_policy::Rules,
) -> Listener {
    let routes = route_configuration::inbound(scope, service, port);
    let manager = http_connection_manager::inbound(scope, routes, rules);
    let chain = |name: String, transport: &str, tls: bool| FilterChain {
        name,
        filter_chain_match: (!transport.is_empty())
            .then(|| FilterChainMatch { transport_protocol: transport.to_owned(), ..Default::default() }),
        filters: vec![manager_filter(manager.clone())],
        transport_socket: tls.then(|| transport_socket::downstream(scope)),
        ..Default::default()
    };
    let name = format!("{address}_{port}");
    let mut listener = bound(address, port, &name, TrafficDirection::Inbound);
    match merge::mutual_tls_mode(scope.world, scope.namespace(), &scope.labels, port) {
        MutualTlsMode::Strict => listener.filter_chains = vec![chain(format!("{name}_tls"), "", true)],
        MutualTlsMode::Disable => listener.filter_chains = vec![chain(format!("{name}_plain"), "", false)],
        MutualTlsMode::Permissive | MutualTlsMode::Unset => {
            let config = protos::any::pack(&TlsInspector::default());
            listener.listener_filters = vec![ListenerFilter {
                name: "envoy.filters.listener.tls_inspector".to_owned(),
                config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
                ..Default::default()
            }];
            listener.filter_chains = vec![
                chain(format!("{name}_tls"), "tls", true),
                chain(format!("{name}_plain"), "raw_buffer", false),
            ];
        }
    }
    listener
}

fn outbound(scope: &Scope<'_>, address: IpAddr, port: u16, route_name: &str) -> Listener {
    let name = format!("{address}_{port}");
    let manager = http_connection_manager::outbound(scope, format!("outbound_{name}"), route_name);
    Listener {
        filter_chains: vec![FilterChain { filters: vec![manager_filter(manager)], ..Default::default() }],
        ..bound(address, port, &name, TrafficDirection::Outbound)
    }
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

fn manager_filter(config: Any) -> Filter {
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(config)),
    }
}
