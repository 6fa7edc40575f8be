//! The caller's side: which listener, virtual host, route and clusters take the request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::model::{
    Cluster, ClusterSpecifier, Forward, HeaderMatch, HttpConnectionManager, LbPolicy, Listener,
    NetworkFilter, PathMatch, RetryPolicy, Route, RouteAction, RouteMatch, StringMatch, StringMatcher,
    TransportSocket,
};
use decide::pick_route;
use translate::{Scope, World, host, names};

use super::inbound;
use super::proxy::Proxy;
use super::report::{Destination, Endpoint, RouteTaken, Verdict};
use super::request::{Caller, Request};
use super::source;
use crate::{Error, workload};

/// A service and port that is called.
#[derive(Debug, Clone)]
pub struct Called {
    /// Full host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Addresses of the Service.
    pub addresses: Vec<IpAddr>,
}

/// The Service that `name[:port]` means for callers of `namespace`.
///
/// # Errors
/// There is no such Service, or its port has to be said.
pub fn called(world: &World, name: &str, namespace: &str) -> Result<Called, Error> {
    let (name, port) = match name.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().map_err(|_| format!("{port} is no port"))?)),
        None => (name, None),
    };
    let full = match name.matches('.').count() {
        1 => format!("{name}.svc.{}", host::DOMAIN),
        _ => host::expand(name, namespace),
    };
    let Some(service) = world.service(&full) else {
        let known: Vec<String> = translate::summary::services(world).into_iter().map(|it| it.host).collect();
        return Err(format!("no Service {full}; the directory has: {}", known.join(", ")).into());
    };
    let ports: Vec<u16> = service.spec.ports.iter().map(|port| port.port).collect();
    let port = match (port, ports.as_slice()) {
        (Some(port), _) if ports.contains(&port) => port,
        (None, [only]) => *only,
        _ => return Err(format!("say which port of {full} is called (HOST:PORT): it has {ports:?}").into()),
    };
    let addresses = service.spec.virtual_addresses().iter().filter_map(|it| it.parse().ok()).collect();
    Ok(Called { host: full, port, addresses })
}

/// The listener and connection manager of the caller's proxy through which the call goes: the Service's own address,
/// else the workload's HTTP proxy.
pub fn listener<'p>(
    proxy: &'p Proxy<'_>,
    called: &Called,
) -> Option<(&'p Listener, &'p HttpConnectionManager)> {
    let own = |address: &IpAddr| proxy.listener_at(SocketAddr::new(*address, called.port));
    let by_address = called.addresses.iter().filter_map(own);
    let by_proxy = proxy.listeners.iter().filter(|listener| {
        manager(listener).is_some_and(|it| {
            matches!(&it.route, config::model::RouteSource::Rds { name } if &**name == names::HTTP_PROXY_ROUTE)
        })
    });
    by_address.chain(by_proxy).find_map(|listener| Some((listener, manager(listener)?)))
}

fn manager(listener: &Listener) -> Option<&HttpConnectionManager> {
    let chains = listener.filter_chains.iter().chain(listener.default_filter_chain.as_deref());
    chains.flat_map(|chain| &chain.filters).find_map(|filter| match filter {
        NetworkFilter::Http(manager) => Some(&**manager),
        NetworkFilter::Tcp(_) | NetworkFilter::Rbac(_) | NetworkFilter::Stats(_) => None,
    })
}

/// The route of a request and where it leads.
pub struct Routed {
    /// The route.
    pub taken: RouteTaken,
    /// The clusters that it may pick, with their share in percent; empty where the route answers itself.
    pub clusters: Vec<(Arc<str>, f64)>,
    /// The status of a route that answers itself.
    pub answers: Option<u16>,
}

/// Picks the route as the proxy does. A condition on chance counts as met.
///
/// # Errors
/// The proxy would refuse its routes.
pub fn route(
    world: &World,
    proxy: &Proxy<'_>,
    manager: &HttpConnectionManager,
    request: &Request,
) -> Result<Option<Routed>, Error> {
    let Some(routes) = proxy.routes(manager)? else { return Ok(None) };
    let Some(found) = pick_route(&routes, request, 0) else { return Ok(None) };
    let virtual_host = routes.virtual_hosts[found.virtual_host].name.to_string();
    let route = found.route;
    let virtual_host_retry = routes.virtual_hosts[found.virtual_host].retry.as_ref();
    let (action, clusters, answers, timeout) = match &route.action {
        RouteAction::Forward(forward) => {
            ("forward".to_owned(), shares(forward, request), None, forward.timeout)
        }
        RouteAction::Redirect(redirect) => {
            (format!("redirect with {}", redirect.status), Vec::new(), Some(redirect.status), None)
        }
        RouteAction::DirectResponse(direct) => {
            (format!("answer {}", direct.status), Vec::new(), Some(direct.status), None)
        }
    };
    let taken = RouteTaken {
        virtual_host,
        position: found.position,
        conditions: conditions(&route.matcher),
        action,
        timeout: timeout.map_or_else(|| "none".to_owned(), seconds),
        retries: retries(route, virtual_host_retry),
        source: route.origin.as_deref().map(|origin| source::of_origin(world, origin)),
    };
    Ok(Some(Routed { taken, clusters, answers }))
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn retries(route: &Route, of_virtual_host: Option<&Arc<RetryPolicy>>) -> String {
    let own = match &route.action {
        RouteAction::Forward(forward) => forward.retry.as_ref().or(of_virtual_host),
        RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
    };
    let Some(policy) = own.filter(|policy| policy.retries > 0 && !policy.on.is_empty()) else {
        return "none".to_owned();
    };
    let on: Vec<&str> = policy.on.names().collect();
    let per_try = policy.per_try_timeout.map(|it| format!(", {} a try", seconds(it))).unwrap_or_default();
    let default =
        if policy.is_default { " (the mesh's default: repeats nothing that may have been done)" } else { "" };
    format!("up to {} on {}{per_try}{default}", policy.retries, on.join(", "))
}

/// What a cluster's configuration bounds; nothing where it is Istio's "no limit".
fn limits(cluster: &Cluster) -> Vec<String> {
    let thresholds = &cluster.circuit_breakers.default;
    let mut all: Vec<String> = [
        ("connections", thresholds.max_connections),
        ("pending requests", thresholds.max_pending_requests),
        ("requests", thresholds.max_requests),
        ("retries at a time", thresholds.max_retries),
    ]
    .into_iter()
    .filter(|(_, limit)| *limit != u32::MAX)
    .map(|(what, limit)| format!("{limit} {what}"))
    .collect();
    if let Some(requests) = cluster.http.max_requests_per_connection {
        all.push(format!("{requests} requests on one connection"));
    }
    if let Some(outlier) = &cluster.outlier_detection {
        for (what, rule) in [
            ("gateway errors", outlier.consecutive_gateway_failure),
            ("5xx", outlier.consecutive_5xx),
            ("local failures", outlier.consecutive_local_origin_failure),
        ] {
            // Without the split, failures of our side count among the others.
            let counts = outlier.split_local_origin || what != "local failures";
            if counts && rule.enforcing > 0 && rule.threshold > 0 {
                all.push(format!(
                    "ejected after {} {what} in a row, for {} × the number of ejections, at most {} % of endpoints",
                    rule.threshold,
                    seconds(outlier.base_ejection_time),
                    outlier.max_ejection_percent
                ));
            }
        }
    }
    all
}

fn shares(forward: &Forward, request: &Request) -> Vec<(Arc<str>, f64)> {
    match &forward.cluster {
        ClusterSpecifier::Weighted(weighted) => weighted
            .clusters
            .iter()
            .filter(|cluster| cluster.weight > 0)
            .map(|cluster| {
                (cluster.name.clone(), f64::from(cluster.weight) * 100.0 / (weighted.total as f64))
            })
            .collect(),
        _ => decide::pick_cluster(forward, request, 0).map(|it| (it.name, 100.0)).into_iter().collect(),
    }
}

fn conditions(matcher: &RouteMatch) -> Vec<String> {
    let mut all = Vec::new();
    match &matcher.path {
        PathMatch::Prefix(prefix) if &**prefix == "/" => {}
        PathMatch::Prefix(prefix) => all.push(format!("path begins with {prefix}")),
        PathMatch::Exact(path) => all.push(format!("path is {path}")),
        PathMatch::SeparatedPrefix(prefix) => all.push(format!("path is {prefix} or below")),
        PathMatch::Regex(regex) => all.push(format!("path matches {regex:?}")),
    }
    if !matcher.case_sensitive {
        all.push("letter case of the path does not count".to_owned());
    }
    for header in &matcher.headers {
        let not = if header.invert { "not: " } else { "" };
        let text = match &header.condition {
            HeaderMatch::Present(true) => "is present".to_owned(),
            HeaderMatch::Present(false) => "is absent".to_owned(),
            HeaderMatch::Range { start, end } => format!("is a number from {start} and below {end}"),
            HeaderMatch::Value(value) => words(value),
        };
        all.push(format!("{not}header {} {text}", header.name));
    }
    for query in &matcher.query_parameters {
        let text = query.value.as_ref().map_or_else(|| "is present".to_owned(), words);
        all.push(format!("query parameter {} {text}", query.name));
    }
    if matcher.grpc {
        all.push("gRPC only".to_owned());
    }
    if let Some(fraction) = matcher.runtime_fraction {
        all.push(format!("{} % of requests", f64::from(fraction) / 10_000.0));
    }
    all
}

fn words(matcher: &StringMatcher) -> String {
    let case = if matcher.ignore_case { " (any case)" } else { "" };
    match &matcher.pattern {
        StringMatch::Exact(text) => format!("is \"{text}\"{case}"),
        StringMatch::Prefix(text) => format!("begins with \"{text}\"{case}"),
        StringMatch::Suffix(text) => format!("ends with \"{text}\"{case}"),
        StringMatch::Contains(text) => format!("contains \"{text}\"{case}"),
        StringMatch::Regex(regex) => format!("matches {regex:?}"),
    }
}

/// One cluster with its endpoints, each asked for its verdict.
///
/// # Errors
/// A proxy would refuse its configuration.
pub fn destination(
    world: &World,
    proxy: &Proxy<'_>,
    name: &str,
    share: f64,
    request: &Request,
) -> Result<Destination, Error> {
    let scope = Scope::new(world, &proxy.node);
    let host = names::parse_outbound_cluster(name).map(|(_, _, host)| host.to_owned());
    let rules = host
        .map(|host| scope.destination_rule(&host).rules)
        .unwrap_or_default()
        .into_iter()
        .map(|rule| source::of_resource("DestinationRule", rule))
        .collect();
    let Some(cluster) = proxy.cluster(name)? else {
        let balancing = "no such cluster".to_owned();
        return Ok(Destination {
            cluster: name.to_owned(),
            share,
            balancing,
            limits: Vec::new(),
            rules,
            endpoints: Vec::new(),
        });
    };
    let mut endpoints = Vec::new();
    if let Some(assignment) = proxy.endpoints(&cluster)? {
        for found in assignment.endpoints().filter(|it| it.health.is_usable()) {
            endpoints.push(endpoint(world, proxy, &cluster, found, request)?);
        }
    }
    Ok(Destination {
        cluster: name.to_owned(),
        share,
        balancing: balancing(cluster.lb_policy),
        limits: limits(&cluster),
        rules,
        endpoints,
    })
}

fn balancing(policy: LbPolicy) -> String {
    match policy {
        LbPolicy::RoundRobin => "in turn".to_owned(),
        LbPolicy::LeastRequest { choices } => format!("fewest active requests of {choices} picks"),
        LbPolicy::Random => "at random".to_owned(),
        LbPolicy::ClusterProvided => "the address that the client asked for".to_owned(),
    }
}

fn endpoint(
    world: &World,
    proxy: &Proxy<'_>,
    cluster: &Cluster,
    found: &config::model::Endpoint,
    request: &Request,
) -> Result<Endpoint, Error> {
    let socket = cluster.transport_socket_for(&found.transport_labels);
    let own = identity(world, proxy);
    let (transport, identity, server_name) = match socket {
        TransportSocket::RawBuffer => ("plaintext", None, String::new()),
        TransportSocket::Tls(tls) if tls.certificate.is_some() => ("mutual TLS", own, tls.sni.to_string()),
        TransportSocket::Tls(tls) => ("TLS", None, tls.sni.to_string()),
    };
    let Some(address) = found.address.socket() else {
        let verdict = Verdict {
            allowed: true,
            reason: "outside the mesh: no policy of this mesh holds there".to_owned(),
            sources: Vec::new(),
        };
        let (address, workload) = (found.address.to_string(), String::new());
        return Ok(Endpoint { address, workload, transport, mode: "", verdict });
    };
    let from = proxy.node.addresses.first().copied().unwrap_or(address.ip());
    let caller = Caller { identity, address: from, called: address, server_name };
    let answer = inbound::ask(world, address, &caller, request)?;
    let workload = workload::at(world, address.ip())
        .map(|it| format!("{}/{}", it.meta.namespace, it.meta.name))
        .unwrap_or_default();
    Ok(Endpoint {
        address: address.to_string(),
        workload,
        transport,
        mode: answer.mode,
        verdict: answer.verdict,
    })
}

/// The SPIFFE id that the caller's certificate has.
fn identity(world: &World, proxy: &Proxy<'_>) -> Option<String> {
    let account = match proxy.node.service_account.as_str() {
        "" => "default",
        account => account,
    };
    let id = base::Spiffe::new(world.mesh().trust_domain(), &proxy.node.namespace, account).ok()?;
    Some(id.to_string())
}
