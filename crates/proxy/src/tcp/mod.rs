//! Forwarding of bytes (`envoy.filters.network.tcp_proxy`).

pub mod copy;
pub mod forward;

pub use forward::{Forwarder, forward};
