//! Istio and core Kubernetes resources as typed Rust values: parse with positions, validate, report what does not act.
//!
//! Pure: no IO, no clock, no tokio. Input is distrusted and bounded ([`limits`]).
//!
//! Entry points: [`parse()`] for the resources of a file, [`parse_mesh_config()`] for the settings of the mesh,
//! [`acting::not_acting()`] for the fields of a resource that are accepted and do not act yet, [`Origin::position()`] for
//! the line of a field, [`duplicate()`] for two files that name the same resource.
//!
//! A file goes through: bytes → text (`parse`) → trees with places (`tree`) → which kind (`document`) → typed values
//! (`decode`, `kinds`) → Istio's rules (`validate`) → [`Object`]s and [`Problem`]s (`collector`).

pub mod acting;
mod collector;
mod decode;
mod document;
pub mod duration;
pub mod kinds;
pub mod limits;
mod mesh;
pub mod object;
pub mod origin;
mod parse;
mod path;
pub mod problem;
mod report;
mod text;
mod tree;
mod validate;

pub use duration::Duration;
pub use kinds::authorization_policy::AuthorizationPolicy;
pub use kinds::destination_rule::DestinationRule;
pub use kinds::mesh_config::MeshConfig;
pub use kinds::namespace::Namespace;
pub use kinds::peer_authentication::PeerAuthentication;
pub use kinds::service::Service;
pub use kinds::telemetry::Telemetry;
pub use kinds::virtual_service::VirtualService;
pub use kinds::workload_entry::WorkloadEntry;
pub use mesh::parse_mesh_config;
pub use object::{Key, Kind, Object, ObjectMeta, Resource};
pub use origin::{Origin, Position, Positions};
pub use parse::{Parsed, duplicate, parse, too_large};
pub use problem::{Level, Problem};
