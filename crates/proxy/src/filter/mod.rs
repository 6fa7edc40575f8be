//! What happens to a request between the codec and the upstream connection.
//!
//! [`HttpChain`] is built once per connection manager of the configuration and shared by all workers. [`Worker`] is one
//! worker's side. [`ConnectionManager`] serves one connection: it is the codec's handler.

pub mod chain;
pub mod client_certificate;
pub mod connection;
pub mod deadlines;
pub mod denial_log;
pub mod exchange;
pub mod forwarded;
pub mod grpc_reply;
mod local_reply;
pub mod manager;
#[cfg(test)]
mod mesh_tests;
pub mod peer_metadata;
pub mod rbac;
pub mod request_body;
pub mod response_body;
pub mod response_headers;
pub mod retried;
#[cfg(test)]
mod retry_chain_tests;
pub mod router;
pub mod stats;
#[cfg(test)]
pub(crate) mod testing;
pub mod timeouts;
mod timers;
pub mod tracing;
mod upgrade;
mod watching;
pub mod worker;

pub use chain::{Filter, HttpChain, Verdict};
pub use connection::Downstream;
pub use exchange::Exchange;
pub use local_reply::LocalReply;
pub use manager::ConnectionManager;
pub use worker::{Shared, Worker};
