//! Where something was written, for the answer.

use api::Resource;
use serde::Serialize;
use translate::{World, source};

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Source {
    /// `kind/namespace/name#part`.
    pub resource: String,
    /// `file:line`; empty when nobody wrote it.
    pub place: String,
}

/// Where `kind/namespace/name#http[1]`, as the configuration carries it, was written.
pub fn of_origin(world: &World, origin: &str) -> Source {
    Source { resource: origin.to_owned(), place: source::place(world, origin) }
}

/// Where a resource as a whole was written.
pub fn of_resource<S>(kind: &str, resource: &Resource<S>) -> Source {
    let name = format!("{kind}/{}/{}", resource.meta.namespace, resource.meta.name);
    Source { resource: name, place: resource.origin.place("spec") }
}
