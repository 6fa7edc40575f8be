//! Plain overviews of a World for status pages: Services and workloads.

use std::collections::BTreeMap;

use crate::kinds::{service, workload_entry};
use crate::world::World;

/// A Service in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSummary {
    /// Full name.
    pub host: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Virtual addresses.
    pub addresses: Vec<String>,
    /// Port numbers with their names.
    pub ports: Vec<(u16, String)>,
    /// Names of the workloads that it selects.
    pub workloads: Vec<String>,
}

/// A workload in short.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadSummary {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Address.
    pub address: String,
    /// Service account; empty when it has none.
    pub service_account: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// Every Service, by namespace and name.
pub fn services(world: &World) -> Vec<ServiceSummary> {
    let summary = |it: &std::sync::Arc<api::Resource<api::Service>>| ServiceSummary {
        host: service::fqdn(it),
        namespace: it.meta.namespace.clone(),
        name: it.meta.name.clone(),
        addresses: it.spec.virtual_addresses().into_iter().map(str::to_owned).collect(),
        ports: it.spec.ports.iter().map(|port| (port.port, port.name.clone())).collect(),
        workloads: service::workloads(world, it).map(|entry| entry.meta.name.clone()).collect(),
    };
    world.services().map(summary).collect()
}

/// Every workload, by namespace and name.
pub fn workloads(world: &World) -> Vec<WorkloadSummary> {
    let summary = |entry: &std::sync::Arc<api::Resource<api::WorkloadEntry>>| WorkloadSummary {
        namespace: entry.meta.namespace.clone(),
        name: entry.meta.name.clone(),
        address: entry.spec.address.clone(),
        service_account: entry.spec.service_account.clone(),
        labels: workload_entry::labels(entry),
    };
    world.workload_entries().map(summary).collect()
}
