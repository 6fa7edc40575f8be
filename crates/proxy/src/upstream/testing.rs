//! Clusters and hosts for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::model::{
    self, Address, CircuitBreakers, Consecutive, Discovery, Endpoint, FailurePercentage, Health,
    Http2ClientOptions, HttpProtocol, LbPolicy, LoadAssignment, Locality, LocalityEndpoints,
    OutlierDetection, SuccessRate, TransportSocket, UpstreamHttpOptions,
};

use super::cluster::{ClusterSet, Environment};
use super::host_set::HostSet;
use crate::telemetry::Registry;
use crate::tls::Secrets;

/// An endpoint at `address`.
pub fn endpoint(address: &str, weight: u32) -> Arc<Endpoint> {
    Arc::new(Endpoint {
        address: Address::Socket(address.parse().unwrap()),
        hostname: "".into(),
        weight,
        health: Health::Unknown,
        transport_labels: BTreeMap::new(),
        workload: "".into(),
    })
}

/// The endpoints of a cluster, all at one place.
pub fn assignment(name: &str, endpoints: Vec<Arc<Endpoint>>) -> Arc<LoadAssignment> {
    Arc::new(LoadAssignment {
        cluster_name: name.into(),
        localities: vec![LocalityEndpoints {
            locality: Locality::default(),
            priority: 0,
            weight: None,
            endpoints,
        }],
        overprovisioning_factor: 140,
    })
}

/// A plaintext HTTP/1 EDS cluster.
pub fn cluster(name: &str) -> model::Cluster {
    model::Cluster {
        name: name.into(),
        discovery: Discovery::Eds { service_name: name.into() },
        lb_policy: LbPolicy::LeastRequest { choices: 2 },
        connect_timeout: Duration::from_secs(5),
        transport_socket: TransportSocket::RawBuffer,
        transport_socket_matches: Vec::new(),
        http: UpstreamHttpOptions {
            protocol: HttpProtocol::Http1,
            idle_timeout: Some(Duration::from_secs(3_600)),
            max_connection_duration: None,
            max_requests_per_connection: None,
            max_headers_count: 100,
            max_response_headers_bytes: 60 * 1024,
            enable_trailers: false,
            preserve_header_case: false,
            http2: Http2ClientOptions::default(),
            error_statuses: None,
        },
        circuit_breakers: CircuitBreakers::default(),
        outlier_detection: None,
        healthy_panic_threshold: 50,
        tcp_keepalive: None,
        metadata: BTreeMap::new(),
    }
}

/// Envoy's rules, with half of the hosts.
pub fn outlier_detection() -> OutlierDetection {
    let five = |enforcing| Consecutive { threshold: 5, enforcing };
    OutlierDetection {
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 50,
        always_eject_one_host: false,
        split_local_origin: false,
        consecutive_5xx: five(100),
        consecutive_gateway_failure: five(0),
        consecutive_local_origin_failure: five(100),
        success_rate: SuccessRate {
            enforcing: 0,
            enforcing_local_origin: 0,
            minimum_hosts: 5,
            request_volume: 100,
            deviations_thousandths: 1900,
        },
        failure_percentage: FailurePercentage {
            enforcing: 0,
            enforcing_local_origin: 0,
            threshold: 85,
            minimum_hosts: 5,
            request_volume: 50,
        },
    }
}

/// What clusters of tests are built with.
pub fn environment() -> Environment {
    Environment::new(Arc::new(Registry::new()), Secrets::new())
}

/// A set of clusters with their endpoints.
pub fn clusters(previous: &ClusterSet, wanted: &[(&str, &[&str])], environment: &Environment) -> ClusterSet {
    let configs: Vec<_> = wanted.iter().map(|(name, _)| Arc::new(cluster(name))).collect();
    let assignments: BTreeMap<_, _> = wanted
        .iter()
        .map(|(name, addresses)| {
            let endpoints = addresses.iter().map(|address| endpoint(address, 1)).collect();
            (Arc::from(*name), assignment(name, endpoints))
        })
        .collect();
    let (set, problems) = ClusterSet::build(previous, &configs, &assignments, environment);
    assert_eq!(problems, []);
    set
}

/// Hosts with these weights.
pub fn hosts(weights: &[u32]) -> Arc<HostSet> {
    let endpoints: Vec<_> = weights
        .iter()
        .zip(1u16..)
        .map(|(weight, port)| endpoint(&format!("127.0.0.1:{port}"), *weight))
        .collect();
    let assignments = BTreeMap::from([(Arc::from("c"), assignment("c", endpoints))]);
    let configs = [Arc::new(cluster("c"))];
    let (set, _) = ClusterSet::build(&ClusterSet::default(), &configs, &assignments, &environment());
    set.get("c").unwrap().hosts()
}
