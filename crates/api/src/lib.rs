//! Istio and core Kubernetes resources as typed Rust values: parse with positions, validate, report what does not act.
//!
//! Pure: no IO, no clock, no tokio. Input is distrusted and bounded. Entry points: [`parse()`] for resources,
//! [`parse_mesh_config()`] for the mesh's settings.

pub mod duration;
pub mod kinds;
pub mod object;
pub mod origin;
pub mod problem;

pub use duration::Duration;
pub use kinds::authorization_policy::AuthorizationPolicy;
pub use kinds::destination_rule::DestinationRule;
pub use kinds::mesh_config::MeshConfig;
pub use kinds::namespace::Namespace;
pub use kinds::peer_authentication::PeerAuthentication;
pub use kinds::service::Service;
pub use kinds::virtual_service::VirtualService;
pub use kinds::workload_entry::WorkloadEntry;
pub use object::{Key, Kind, Object, ObjectMeta, Resource};
pub use origin::{Origin, Position, Positions};
pub use problem::{Level, Problem};

/// What [`parse()`] found in one file.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Every resource that is valid, in the order of the file.
    pub objects: Vec<Object>,
    /// Everything worth saying, in the order of the file.
    pub problems: Vec<Problem>,
}
