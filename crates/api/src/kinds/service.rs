//! Core Kubernetes `Service` (v1).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::IntOrString;

/// The spec of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Ports that clients call.
    pub ports: Vec<ServicePort>,
    /// Labels of the workloads behind it; empty: endpoints are given by other means.
    pub selector: BTreeMap<String, String>,
    /// First virtual address; `None` (the text) makes the service headless.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: String,
    /// All virtual addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<String>,
    /// How it is published; `ClusterIP` when unset.
    #[serde(rename = "type")]
    pub service_type: ServiceType,
    /// DNS name that an `ExternalName` service stands for.
    pub external_name: String,
    /// Addresses outside the cluster that lead here.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<String>,
    /// `None` or `ClientIP`.
    pub session_affinity: String,
    /// Settings of the affinity.
    pub session_affinity_config: Option<SessionAffinityConfig>,
    /// Asked address of a load balancer.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: String,
    /// Clients that a load balancer lets in.
    pub load_balancer_source_ranges: Vec<String>,
    /// Implementation of the load balancer.
    pub load_balancer_class: String,
    /// Whether a load balancer gets node ports.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// `Cluster` or `Local`.
    pub external_traffic_policy: String,
    /// `Cluster` or `Local`.
    pub internal_traffic_policy: String,
    /// Preference for near endpoints.
    pub traffic_distribution: String,
    /// Node port of the health check.
    pub health_check_node_port: i32,
    /// Whether endpoints that are not ready are published.
    pub publish_not_ready_addresses: bool,
    /// `IPv4`, `IPv6`.
    pub ip_families: Vec<String>,
    /// `SingleStack`, `PreferDualStack`, `RequireDualStack`.
    pub ip_family_policy: String,
}

/// One port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Name; its part before the first `-` names the protocol (`http-web`).
    pub name: String,
    /// Port that clients call.
    pub port: u16,
    /// Port of the workload, by number or name; [`ServicePort::port`] when unset.
    pub target_port: Option<IntOrString>,
    /// `TCP` (default), `UDP` or `SCTP`.
    pub protocol: TransportProtocol,
    /// Application protocol; wins over the name's prefix.
    pub app_protocol: Option<String>,
    /// Port on every node.
    pub node_port: i32,
}

/// Layer 4 protocol of a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TransportProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP; the mesh leaves it alone.
    Udp,
    /// SCTP; the mesh leaves it alone.
    Sctp,
}

/// How a Service is published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum ServiceType {
    /// Inside the cluster.
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// Also on a port of each node.
    NodePort,
    /// Also through a load balancer.
    LoadBalancer,
    /// An alias of a DNS name.
    ExternalName,
}

/// Settings of the session affinity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SessionAffinityConfig {
    /// Affinity by the client's address.
    #[serde(rename = "clientIP")]
    pub client_ip: Option<ClientIpConfig>,
}

/// Affinity by the client's address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientIpConfig {
    /// How long the affinity lasts, in seconds.
    pub timeout_seconds: Option<i32>,
}

impl Service {
    /// Whether it has no virtual address on purpose (`clusterIP: None`).
    pub fn is_headless(&self) -> bool {
        self.cluster_ip == "None" || self.cluster_ips.iter().any(|ip| ip == "None")
    }

    /// All virtual addresses, none twice; empty for a headless service.
    pub fn virtual_addresses(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for address in std::iter::once(&self.cluster_ip).chain(&self.cluster_ips) {
            if !address.is_empty() && address != "None" && !all.contains(&address.as_str()) {
                all.push(address);
            }
        }
        all
    }
}
