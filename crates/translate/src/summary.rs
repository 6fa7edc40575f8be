//! Plain overviews of a World for status pages: Services and workloads.

use std::collections::BTreeMap;

use crate::host;
use crate::kinds::{service, workload_entry};
use crate::merge;
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

/// What is doubled or missing in a World, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hosts that several VirtualServices of the mesh claim.
    pub duplicate_hosts: usize,
    /// Subsets that several DestinationRules of one host name.
    pub duplicate_subsets: usize,
    /// Ports of Services that no workload serves.
    pub ports_without_workloads: usize,
}

/// Counts what is doubled or missing.
pub fn counts(world: &World) -> Counts {
    let mut hosts: BTreeMap<String, usize> = BTreeMap::new();
    let mut subsets: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (namespace, objects) in world.namespaces() {
        for route in objects.virtual_services.values().filter(|it| merge::applies_to_mesh(&it.spec)) {
            for name in &route.spec.hosts {
                *hosts.entry(host::expand(name, namespace)).or_default() += 1;
            }
        }
        for rule in objects.destination_rules.values() {
            for subset in &rule.spec.subsets {
                let key = (host::expand(&rule.spec.host, namespace), subset.name.clone());
                *subsets.entry(key).or_default() += 1;
            }
        }
    }
    let lonely = world.services().filter(|it| service::workloads(world, it).next().is_none());
    Counts {
        duplicate_hosts: hosts.values().filter(|count| **count > 1).count(),
        duplicate_subsets: subsets.values().filter(|count| **count > 1).count(),
        ports_without_workloads: lonely.map(|it| it.spec.ports.len()).sum(),
    }
}
