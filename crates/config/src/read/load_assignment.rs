//! `envoy.config.endpoint.v3.ClusterLoadAssignment`.

use super::address::{read_address, read_locality};
use super::metadata::{read_metadata, texts};
use super::name::name;
use crate::context::{Context, Result, number, refuse, report};
use crate::model::{Endpoint, Health, LoadAssignment, LocalityEndpoints};
use protos::envoy::envoy::config::core::v3::HealthStatus;
use protos::envoy::envoy::config::endpoint::v3 as pb;
use std::sync::Arc;

/// Most localities of one assignment.
const MAX_LOCALITIES: usize = 10_000;
/// Most endpoints of one locality.
const MAX_ENDPOINTS: usize = 100_000;

/// Reads endpoints. `names`: whether DNS names may stand for IPs.
pub fn read_load_assignment(
    cx: &mut Context,
    message: &pb::ClusterLoadAssignment,
    names: bool,
) -> Result<LoadAssignment> {
    let pb::ClusterLoadAssignment { cluster_name, endpoints, named_endpoints, policy } = message;
    refuse!(cx, "is not supported, nor by Envoy"; named_endpoints);
    let overprovisioning_factor = match policy {
        Some(policy) => cx.field("policy", |cx| read_policy(cx, policy))?,
        None => 140,
    };
    Ok(LoadAssignment {
        cluster_name: name(cx, "cluster_name", cluster_name)?,
        localities: cx
            .list("endpoints", endpoints, MAX_LOCALITIES, |cx, item| read_endpoints(cx, item, names))?,
        overprovisioning_factor,
    })
}

fn read_policy(cx: &mut Context, message: &pb::cluster_load_assignment::Policy) -> Result<u32> {
    let pb::cluster_load_assignment::Policy {
        drop_overloads,
        overprovisioning_factor,
        endpoint_stale_after,
        weighted_priority_health,
    } = message;
    report!(cx, "no requests are dropped by share"; drop_overloads);
    report!(cx, "the next priority is used when no endpoint of the one before is usable";
        overprovisioning_factor, weighted_priority_health);
    report!(cx, "endpoints stay until the control plane takes them away"; endpoint_stale_after);
    Ok(number(overprovisioning_factor).unwrap_or(140))
}

fn read_endpoints(
    cx: &mut Context,
    message: &pb::LocalityLbEndpoints,
    names: bool,
) -> Result<LocalityEndpoints> {
    let pb::LocalityLbEndpoints {
        locality,
        metadata,
        lb_endpoints,
        load_balancing_weight,
        priority,
        proximity,
        lb_config,
    } = message;
    refuse!(cx, "endpoints by LEDS are not supported: write lb_endpoints"; lb_config);
    report!(cx, "is not read, nor by Envoy"; proximity);
    read_metadata(cx, metadata, &[])?;
    if *priority > 128 {
        return Err(cx.refused_field("priority", format!("{priority} is above 128")));
    }
    Ok(LocalityEndpoints {
        locality: read_locality(cx, locality)?,
        priority: *priority,
        weight: number(load_balancing_weight),
        endpoints: cx.list("lb_endpoints", lb_endpoints, MAX_ENDPOINTS, |cx, item| {
            read_endpoint(cx, item, names).map(Arc::new)
        })?,
    })
}

fn read_endpoint(cx: &mut Context, message: &pb::LbEndpoint, names: bool) -> Result<Endpoint> {
    use pb::lb_endpoint::HostIdentifier;
    let pb::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = message;
    let metadata = read_metadata(cx, metadata, &["envoy.transport_socket_match", "istio"])?;
    let health = match cx.enumeration("health_status", *health_status)? {
        HealthStatus::Unknown => Health::Unknown,
        HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Unhealthy => Health::Unhealthy,
        HealthStatus::Draining => Health::Draining,
        HealthStatus::Timeout => Health::Timeout,
        HealthStatus::Degraded => Health::Degraded,
    };
    let weight = number(load_balancing_weight).unwrap_or(1);
    if weight == 0 {
        return Err(cx.refused_field("load_balancing_weight", "is 0: take the endpoint out"));
    }
    let endpoint = match host_identifier {
        Some(HostIdentifier::Endpoint(endpoint)) => endpoint,
        Some(HostIdentifier::EndpointName(_)) => {
            return Err(cx.refused_field("endpoint_name", "is not supported, nor by Envoy"));
        }
        None => return Err(cx.refused_field("endpoint", "is missing")),
    };
    let workload = texts(&metadata, "istio").remove("workload").unwrap_or_default();
    let transport_labels = texts(&metadata, "envoy.transport_socket_match");
    cx.field("endpoint", |cx| {
        let pb::Endpoint { address, health_check_config, hostname, additional_addresses, observability_name } = endpoint;
        report!(cx, "health is what the control plane says"; health_check_config);
        report!(cx, "an endpoint has one address"; additional_addresses);
        report!(cx, "metrics are named after workloads"; observability_name);
        let address = cx.required("address", address)?;
        Ok(Endpoint {
            address: cx.field("address", |cx| read_address(cx, address, names))?,
            hostname: name(cx, "hostname", hostname)?,
            weight,
            health,
            transport_labels,
            workload,
        })
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::read::listener::tests::socket;
    use protos::envoy::envoy::config::core::v3::Metadata;
    use protos::envoy::google::protobuf::{Struct, UInt32Value, Value, value::Kind};

    /// An endpoint.
    pub fn endpoint(ip: &str, port: u32) -> pb::LbEndpoint {
        let endpoint = pb::Endpoint { address: Some(socket(ip, port)), ..Default::default() };
        let host_identifier = Some(pb::lb_endpoint::HostIdentifier::Endpoint(endpoint));
        pb::LbEndpoint { host_identifier, ..Default::default() }
    }

    /// An assignment with one locality.
    pub fn assignment(name: &str, lb_endpoints: Vec<pb::LbEndpoint>) -> pb::ClusterLoadAssignment {
        let endpoints = vec![pb::LocalityLbEndpoints { lb_endpoints, ..Default::default() }];
        pb::ClusterLoadAssignment { cluster_name: name.into(), endpoints, ..Default::default() }
    }

    fn read(message: &pb::ClusterLoadAssignment) -> Result<crate::Read<LoadAssignment>> {
        Context::read(|cx| read_load_assignment(cx, message, false))
    }

    #[test]
    fn reads_labels_and_workload() {
        let text = |value: &str| Value { kind: Some(Kind::StringValue(value.into())) };
        let map = |key: &str, value: &str| Struct { fields: [(key.to_owned(), text(value))].into() };
        let mut one = endpoint("127.2.0.1", 8080);
        let filter_metadata = [
            ("envoy.transport_socket_match".to_owned(), map("tlsMode", "istio")),
            ("istio".to_owned(), map("workload", "payment;production;payment;v1;c")),
        ];
        one.metadata = Some(Metadata { filter_metadata: filter_metadata.into(), ..Default::default() });
        let read = read(&assignment("payment", vec![one])).unwrap();
        let endpoint = read.value.endpoints().next().unwrap();
        assert_eq!(endpoint.transport_labels.get("tlsMode").map(|mode| &**mode), Some("istio"));
        assert_eq!((&*endpoint.workload, endpoint.weight), ("payment;production;payment;v1;c", 1));
        assert!(read.notes.is_empty());
    }

    #[test]
    fn an_empty_list_is_legal() {
        assert_eq!(read(&assignment("payment", vec![])).unwrap().value.endpoints().count(), 0);
        assert!(read(&pb::ClusterLoadAssignment::default()).unwrap().value.localities.is_empty());
    }

    #[test]
    fn refuses_and_reports() {
        let place = "endpoints[0].lb_endpoints[0]";
        let refused = read(&assignment("a", vec![endpoint("name", 1)])).unwrap_err();
        assert_eq!(refused.path, format!("{place}.endpoint.address.socket_address.address"));
        let mut zero = endpoint("127.0.0.1", 1);
        zero.load_balancing_weight = Some(UInt32Value { value: 0 });
        assert_eq!(
            read(&assignment("a", vec![zero])).unwrap_err().path,
            format!("{place}.load_balancing_weight")
        );
        let mut message = assignment("a", vec![]);
        message.policy = Some(pb::cluster_load_assignment::Policy {
            weighted_priority_health: true,
            ..Default::default()
        });
        assert_eq!(read(&message).unwrap().notes[0].path, "policy.weighted_priority_health");
    }
}
