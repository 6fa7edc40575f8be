//! Choice of the endpoint: balancers, consistent hashing, locality (DestinationRule and MeshConfig).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::duration::Duration;

/// Choice of the endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancerSettings {
    /// A balancer without keys; excludes `consistentHash`.
    pub simple: Option<SimpleLb>,
    /// Affinity by a key of the request.
    pub consistent_hash: Option<ConsistentHashLb>,
    /// Replaces the mesh's locality setting.
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// Zone-aware balancing; excludes `localityLbSetting`.
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Older spelling of `warmup.duration`.
    pub warmup_duration_secs: Option<Duration>,
    /// Slow start of new endpoints.
    pub warmup: Option<WarmupConfiguration>,
}

/// Istio's `SimpleLB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleLb {
    /// The default: `LEAST_REQUEST`.
    #[default]
    Unspecified,
    /// Older name of `LEAST_REQUEST`.
    LeastConn,
    /// Any endpoint.
    Random,
    /// The original destination address.
    Passthrough,
    /// In turn.
    RoundRobin,
    /// The less busy of two random endpoints.
    LeastRequest,
}

/// Istio's `ConsistentHashLB`: one key, one algorithm.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHashLb {
    /// Hash this header.
    pub http_header_name: Option<String>,
    /// Hash this cookie.
    pub http_cookie: Option<HttpCookie>,
    /// Hash the client's address.
    pub use_source_ip: Option<bool>,
    /// Hash this query parameter.
    pub http_query_parameter_name: Option<String>,
    /// Ring hash (default).
    pub ring_hash: Option<RingHash>,
    /// Maglev.
    pub maglev: Option<Maglev>,
    /// Older spelling of `ringHash.minimumRingSize`.
    pub minimum_ring_size: u64,
}

/// A cookie to hash; made when `ttl` is given and it is missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookie {
    /// Name.
    pub name: String,
    /// Path of the cookie.
    pub path: String,
    /// Lifetime; `0s`: of the session.
    pub ttl: Option<Duration>,
    /// Further attributes.
    pub attributes: Vec<HttpCookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookieAttribute {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// Ring hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Entries; default 1024.
    pub minimum_ring_size: u64,
}

/// Maglev.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Entries, a prime below 5000011; default 65537.
    pub table_size: u64,
}

/// Istio's `LocalityLoadBalancerSetting`: at most one of distribute, failover, failoverPriority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityLbSetting {
    /// Explicit shares.
    pub distribute: Vec<Distribute>,
    /// Explicit next region.
    pub failover: Vec<Failover>,
    /// Labels that order endpoints.
    pub failover_priority: Vec<String>,
    /// Unset counts as true.
    pub enabled: Option<bool>,
}

/// Istio's `ZoneAwareLoadBalancerSetting`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareLbSetting {
    /// Whether it is on.
    pub enabled: Option<bool>,
    /// Explicit next region.
    pub failover: Vec<Failover>,
    /// Labels that order endpoints.
    pub failover_priority: Vec<String>,
    /// Below this many endpoints it is off; default 6.
    pub min_cluster_size: Option<u64>,
}

/// Shares of the traffic of one locality.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Distribute {
    /// Locality of the client.
    pub from: String,
    /// Locality to percent; they sum to 100.
    pub to: BTreeMap<String, u32>,
}

/// Next region of one region.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// Region of the client.
    pub from: String,
    /// Region to use next.
    pub to: String,
}

/// Slow start of new endpoints.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WarmupConfiguration {
    /// How long it takes.
    pub duration: Option<Duration>,
    /// Share at the start, percent; default 10.
    pub minimum_percent: Option<f64>,
    /// Shape of the rise; default 1.0.
    pub aggression: Option<f64>,
}
