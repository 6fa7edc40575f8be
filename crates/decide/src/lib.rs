//! Decisions of the data plane as pure functions: which virtual host and route takes a request, which cluster gets it,
//! what the canonical path is, whether authorization allows it. The proxy and `tulle explain` share them.
//!
//! Pure: no IO, no clock, no randomness of its own. Nothing allocates in proportion to configuration.

pub mod expression;
pub mod header_match;
pub mod path;
pub mod query_match;
pub mod rbac;
pub mod rewrite;
pub mod route;
pub mod string_match;
pub mod view;
pub mod virtual_host;
pub mod weighted;

pub use header_match::header_matches;
pub use path::{Canonical, PathOptions, canonical_path};
pub use query_match::query_matches;
pub use rbac::{Verdict, connection_verdict, request_verdict};
pub use route::{ChosenCluster, ChosenRoute, pick_cluster, pick_route};
pub use string_match::string_matches;
pub use view::{PeerView, RequestView};
pub use virtual_host::pick_virtual_host;
pub use weighted::pick_weighted;

#[cfg(test)]
mod testing;
