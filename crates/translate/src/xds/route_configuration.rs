//! Route configurations: virtual hosts with their domains, and the routes of each.

use std::collections::BTreeSet;

use api::kinds::service::Service;
use api::kinds::telemetry::WorkloadMode;
use api::{Kind, Resource};
use protos::envoy::envoy::config::route::v3::{
    Decorator, DirectResponseAction, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    route::Action, route_action::ClusterSpecifier, route_match::PathSpecifier,
};
use protos::envoy::google::protobuf::Duration;

use crate::kinds::{http_route, service, virtual_service};
use crate::merge;
use crate::scope::Scope;
use crate::world::origin;
use crate::xds::tracing;
use crate::{host, names, values};

/// Hosts outside the registry are routed on this port unless a Service of the same rule says another.
const DEFAULT_PORT: u16 = 80;
/// The largest body of `directResponse`, as in Istio.
const MAX_ANSWER_BYTES: u32 = 1 << 20;

/// The names of all route configurations that the proxy's listeners ask for.
pub fn names(scope: &Scope<'_>) -> BTreeSet<String> {
    let http_ports = |service: &Resource<Service>| {
        let ports = service.spec.ports.iter().filter(|port| service::protocol(port).is_http());
        ports.map(|port| port.port.to_string()).collect::<Vec<_>>()
    };
    let mut all: BTreeSet<String> = if scope.node.bind_vips {
        let reachable = scope.services().filter(|it| !service::loopback_addresses(&it.spec).is_empty());
        reachable.flat_map(|service| http_ports(service)).collect()
    } else {
        BTreeSet::new()
    };
    if scope.world.mesh().proxy_http_port().is_some() {
        all.insert(names::HTTP_PROXY_ROUTE.to_owned());
    }
    all
}

/// The route configuration with this name: a port, or `http_proxy`; `None` for any other name.
pub fn outbound(scope: &Scope<'_>, name: &str) -> Option<RouteConfiguration> {
    let only_port = match name {
        names::HTTP_PROXY_ROUTE => None,
        // The one way to write a port, so that a configuration has one name.
        port => Some(port.parse::<u16>().ok().filter(|number| number.to_string() == port)?),
    };
    let mut hosts = VirtualHosts {
        bare_port: only_port.unwrap_or(DEFAULT_PORT),
        decorated: !scope.is_tulle() || tracing::is_on(scope, WorkloadMode::Client),
        ..Default::default()
    };
    for service in scope.services() {
        for port in service.spec.ports.iter().filter(|port| service::protocol(port).is_http()) {
            if only_port.is_none_or(|only| only == port.port) {
                let fqdn = service::fqdn(service);
                let routes = service_routes(scope, service, &fqdn, port.port);
                hosts.add(&fqdn, &service_names(scope, service, &fqdn), port.port, routes);
            }
        }
    }
    for (name, port, routes) in foreign_hosts(scope, only_port) {
        hosts.add(&name, std::slice::from_ref(&name), port, routes);
    }
    if !hosts.taken.contains("*") {
        hosts.list.push(unknown_hosts());
    }
    Some(RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: hosts.list,
        validate_clusters: values::boolean(false),
        max_direct_response_body_size_bytes: values::number(MAX_ANSWER_BYTES),
        ..Default::default()
    })
}

/// Virtual hosts in the making; a domain belongs to the first that asks for it.
#[derive(Default)]
struct VirtualHosts {
    list: Vec<VirtualHost>,
    taken: BTreeSet<String>,
    /// The port that clients may leave out.
    bare_port: u16,
    /// Whether routes name the operation for traces, which `tulle-proxy` does not make.
    decorated: bool,
}

impl VirtualHosts {
    fn add(&mut self, name: &str, names: &[String], port: u16, mut routes: Vec<Route>) {
        let mut domains = Vec::new();
        for name in names {
            let bare = (port == self.bare_port).then(|| name.clone());
            let literal = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            for domain in bare.into_iter().chain([format!("{literal}:{port}")]) {
                // `*` alone is the catch-all, which has no port.
                if !domain.starts_with("*:") && self.taken.insert(domain.clone()) {
                    domains.push(domain);
                }
            }
        }
        if domains.is_empty() {
            return;
        }
        for route in routes.iter_mut().filter(|_| self.decorated) {
            route.decorator = Some(Decorator { operation: format!("{name}:{port}/*"), ..Default::default() });
        }
        self.list.push(VirtualHost {
            name: format!("{name}:{port}"),
            domains,
            routes,
            include_request_attempt_count: true,
            ..Default::default()
        });
    }
}

/// The virtual host of one Service port, with every name under which this client may call it.
pub fn service_host(scope: &Scope<'_>, service: &Resource<Service>, port: u16) -> Option<VirtualHost> {
    let mut hosts = VirtualHosts { bare_port: port, ..Default::default() };
    let fqdn = service::fqdn(service);
    let routes = service_routes(scope, service, &fqdn, port);
    hosts.add(&fqdn, &service_names(scope, service, &fqdn), port, routes);
    hosts.list.pop()
}

/// The names under which a client calls a Service: the full one, short ones as its namespace allows, the addresses.
fn service_names(scope: &Scope<'_>, service: &Resource<Service>, fqdn: &str) -> Vec<String> {
    let (name, namespace) = (&service.meta.name, &service.meta.namespace);
    let mut names = vec![fqdn.to_owned()];
    if namespace == scope.namespace() {
        names.push(name.clone());
    }
    names.push(format!("{name}.{namespace}.svc"));
    names.push(format!("{name}.{namespace}"));
    names.extend(service.spec.virtual_addresses().into_iter().map(str::to_owned));
    names
}

/// The routes of a Service port: those of the first VirtualService that has any for this client, else all to it.
fn service_routes(scope: &Scope<'_>, service: &Resource<Service>, fqdn: &str, port: u16) -> Vec<Route> {
    for candidate in merge::virtual_services(scope.world, scope.namespace(), fqdn) {
        let routes = virtual_service::routes(scope, candidate, port);
        if !routes.is_empty() {
            return routes;
        }
    }
    let cluster = names::outbound_cluster(u32::from(port), "", fqdn);
    let mut route = Route {
        name: "default".to_owned(),
        r#match: Some(every_request()),
        metadata: values::origin(&origin(Kind::Service, &service.meta)),
        action: Some(Action::Route(http_route::plain(cluster, scope))),
        ..Default::default()
    };
    http_route::mark_default_retries(&mut route, scope);
    vec![route]
}

/// Hosts of VirtualServices that are no Services, with the port they are routed on.
fn foreign_hosts(scope: &Scope<'_>, only_port: Option<u16>) -> Vec<(String, u16, Vec<Route>)> {
    let mut found = Vec::new();
    for (name, group) in scope.world.routes().iter() {
        // A wildcard that covers a Service routes that Service, and no host that nobody knows.
        let of_services =
            || name.starts_with('*') && scope.services().any(|it| host::covers(name, &service::fqdn(it)));
        if scope.world.service(name).is_some() || host::split_service_fqdn(name).is_some() || of_services() {
            continue;
        }
        let mut ports = BTreeSet::new();
        for route in group {
            let hosts = route.spec.hosts.iter().map(|it| host::expand(it, &route.meta.namespace));
            let services = hosts.filter_map(|it| scope.service(&it));
            ports.extend(services.flat_map(|service| service.spec.ports.iter().map(|port| port.port)));
        }
        if ports.is_empty() {
            ports.insert(DEFAULT_PORT);
        }
        for port in ports.into_iter().filter(|port| only_port.is_none_or(|only| only == *port)) {
            let candidates = merge::virtual_services(scope.world, scope.namespace(), name);
            let routes = candidates.into_iter().map(|it| virtual_service::routes(scope, it, port));
            if let Some(routes) = routes.into_iter().find(|routes| !routes.is_empty()) {
                found.push((name.to_owned(), port, routes));
            }
        }
    }
    found
}

/// What an unknown host gets. Without redirected traffic there is no original destination to pass a call to, so it is
/// refused whatever `outboundTrafficPolicy` says.
fn unknown_hosts() -> VirtualHost {
    let action = DirectResponseAction { status: 502, ..Default::default() };
    VirtualHost {
        name: "block_all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![Route {
            name: "block_all".to_owned(),
            r#match: Some(every_request()),
            action: Some(Action::DirectResponse(action)),
            ..Default::default()
        }],
        include_request_attempt_count: true,
        ..Default::default()
    }
}

/// The routes of an own port: every request goes to the app.
pub fn inbound(scope: &Scope<'_>, service: &Resource<Service>, port: u16) -> RouteConfiguration {
    let action = RouteAction {
        timeout: Some(Duration::default()),
        cluster_specifier: Some(ClusterSpecifier::Cluster(names::inbound_cluster(port))),
        ..Default::default()
    };
    let operation = format!("{}:{port}/*", service::fqdn(service));
    let decorated = !scope.is_tulle() || tracing::is_on(scope, WorkloadMode::Server);
    let route = Route {
        name: "default".to_owned(),
        r#match: Some(every_request()),
        metadata: values::origin(&origin(Kind::Service, &service.meta)),
        decorator: decorated.then(|| Decorator { operation, ..Default::default() }),
        action: Some(Action::Route(action)),
        ..Default::default()
    };
    RouteConfiguration {
        name: names::inbound_cluster(port),
        virtual_hosts: vec![VirtualHost {
            name: format!("inbound|http|{port}"),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..Default::default()
        }],
        validate_clusters: values::boolean(false),
        ..Default::default()
    }
}

fn every_request() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}
