//! The caller's side: which listener, virtual host, route and clusters take the request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::model::{
    Cluster, ClusterSpecifier, Forward, HeaderMatch, HttpConnectionManager, LbPolicy, Listener,
    NetworkFilter, PathMatch, RetryPolicy, Route, RouteAction, RouteMatch, StringMatch, StringMatcher,
    TransportSocket,
};
use decide::{pick_route, rewrite};
use translate::names;

use super::inbound;
use super::mesh::{Called, Mesh};
use super::proxy::Proxy;
use super::report::{Answered, Destination, Endpoint, RouteTaken, Verdict};
use super::request::{Caller, Request};
use crate::Error;

/// The listener and connection manager of the caller's proxy through which the call goes: the Service's own address,
/// else the workload's HTTP proxy.
pub fn listener<'p>(
    proxy: &'p Proxy<'_>,
    called: &Called,
) -> Option<(&'p Listener, &'p HttpConnectionManager)> {
    let own = |address: &IpAddr| proxy.listener_at(SocketAddr::new(*address, called.port));
    let by_address = called.addresses.iter().filter_map(own);
    let by_port =
        proxy.listeners.iter().filter(|it| it.address.socket().is_some_and(|it| it.port() == called.port));
    let by_host = by_port.filter(|listener| {
        let routes = manager(listener).and_then(|it| proxy.routes(it).ok()?);
        routes.is_some_and(|routes| {
            let found = decide::pick_virtual_host(&routes, called.host.as_bytes());
            found.is_some_and(|found| routes.virtual_hosts[found].domains.iter().all(|it| &**it != "*"))
        })
    });
    let by_proxy = proxy.listeners.iter().filter(|listener| {
        manager(listener).is_some_and(|it| {
            matches!(&it.route, config::model::RouteSource::Rds { name } if &**name == names::HTTP_PROXY_ROUTE)
        })
    });
    by_address.chain(by_proxy).chain(by_host).find_map(|listener| Some((listener, manager(listener)?)))
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
    /// The request as it is sent on.
    pub sent: Request,
}

/// Picks the route as the proxy does. A condition on chance counts as met.
///
/// # Errors
/// The proxy would refuse its routes.
pub fn route<'w>(
    mesh: &dyn Mesh<'w>,
    proxy: &Proxy<'_>,
    manager: &HttpConnectionManager,
    request: &Request,
) -> Result<Option<Routed>, Error> {
    let Some(routes) = proxy.routes(manager)? else { return Ok(None) };
    let Some(found) = pick_route(&routes, request, 0) else { return Ok(None) };
    let virtual_host = routes.virtual_hosts[found.virtual_host].name.to_string();
    let route = found.route;
    let virtual_host_retry = routes.virtual_hosts[found.virtual_host].retry.as_ref();
    let mut sent = request.clone();
    let (action, clusters, answers, timeout) = match &route.action {
        RouteAction::Forward(forward) => {
            sent.rewrite(forward, &route.matcher);
            ("forward".to_owned(), shares(forward, request), None, forward.timeout)
        }
        RouteAction::Redirect(redirect) => {
            let location = rewrite::location(redirect, &route.matcher, request, "http");
            let location = Some(String::from_utf8_lossy(&location).into_owned());
            let answers = Answered { status: redirect.status, location };
            (format!("redirect with {}", redirect.status), Vec::new(), Some(answers), None)
        }
        RouteAction::DirectResponse(direct) => {
            let answers = Answered { status: direct.status, location: None };
            (format!("answer {}", direct.status), Vec::new(), Some(answers), None)
        }
    };
    let changed = answers.is_none() && (sent.target != request.target || sent.authority != request.authority);
    let taken = RouteTaken {
        virtual_host,
        position: found.position,
        conditions: conditions(&route.matcher),
        action,
        timeout: timeout.map_or_else(|| "none".to_owned(), seconds),
        retries: retries(route, virtual_host_retry),
        source: route.origin.as_deref().map(|origin| mesh.place(origin)),
        rewritten: changed.then(|| sent.line()),
        answers,
    };
    Ok(Some(Routed { taken, clusters, sent }))
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
        PathMatch::Connect => all.push("method is CONNECT".to_owned()),
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
pub fn destination<'w>(
    mesh: &dyn Mesh<'w>,
    proxy: &Proxy<'_>,
    name: &str,
    share: f64,
    request: &Request,
) -> Result<Destination, Error> {
    let rules = mesh.destination_rules(proxy, name);
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
            endpoints.push(endpoint(mesh, proxy, &cluster, found, request)?);
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

fn endpoint<'w>(
    mesh: &dyn Mesh<'w>,
    proxy: &Proxy<'_>,
    cluster: &Cluster,
    found: &config::model::Endpoint,
    request: &Request,
) -> Result<Endpoint, Error> {
    let socket = cluster.transport_socket_for(&found.transport_labels);
    let own = proxy.who.identity.clone();
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
        let (address, workload, health) = (found.address.to_string(), String::new(), String::new());
        return Ok(Endpoint { address, workload, transport, mode: "", health, verdict });
    };
    let from = proxy.who.addresses.first().copied().unwrap_or(address.ip());
    let caller = Caller { identity, address: from, called: address, server_name };
    let answer = inbound::ask(mesh, address, &caller, request)?;
    Ok(Endpoint {
        address: address.to_string(),
        workload: mesh.proxy_at(address.ip())?.map(|it| it.who.name()).unwrap_or_default(),
        transport,
        mode: answer.mode,
        health: proxy.health(&cluster.name, address),
        verdict: answer.verdict,
    })
}
