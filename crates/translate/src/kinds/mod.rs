//! What each kind of resource means, one file per kind, and the verdict on each.

use crate::note::Note;
use crate::world::World;

pub mod authorization_policy;
pub mod destination_rule;
pub mod format_string;
pub mod http_match;
pub mod http_route;
pub mod mesh_config;
pub mod peer_authentication;
pub mod policy_permission;
pub mod policy_principal;
pub mod sendable;
pub mod service;
pub mod telemetry;
pub mod tracing;
pub mod virtual_service;
pub mod workload_entry;

/// Collects what users must be told about every resource of the World.
pub fn verdicts(world: &World, notes: &mut Vec<Note>) {
    mesh_config::verdict(world.mesh(), notes);
    tracing::verdict(world, notes);
    for (_, objects) in world.namespaces() {
        objects.services.values().for_each(|it| service::verdict(world, it, notes));
        objects.workload_entries.values().for_each(|it| workload_entry::verdict(it, notes));
        objects.virtual_services.values().for_each(|it| virtual_service::verdict(world, it, notes));
        objects.destination_rules.values().for_each(|it| destination_rule::verdict(world, it, notes));
        objects.peer_authentications.values().for_each(|it| peer_authentication::verdict(world, it, notes));
        objects
            .authorization_policies
            .values()
            .for_each(|it| authorization_policy::verdict(world, it, notes));
        objects.telemetries.values().for_each(|it| telemetry::verdict(world, it, notes));
    }
}
