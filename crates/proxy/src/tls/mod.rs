//! TLS on both sides: who the peer is, and whether it may be.
//!
//! Invariant: no connection is used before its peer's chain was verified against roots and its leaf against
//! [`rules::PeerRules`]; there is no mode without verification.

pub mod channel;
pub mod client;
pub mod error;
pub mod peer;
pub mod pem;
pub mod rules;
pub mod secrets;
pub mod server;
pub mod session;
mod source;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod verify;

pub use client::ClientTls;
pub use error::{HandshakeError, Side};
pub use peer::Peer;
pub use secrets::{SecretSet, Secrets};
pub use server::ServerTls;
pub use session::Session;
pub use source::TlsConfigError;
