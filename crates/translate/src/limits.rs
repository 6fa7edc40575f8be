//! The limits that DestinationRules set on connection pools, as they are in effect for one proxy.

use crate::kinds::{destination_rule, service};
use crate::merge;
use crate::scope::Scope;

/// How much one proxy opens to one destination at a time; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolLimits {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Active requests.
    pub max_requests: Option<u32>,
    /// Retries.
    pub max_retries: Option<u32>,
}

/// The limits of one destination.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Limited {
    /// Full name of the Service.
    pub host: String,
    /// Name of the subset; empty for the whole Service.
    pub subset: String,
    /// Port of the Service.
    pub port: u16,
    /// The limits, at least one.
    pub limits: PoolLimits,
}

/// Every destination of the proxy that has a limit.
pub fn limited(scope: &Scope<'_>) -> Vec<Limited> {
    let mut found = Vec::new();
    for it in scope.services() {
        let host = service::fqdn(it);
        let rule = scope.destination_rule(&host);
        for port in it.spec.ports.iter().filter(|port| service::protocol(port).is_proxied()) {
            let subsets = rule.subsets.iter().copied().map(Some);
            for subset in [None].into_iter().chain(subsets) {
                let own = subset.and_then(|subset| subset.traffic_policy.as_ref());
                let policy = merge::cluster_policy(rule.traffic_policy, own, port.port);
                let limits = destination_rule::pool_limits(policy.connection_pool);
                if limits != PoolLimits::default() {
                    let subset = subset.map(|subset| subset.name.clone()).unwrap_or_default();
                    found.push(Limited { host: host.clone(), subset, port: port.port, limits });
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MESH, frontend, world};

    #[test]
    fn a_subset_has_its_own_limits_and_what_has_none_is_left_out() {
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec:\n  \
                    host: payment\n  trafficPolicy: {connectionPool: {tcp: {maxConnections: 5}}}\n  subsets:\n  \
                    - {name: a, labels: {version: stable}}\n  \
                    - {name: b, labels: {version: canary}, trafficPolicy: {connectionPool: {http: {maxRetries: 2}}}}\n";
        let world = world(&[MESH, rule]);
        let node = frontend();
        let found: Vec<(String, PoolLimits)> =
            limited(&Scope::new(&world, &node)).into_iter().map(|it| (it.subset, it.limits)).collect();
        let five = PoolLimits { max_connections: Some(5), ..Default::default() };
        let two = PoolLimits { max_retries: Some(2), ..Default::default() };
        assert_eq!(found, [(String::new(), five), ("a".to_owned(), five), ("b".to_owned(), two)]);
    }
}
