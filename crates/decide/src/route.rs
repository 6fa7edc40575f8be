//! Which route takes a request, and which cluster a route sends it to.

use crate::header_match::{header_matches, joined};
use crate::query_match::query_matches;
use crate::view::RequestView;
use crate::virtual_host::pick_virtual_host;
use crate::weighted::pick_weighted;
use config::model::{ClusterSpecifier, Forward, PathMatch, Route, RouteConfiguration, RouteMatch};
use std::sync::Arc;

/// A route with its place.
#[derive(Debug, Clone, Copy)]
pub struct ChosenRoute<'a> {
    /// Position of the virtual host.
    pub virtual_host: usize,
    /// Position of the route in it.
    pub position: usize,
    /// The route.
    pub route: &'a Arc<Route>,
}

/// The route of a request: the virtual host by name, then the first route that matches. When no route of that virtual
/// host matches there is none; other virtual hosts are not tried (as in Envoy). `random`: an evenly distributed value.
pub fn pick_route<'a>(
    routes: &'a RouteConfiguration,
    request: &impl RequestView,
    random: u64,
) -> Option<ChosenRoute<'a>> {
    let virtual_host = pick_virtual_host(routes, request.authority())?;
    let mut path = request.path();
    if routes.ignore_path_parameters {
        path = path.split(|byte| *byte == b';').next().unwrap_or(path);
    }
    let host = routes.virtual_hosts.get(virtual_host)?;
    let matches = |route: &Arc<Route>| route_matches(&route.matcher, request, path, random);
    let position = host.routes.iter().position(matches)?;
    Some(ChosenRoute { virtual_host, position, route: &host.routes[position] })
}

/// Whether a route takes a request with that path.
pub fn route_matches(matcher: &RouteMatch, request: &impl RequestView, path: &[u8], random: u64) -> bool {
    path_matches(matcher, request, path)
        && matcher.runtime_fraction.is_none_or(|fraction| random % 1_000_000 < u64::from(fraction))
        && (!matcher.grpc || is_grpc(request))
        && matcher.headers.iter().all(|header| header_matches(header, request))
        && matcher.query_parameters.iter().all(|parameter| query_matches(parameter, request.query()))
}

fn path_matches(matcher: &RouteMatch, request: &impl RequestView, path: &[u8]) -> bool {
    let connect = request.method() == b"CONNECT";
    if connect && path.is_empty() {
        return matcher.path == PathMatch::Connect;
    }
    let equal = |left: &[u8], right: &[u8]| {
        if matcher.case_sensitive { left == right } else { left.eq_ignore_ascii_case(right) }
    };
    let begins = |prefix: &str| path.get(..prefix.len()).is_some_and(|begin| equal(begin, prefix.as_bytes()));
    match &matcher.path {
        PathMatch::Prefix(prefix) => begins(prefix),
        PathMatch::Exact(exact) => equal(path, exact.as_bytes()),
        PathMatch::SeparatedPrefix(prefix) => {
            begins(prefix) && matches!(path.get(prefix.len()), None | Some(b'/'))
        }
        PathMatch::Regex(regex) => regex.is_full_match(path),
        PathMatch::Connect => connect,
    }
}

fn is_grpc(request: &impl RequestView) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let kind = joined("content-type", request);
    kind.is_some_and(|kind| kind.starts_with(GRPC) && matches!(kind.get(GRPC.len()), None | Some(b'+')))
}

/// The cluster that a request goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenCluster {
    /// Its name.
    pub name: Arc<str>,
    /// Its position among weighted clusters.
    pub weighted: Option<usize>,
}

/// The cluster of a route; `None` when a header should name it and does not. `random`: an evenly distributed value that
/// is not the one the route was picked with.
pub fn pick_cluster(forward: &Forward, request: &impl RequestView, random: u64) -> Option<ChosenCluster> {
    match &forward.cluster {
        ClusterSpecifier::Cluster(name) => Some(ChosenCluster { name: name.clone(), weighted: None }),
        ClusterSpecifier::Weighted(weighted) => {
            let position = pick_weighted(weighted, random)?;
            let name = weighted.clusters.get(position)?.name.clone();
            Some(ChosenCluster { name, weighted: Some(position) })
        }
        ClusterSpecifier::Header(header) => {
            let value = joined(header, request)?;
            let name = std::str::from_utf8(&value).ok().filter(|name| !name.is_empty())?;
            Some(ChosenCluster { name: name.into(), weighted: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Request;
    use config::model::{
        DirectResponse, DomainIndex, HeaderMatch, HeaderMatcher, HeaderOperations, QueryMatcher, Regex,
        RouteAction, StringMatcher, VirtualHost,
    };

    fn matcher(path: PathMatch) -> RouteMatch {
        RouteMatch {
            path,
            case_sensitive: true,
            headers: vec![],
            query_parameters: vec![],
            grpc: false,
            runtime_fraction: None,
        }
    }

    fn takes(matcher: &RouteMatch, target: &str) -> bool {
        let request = Request::get("a", target);
        route_matches(matcher, &request, request.path(), 0)
    }

    /// CVE-2020-8595, CVE-2021-39156: what follows the path is never part of it.
    #[test]
    fn query_and_fragment_are_no_path() {
        let exact = matcher(PathMatch::Exact("/admin".into()));
        for target in ["/admin", "/admin?x", "/admin#x", "/admin?a#b"] {
            assert!(takes(&exact, target), "{target}");
        }
        assert!(!takes(&exact, "/admin/"));
    }

    #[test]
    fn paths_of_every_kind() {
        let separated = matcher(PathMatch::SeparatedPrefix("/api".into()));
        assert!(takes(&separated, "/api") && takes(&separated, "/api/v1") && !takes(&separated, "/apis"));
        let prefix = matcher(PathMatch::Prefix("/api".into()));
        assert!(takes(&prefix, "/apis") && !takes(&prefix, "/API"));
        let folded = RouteMatch { case_sensitive: false, ..prefix };
        assert!(takes(&folded, "/API"));
        let regex = matcher(PathMatch::Regex(Regex::new("/v[0-9]").unwrap()));
        assert!(takes(&regex, "/v1?x") && !takes(&regex, "/v1/"));
    }

    #[test]
    fn connect_has_a_condition_of_its_own() {
        let connect = Request { method: "CONNECT", ..Request::get("a:443", "") };
        let takes = |path, request: &Request| route_matches(&matcher(path), request, request.path(), 0);
        assert!(takes(PathMatch::Connect, &connect));
        for path in [PathMatch::Prefix("".into()), PathMatch::Regex(Regex::new(".*").unwrap())] {
            assert!(!takes(path, &connect));
        }
        assert!(!takes(PathMatch::Connect, &Request::get("a", "/")));
    }

    #[test]
    fn all_conditions_must_hold() {
        let condition = HeaderMatch::Value(StringMatcher::exact("true"));
        let header = HeaderMatcher {
            name: "x-canary-user".into(),
            condition,
            invert: false,
            treat_missing_as_empty: false,
        };
        let query = QueryMatcher { name: "v".into(), value: None, present: true };
        let route = RouteMatch {
            headers: vec![header],
            query_parameters: vec![query],
            ..matcher(PathMatch::Prefix("/".into()))
        };
        let takes = |request: &Request| route_matches(&route, request, request.path(), 0);
        assert!(takes(&Request::get("a", "/?v").with("X-Canary-User", "true")));
        assert!(!takes(&Request::get("a", "/").with("X-Canary-User", "true")));
        assert!(!takes(&Request::get("a", "/?v").with("X-Canary-User", "false")));
    }

    #[test]
    fn path_parameters_are_ignored_only_where_configured() {
        let operations = HeaderOperations::default;
        let route = Route {
            name: "".into(),
            origin: None,
            matcher: matcher(PathMatch::Exact("/cart".into())),
            action: RouteAction::DirectResponse(DirectResponse { status: 200, body: [].into() }),
            tracing: None,
            decorator: None,
            request_headers: operations(),
            response_headers: operations(),
        };
        let host = VirtualHost {
            name: "all".into(),
            domains: vec!["*".into()],
            routes: vec![Arc::new(route)],
            request_headers: operations(),
            response_headers: operations(),
            retry: None,
            request_body_buffer_limit: None,
            include_request_attempt_count: false,
            include_attempt_count_in_response: false,
        };
        let mut domains = DomainIndex::default();
        domains.insert("*", 0).unwrap();
        let mut routes = RouteConfiguration {
            name: "80".into(),
            virtual_hosts: vec![host],
            domains,
            request_headers: operations(),
            response_headers: operations(),
            most_specific_header_mutations_wins: false,
            ignore_port_in_host_matching: false,
            ignore_path_parameters: true,
            internal_only_headers: vec![],
        };
        let picks = |routes: &RouteConfiguration, target| {
            pick_route(routes, &Request::get("a", target), 0).map(|chosen| chosen.position)
        };
        for target in ["/cart", "/cart;v=1", "/cart;v=1;w", "/cart;v=1?x;y"] {
            assert_eq!(picks(&routes, target), Some(0), "{target}");
        }
        assert_eq!(picks(&routes, "/other;/cart"), None);
        routes.ignore_path_parameters = false;
        assert_eq!(picks(&routes, "/cart"), Some(0));
        assert_eq!(picks(&routes, "/cart;v=1"), None);
    }

    #[test]
    fn fractions_and_grpc() {
        let half = RouteMatch { runtime_fraction: Some(500_000), ..matcher(PathMatch::Prefix("/".into())) };
        let request = Request::get("a", "/");
        assert!(
            route_matches(&half, &request, b"/", 499_999) && !route_matches(&half, &request, b"/", 500_000)
        );
        let grpc = RouteMatch { grpc: true, ..matcher(PathMatch::Prefix("/".into())) };
        let typed = |kind| Request::get("a", "/").with("content-type", kind);
        assert!(route_matches(&grpc, &typed("application/grpc+proto"), b"/", 0));
        assert!(!route_matches(&grpc, &typed("application/grpc-web"), b"/", 0));
    }
}
