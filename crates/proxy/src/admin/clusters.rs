//! `/clusters`: clusters and their hosts.

use std::fmt::Write as _;

use config::model::{CircuitBreakers, Health, Thresholds};
use serde_json::{Value, json};

use super::json::socket_address;
use super::page::{Asked, Context, Page, json as json_page, text};
use crate::upstream::host::HostAddress;
use crate::upstream::{Cluster, Host};

/// Envoy's `envoy.admin.v3.Clusters`, or its text form.
pub fn page(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&["format"]) {
        return page;
    }
    let mut clusters = context.routing.clusters();
    clusters.sort_by(|a, b| a.identity.name.cmp(&b.identity.name));
    let is_static = |name: &str| {
        context
            .bootstrap
            .static_resources
            .as_ref()
            .is_some_and(|all| all.clusters.iter().any(|one| one.name == name))
    };
    match query.get("format") {
        Some("json") => {
            let statuses: Vec<Value> = clusters
                .iter()
                .map(|cluster| {
                    let hosts: Vec<Value> = cluster.hosts().hosts().map(|host| host_json(host)).collect();
                    let name = &*cluster.identity.name;
                    json!({"name": name, "added_via_api": !is_static(name), "observability_name": name,
                        "circuit_breakers": circuit_breakers(&cluster.config.circuit_breakers), "host_statuses": hosts})
                })
                .collect();
            json_page(&json!({"cluster_statuses": statuses}))
        }
        _ => {
            let mut body = String::new();
            for cluster in &clusters {
                cluster_text(&mut body, cluster, !is_static(&cluster.identity.name));
            }
            text(body)
        }
    }
}

/// Envoy's `circuit_breakers` of a cluster status.
fn circuit_breakers(breakers: &CircuitBreakers) -> Value {
    let thresholds = |priority: &str, limits: &Thresholds| {
        json!({
            "priority": priority,
            "max_connections": limits.max_connections,
            "max_pending_requests": limits.max_pending_requests,
            "max_requests": limits.max_requests,
            "max_retries": limits.max_retries,
        })
    };
    json!({"thresholds": [thresholds("DEFAULT", &breakers.default), thresholds("HIGH", &breakers.high)]})
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Unknown | Health::Healthy => "HEALTHY",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
        Health::Timeout => "TIMEOUT",
        Health::Degraded => "DEGRADED",
    }
}

/// Envoy's flags, and `/unreachable_now` of our own: the host is passed over for a moment.
fn flags(host: &Host) -> String {
    let mut flags = String::new();
    if host.runtime.monitor.is_ejected() {
        flags.push_str("/failed_outlier_check");
    }
    match host.endpoint.health {
        Health::Unknown | Health::Healthy => {}
        Health::Degraded => flags.push_str("/eds_degraded_health"),
        _ => flags.push_str("/failed_eds_health"),
    }
    if host.runtime.reach.is_avoided() {
        flags.push_str("/unreachable_now");
    }
    if flags.is_empty() { "healthy".to_owned() } else { flags }
}

// Writing to a String cannot fail, so that the results of `writeln!` are of no interest here.
fn cluster_text(body: &mut String, cluster: &Cluster, added_via_api: bool) {
    let name = &*cluster.identity.name;
    let _ = writeln!(body, "{name}::observability_name::{name}");
    let breakers = &cluster.config.circuit_breakers;
    for (priority, limits) in [("default", &breakers.default), ("high", &breakers.high)] {
        let _ = writeln!(body, "{name}::{priority}_priority::max_connections::{}", limits.max_connections);
        let _ = writeln!(
            body,
            "{name}::{priority}_priority::max_pending_requests::{}",
            limits.max_pending_requests
        );
        let _ = writeln!(body, "{name}::{priority}_priority::max_requests::{}", limits.max_requests);
        let _ = writeln!(body, "{name}::{priority}_priority::max_retries::{}", limits.max_retries);
    }
    let _ = writeln!(body, "{name}::added_via_api::{added_via_api}");
    for host in cluster.hosts().hosts() {
        let address = &host.address_text;
        let flags = flags(host);
        let hostname = &host.endpoint.hostname;
        let _ = writeln!(body, "{name}::{address}::rq_active::{}", host.runtime.active_requests());
        let _ = writeln!(body, "{name}::{address}::hostname::{hostname}");
        let _ = writeln!(body, "{name}::{address}::health_flags::{flags}");
        let _ = writeln!(body, "{name}::{address}::weight::{}", host.weight());
        for (key, value) in &host.endpoint.transport_labels {
            let _ = writeln!(body, "{name}::{address}::transport_socket_match::{key}={value}");
        }
    }
}

fn health_status(host: &Host) -> Value {
    let mut status = json!({"eds_health_status": health(host.endpoint.health)});
    // As protobuf JSON: what is false is left out.
    if host.runtime.monitor.is_ejected()
        && let Some(map) = status.as_object_mut()
    {
        map.insert("failed_outlier_check".to_owned(), json!(true));
    }
    status
}

fn host_json(host: &Host) -> Value {
    let address = match &host.address {
        HostAddress::Tcp(address) => socket_address(*address),
        HostAddress::Pipe(path) => json!({"pipe": {"path": path.display().to_string()}}),
    };
    json!({
        "address": address,
        "stats": [{"name": "rq_active", "value": host.runtime.active_requests().to_string(), "type": "GAUGE"}],
        "health_status": health_status(host),
        "weight": host.weight(),
        "hostname": &*host.endpoint.hostname,
    })
}
