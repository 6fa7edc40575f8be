//! One file per xDS message that is made.

pub mod access_log;
pub mod cluster;
mod default_access_log;
pub mod detection;
pub mod header_limits;
pub mod http_connection_manager;
pub mod inbound_chains;
pub mod listener;
pub mod load_assignment;
pub mod route_configuration;
pub mod stats;
pub mod tcp_proxy;
pub mod tracer;
pub mod tracing;
pub mod transport_socket;
pub mod upstream_http;

#[cfg(test)]
mod tests;
