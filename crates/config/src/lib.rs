//! The data plane's configuration: a plain, immutable [`model`], and the only readers of Envoy's config protobufs.
//!
//! Every field of a message gets one of three answers: it is acted on, it is [`Refused`] with path and reason, or it is
//! accepted and reported as [`NotActing`]. Pure: no IO, no clock.

pub mod acting;
mod context;
pub mod model;
mod read;

pub use context::{NotActing, Read, Refused};
pub use read::parse_expression;
pub use read::{read_bootstrap, read_cluster, read_listener, read_load_assignment, read_route_configuration};
