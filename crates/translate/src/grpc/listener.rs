//! Listeners: of a client one by `host:port` that leads to routes (gRFC A27), of a server one by the address it listens
//! on, with TLS and policies (gRFCs A29, A36, A41).

use std::net::SocketAddr;

use api::Resource;
use api::kinds::peer_authentication::MutualTlsMode;
use api::kinds::service::Service;
use protos::Any;
use protos::envoy::envoy::config::listener::v3::{ApiListener, Filter, FilterChain, Listener, filter};
use protos::envoy::envoy::config::route::v3::{
    NonForwardingAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route::Action,
    route_match::PathSpecifier,
};
use protos::envoy::envoy::extensions::filters::http::router::v3::Router;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, http_connection_manager as hcm,
};

use super::{target, targets, tls};
use crate::canonical;
use crate::kinds::{authorization_policy, service, workload_entry};
use crate::merge;
use crate::note::About;
use crate::scope::Scope;
use crate::xds::http_connection_manager::{NAME, filter, rbac};
use crate::xds::listener::{OwnPorts, own_ports};
use crate::{names, values};

/// What a server's listener is asked for by, as in Istio: the bootstrap's `server_listener_resource_name_template` is
/// this and `%s`.
pub const SERVER: &str = "xds.istio.io/grpc/lds/inbound/";

/// The listeners of every Service port that the client may call and of every own port.
pub fn all(scope: &Scope<'_>, about: &mut About<'_>) -> Vec<Listener> {
    let clients: Vec<String> =
        targets(scope).map(|(it, port)| format!("{}:{}", service::fqdn(it), port.port)).collect();
    let servers = http_ports(scope).into_keys().map(|at| format!("{SERVER}{}", SocketAddr::from(at)));
    clients.into_iter().chain(servers).filter_map(|name| by_name(scope, &name, about)).collect()
}

/// The own ports on which gRPC may be spoken.
fn http_ports<'w>(scope: &Scope<'w>) -> OwnPorts<'w> {
    let mut own = own_ports(scope);
    own.retain(|_, (_, port)| service::protocol(port).is_http());
    own
}

/// The listener with this name, if there is one for this workload.
pub fn by_name(scope: &Scope<'_>, name: &str, about: &mut About<'_>) -> Option<Listener> {
    match name.strip_prefix(SERVER) {
        Some(address) => server(scope, name, address.parse().ok()?, about),
        None => client(scope, name),
    }
}

fn client(scope: &Scope<'_>, name: &str) -> Option<Listener> {
    let (it, port) = target(scope, name)?;
    let route = names::outbound_cluster(u32::from(port.port), "", &service::fqdn(it));
    let rds = Rds { config_source: Some(values::ads(true)), route_config_name: route };
    let manager = manager(hcm::RouteSpecifier::Rds(rds), Vec::new());
    let api_listener = Some(ApiListener { api_listener: Some(manager) });
    Some(Listener { name: name.to_owned(), api_listener, ..Default::default() })
}

fn server(scope: &Scope<'_>, name: &str, at: SocketAddr, about: &mut About<'_>) -> Option<Listener> {
    let own = http_ports(scope);
    let meant = |(address, port): &(std::net::IpAddr, u16)| {
        *port == at.port() && (at.ip().is_unspecified() || *address == at.ip())
    };
    let Some((it, _)) = own.iter().find(|(key, _)| meant(key)).map(|(_, value)| *value) else {
        about.warning(
            name,
            "no Service with an HTTP or gRPC port leads to this address, so the server does not serve",
        );
        return None;
    };
    let rules = authorization_policy::rules(scope);
    let policies = rules.deny.iter().chain(&rules.allow).map(rbac).collect();
    let manager = manager(hcm::RouteSpecifier::RouteConfig(served(it, at.port())), policies);
    let chain = FilterChain {
        name: names::inbound_cluster(at.port()),
        filters: vec![Filter {
            name: NAME.to_owned(),
            config_type: Some(filter::ConfigType::TypedConfig(manager)),
        }],
        transport_socket: takes_mutual_tls(scope, name, at.port(), about).then(tls::downstream),
        ..Default::default()
    };
    Some(Listener {
        name: name.to_owned(),
        // gRPC serves only when this is the address it listens on.
        address: Some(values::socket_address(at.ip(), at.port())),
        filter_chains: vec![chain],
        ..Default::default()
    })
}

/// A gRPC server takes either mutual TLS or plain text. Where both are allowed it takes what callers in the mesh speak
/// to it.
fn takes_mutual_tls(scope: &Scope<'_>, name: &str, port: u16, about: &mut About<'_>) -> bool {
    match merge::mutual_tls_mode(scope.world, scope.namespace(), &scope.labels, port) {
        MutualTlsMode::Strict => true,
        MutualTlsMode::Disable => false,
        MutualTlsMode::Permissive | MutualTlsMode::Unset => {
            let mutual =
                scope.instances.iter().any(|instance| workload_entry::speaks_mutual_tls(&instance.entry));
            let taken = if mutual { "mutual TLS" } else { "plain text" };
            about.info(name, format!("PERMISSIVE: a gRPC server cannot take both, and takes {taken}"));
            mutual
        }
    }
}

fn manager(routes: hcm::RouteSpecifier, mut filters: Vec<HttpFilter>) -> Any {
    filters.push(filter("envoy.filters.http.router", protos::any::pack(&Router::default())));
    canonical::pack(&HttpConnectionManager {
        http_filters: filters,
        route_specifier: Some(routes),
        ..Default::default()
    })
}

/// Every call is for the server itself.
fn served(it: &Resource<Service>, port: u16) -> RouteConfiguration {
    let every = PathSpecifier::Prefix("/".to_owned());
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(RouteMatch { path_specifier: Some(every), ..Default::default() }),
        metadata: values::origin(&crate::world::origin(api::Kind::Service, &it.meta)),
        action: Some(Action::NonForwardingAction(NonForwardingAction {})),
        ..Default::default()
    };
    let host = VirtualHost {
        name: format!("inbound|http|{port}"),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    RouteConfiguration { name: names::inbound_cluster(port), virtual_hosts: vec![host], ..Default::default() }
}
