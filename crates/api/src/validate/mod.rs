//! What Istio's validation refuses, one file per kind. Fields are named by path; the report finds their places.

mod authorization_policy;
mod authorization_values;
mod connection;
mod destination_rule;
mod http_route;
mod load_balancer;
mod mesh_config;
mod metadata;
mod names;
mod peer_authentication;
mod service;
mod shared;
mod telemetry;
mod virtual_service;
mod workload_entry;

pub use authorization_policy::authorization_policy;
pub use destination_rule::destination_rule;
pub use mesh_config::mesh_config;
pub use metadata::metadata;
pub use peer_authentication::peer_authentication;
pub use service::service;
pub use telemetry::telemetry;
pub use virtual_service::virtual_service;
pub use workload_entry::workload_entry;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_routes;
#[cfg(test)]
mod tests_rules;
