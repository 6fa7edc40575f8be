//! What the foreign server serves: as data that a test changes, and as Envoy's resources.

use std::net::SocketAddr;

use serde_json::{Value, json};

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";

/// A listener `front` whose routes (RDS) split the requests between the clusters `a` and `b` (EDS), and, if asked for, a
/// listener `second` with routes of its own to the cluster `extra`, which has the endpoint of `a`.
#[derive(Debug, Clone)]
pub struct World {
    pub front_at: SocketAddr,
    pub second_at: SocketAddr,
    pub a_at: SocketAddr,
    pub b_at: SocketAddr,
    pub weights: (u32, u32),
    pub second: bool,
    pub without_a: bool,
    /// Load-balancing policy of `a`.
    pub policy: &'static str,
    /// A filter before the router of `front`, by its type.
    pub filter: Option<&'static str>,
    /// A regular expression as the match of a route before the others.
    pub pattern: Option<&'static str>,
}

impl World {
    /// The resources, as the foreign server reads them.
    pub fn resources(&self) -> Value {
        let mut clusters = vec![cluster("b", "ROUND_ROBIN")];
        let mut endpoints = vec![assignment("b", self.b_at)];
        if !self.without_a {
            clusters.push(cluster("a", self.policy));
            endpoints.push(assignment("a", self.a_at));
        }
        let rds =
            json!({"route_config_name": "front", "config_source": {"ads": {}, "resource_api_version": "V3"}});
        let mut listeners = vec![listener("front", self.front_at, "rds", rds, self.filter)];
        if self.second {
            clusters.push(cluster("extra", "RANDOM"));
            endpoints.push(assignment("extra", self.a_at));
            let routes = json!({"name": "own", "virtual_hosts": [{"name": "all", "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "extra"}}]}]});
            listeners.push(listener("second", self.second_at, "route_config", routes, None));
        }
        json!({"clusters": clusters, "endpoints": endpoints, "listeners": listeners, "routes": [self.routes()]})
    }

    fn routes(&self) -> Value {
        let mut routes = Vec::new();
        if let Some(pattern) = self.pattern {
            routes.push(json!({"match": {"safe_regex": {"regex": pattern}}, "route": {"cluster": "b"}}));
        }
        routes.push(json!({"match": {"prefix": "/"}, "route": {"weighted_clusters": {"clusters": [
            {"name": "a", "weight": self.weights.0}, {"name": "b", "weight": self.weights.1}]}}}));
        json!({"name": "front", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})
    }
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn cluster(name: &str, policy: &str) -> Value {
    json!({"name": name, "type": "EDS", "connect_timeout": "5s", "lb_policy": policy,
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}}})
}

fn assignment(name: &str, at: SocketAddr) -> Value {
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}]})
}

fn listener(name: &str, at: SocketAddr, key: &str, routes: Value, filter: Option<&str>) -> Value {
    let mut filters = Vec::new();
    if let Some(kind) = filter {
        filters
            .push(json!({"name": "odd", "typed_config": {"@type": format!("type.googleapis.com/{kind}")}}));
    }
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}));
    let manager = json!({"@type": MANAGER, "stat_prefix": name, "http_filters": filters, key: routes});
    json!({"name": name, "address": address(at), "filter_chains": [{"filters": [
        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]})
}
