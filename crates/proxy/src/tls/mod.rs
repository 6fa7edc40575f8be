//! TLS on both sides of this proxy: the workload's secrets, the two ends, and what an open connection is known by. Who a
//! peer is and whether it may be stands in the room [`tls`].
//!
//! Invariant: no connection is used before its peer's chain was verified against roots and its leaf against
//! [`PeerRules`]; there is no mode without verification.

pub mod channel;
pub mod client;
mod generation;
pub mod secrets;
pub mod server;
pub mod session;
mod source;
// One set of test authorities for both rooms; as a feature of the room it would be built twice.
#[cfg(test)]
mod resumption_tests;
#[cfg(test)]
#[path = "../../../tls/src/testing.rs"]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use ::tls::{
    HandshakeError, JoinToken, Peer, PeerRefused, PeerRules, RootPin, ServerVerifier, Side, Trust,
    clock_text, error, pem, rules,
};
pub use client::ClientTls;
pub use secrets::{SecretSet, Secrets};
pub use server::ServerTls;
pub use session::Session;
pub use source::TlsConfigError;
