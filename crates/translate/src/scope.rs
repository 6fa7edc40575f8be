//! What one translation looks at: the World, the proxy, and the proxy's own workload.

use std::net::IpAddr;
use std::sync::Arc;

use api::Resource;
use api::kinds::service::Service;
use api::kinds::workload_entry::WorkloadEntry;

use crate::kinds::{service, workload_entry};
use crate::merge::{self, Labels};
use crate::node::{Flavour, ProxyNode};
use crate::world::World;

/// One address of the proxy's workload.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The address.
    pub address: IpAddr,
    /// The entry that has it; a stand-in with the node's labels when no resource has.
    pub entry: Arc<Resource<WorkloadEntry>>,
}

/// The World as one proxy sees it.
#[derive(Debug)]
pub struct Scope<'w> {
    /// The World.
    pub world: &'w World,
    /// The proxy.
    pub node: &'w ProxyNode,
    /// The workload's labels: the registry's, or the node's own when the registry does not know it.
    pub labels: Labels,
    /// The workload's addresses.
    pub instances: Vec<Instance>,
}

impl<'w> Scope<'w> {
    /// Finds the proxy's workload in the World.
    pub fn new(world: &'w World, node: &'w ProxyNode) -> Self {
        let entries =
            world.namespace(&node.namespace).into_iter().flat_map(|it| it.workload_entries.values());
        let mut instances: Vec<Instance> = entries
            .filter_map(|entry| {
                Some(Instance { address: workload_entry::address(&entry.spec)?, entry: entry.clone() })
            })
            .filter(|instance| node.addresses.contains(&instance.address))
            .collect();
        // Of several entries with one address the first by name counts.
        let mut seen = Vec::new();
        instances.retain(|instance| {
            !seen.contains(&instance.address) && {
                seen.push(instance.address);
                true
            }
        });
        let labels = match instances.first() {
            Some(instance) => workload_entry::labels(&instance.entry),
            None => node.labels.clone(),
        };
        if instances.is_empty() {
            instances.extend(node.addresses.first().map(|address| stand_in(node, *address)));
        }
        Scope { world, node, labels, instances }
    }

    /// The client's namespace.
    pub fn namespace(&self) -> &'w str {
        &self.node.namespace
    }

    /// Whether the proxy knows the filters and options of `tulle-proxy`.
    pub fn is_tulle(&self) -> bool {
        self.node.flavour == Flavour::Tulle
    }

    /// The Services that the proxy may call, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &'w Arc<Resource<Service>>> {
        let (world, namespace) = (self.world, self.namespace());
        world.services().filter(move |service| merge::service_visible(world, service, namespace))
    }

    /// The Service with this full name, if the proxy may call it.
    pub fn service(&self, fqdn: &str) -> Option<&'w Arc<Resource<Service>>> {
        let service = self.world.service(fqdn)?;
        merge::service_visible(self.world, service, self.namespace()).then_some(service)
    }

    /// The Services of which the workload is an instance.
    pub fn own_services(&self) -> impl Iterator<Item = &'w Arc<Resource<Service>>> {
        let objects = self.world.namespace(self.namespace());
        let all = objects.into_iter().flat_map(|objects| objects.services.values());
        all.filter(|it| service::selects(&it.spec, &self.labels))
    }

    /// The DestinationRules that hold for a host as this proxy sees them.
    pub fn destination_rule(&self, host: &str) -> merge::MergedRule<'w> {
        merge::destination_rule(self.world, self.namespace(), &self.labels, host)
    }
}

fn stand_in(node: &ProxyNode, address: IpAddr) -> Instance {
    let mut entry = Resource::<WorkloadEntry>::default();
    entry.meta.name.clone_from(&node.workload);
    entry.meta.namespace.clone_from(&node.namespace);
    entry.spec.address = address.to_string();
    entry.spec.labels = node.labels.clone();
    entry.spec.service_account.clone_from(&node.service_account);
    Instance { address, entry: Arc::new(entry) }
}
