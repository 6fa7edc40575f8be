//! Forwarding of bytes (`envoy.filters.network.tcp_proxy`).

pub mod chain;
pub mod copy;
pub mod dial;
pub mod forward;
pub mod metrics;
pub mod prefixed;

pub use chain::TcpChain;
pub use dial::{Dialled, dial, record};
pub use forward::{Forwarder, forward};
