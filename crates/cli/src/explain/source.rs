//! From a thing of the mesh to the file and line where its author wrote it.

use std::sync::Arc;

use api::{Origin, Resource};
use serde::Serialize;
use translate::World;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `kind/namespace/name#part`.
    pub resource: String,
    /// `file:line`; empty when nobody wrote it.
    pub place: String,
}

impl Source {
    fn new(resource: &str, origin: &Origin, field: &str) -> Self {
        Source { resource: resource.to_owned(), place: origin.place(field) }
    }
}

/// Where `kind/namespace/name#http[1]`, as the configuration carries it, was written.
pub fn of_origin(world: &World, origin: &str) -> Source {
    let (resource, part) = origin.split_once('#').unwrap_or((origin, ""));
    let field = if part.is_empty() { "spec".to_owned() } else { format!("spec.{part}") };
    let found = find(world, resource);
    Source {
        resource: origin.to_owned(),
        place: found.map(|origin| origin.place(&field)).unwrap_or_default(),
    }
}

/// The AuthorizationPolicy and rule behind a name in the configuration: `ns[a]-policy[b]-rule[0]`.
pub fn of_policy(world: &World, name: &str) -> Option<Source> {
    let (namespace, rest) = name.strip_prefix("ns[")?.split_once("]-policy[")?;
    let (policy, rest) = rest.split_once("]-rule[")?;
    let rule = rest.strip_suffix(']')?;
    let objects = world.namespace(namespace)?;
    let found = objects.authorization_policies.get(policy)?;
    let resource = format!("AuthorizationPolicy/{namespace}/{policy}#rules[{rule}]");
    Some(Source::new(&resource, &found.origin, &format!("spec.rules[{rule}]")))
}

/// Where a resource as a whole was written.
pub fn of_resource<S>(kind: &str, resource: &Resource<S>) -> Source {
    let name = format!("{kind}/{}/{}", resource.meta.namespace, resource.meta.name);
    Source::new(&name, &resource.origin, "spec")
}

fn find<'w>(world: &'w World, resource: &str) -> Option<&'w Origin> {
    let mut parts = resource.split('/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let objects = world.namespace(namespace)?;
    fn origin<S>(found: Option<&Arc<Resource<S>>>) -> Option<&Origin> {
        found.map(|it| &it.origin)
    }
    match kind {
        "VirtualService" => origin(world.serving(namespace, name)),
        "Service" => origin(objects.services.get(name)),
        "DestinationRule" => origin(objects.destination_rules.get(name)),
        "WorkloadEntry" => origin(objects.workload_entries.get(name)),
        "PeerAuthentication" => origin(objects.peer_authentications.get(name)),
        "AuthorizationPolicy" => origin(objects.authorization_policies.get(name)),
        _ => None,
    }
}
