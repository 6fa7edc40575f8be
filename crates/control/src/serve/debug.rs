//! The debug pages that Istio's users know: `syncz`, `registryz`, `endpointz`, `configz`, in Istio's shapes as far as
//! what they show exists here.

use serde_json::{Map, Value, json};
use translate::World;
use translate::summary;

use crate::push::Connections;
use crate::store::verdicts;

/// Istio's word for each type in `syncz`.
const TYPES: [(&str, &str); 4] =
    [("cds", "cluster"), ("lds", "listener"), ("rds", "route"), ("eds", "endpoint")];

/// How far each proxy is: what it was sent and what it accepted, by type.
pub fn syncz(connections: &Connections, version: &str) -> Value {
    let of_proxy = |report: &crate::push::connections::ConnectionReport| {
        let mut shown = Map::new();
        let id = format!("{}.{}", report.workload, report.namespace);
        shown.insert("proxy".to_owned(), id.into());
        shown.insert("proxy_type".to_owned(), "sidecar".into());
        shown.insert("cluster_id".to_owned(), report.proxy.cluster_id.clone().into());
        shown.insert("istio_version".to_owned(), version.into());
        for (short, word) in TYPES {
            if let Some(report) = report.types.get(short) {
                shown.insert(format!("{word}_sent"), report.sent_version.clone().into());
                shown.insert(format!("{word}_acked"), report.acked_version.clone().into());
            }
        }
        Value::Object(shown)
    };
    connections.list().iter().map(of_proxy).collect()
}

/// Every Service.
pub fn registryz(world: &World) -> Value {
    let of_service = |it: summary::ServiceSummary| {
        let ports: Vec<Value> =
            it.ports.iter().map(|(port, name)| json!({"port": port, "name": name})).collect();
        json!({
            "Attributes": {"Name": it.name, "Namespace": it.namespace, "ServiceRegistry": "Tulle"},
            "hostname": it.host,
            "ports": ports,
            "clusterVIPs": it.addresses,
            "workloads": it.workloads,
        })
    };
    summary::services(world).into_iter().map(of_service).collect()
}

/// The workloads of every Service.
pub fn endpointz(world: &World) -> Value {
    let workloads = summary::workloads(world);
    let of_service = |it: summary::ServiceSummary| {
        let own =
            workloads.iter().filter(|one| one.namespace == it.namespace && it.workloads.contains(&one.name));
        let endpoints: Vec<Value> = own
            .map(|one| {
                json!({
                    "address": one.address,
                    "serviceAccount": one.service_account,
                    "labels": one.labels,
                    "workload": one.name,
                })
            })
            .collect();
        json!({"svc": it.host, "namespace": it.namespace, "endpoints": endpoints})
    };
    summary::services(world).into_iter().map(of_service).collect()
}

/// Every resource that was read: what names it and where it is written (the text itself stays in its file).
pub fn configz(world: &World) -> Value {
    let of_resource = |(key, origin): (api::Key, &api::Origin)| {
        json!({
            "kind": key.kind.as_str(),
            "apiVersion": key.kind.api_versions().first(),
            "metadata": {"name": key.name, "namespace": key.namespace},
            "place": origin.place("spec"),
        })
    };
    verdicts::objects(world).into_iter().map(of_resource).collect()
}
