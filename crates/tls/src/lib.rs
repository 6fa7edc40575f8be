//! Who a TLS peer is, and whether it may be: what the data plane, the control plane and the command line verify alike.
//!
//! Invariants: a chain is verified before anything in the leaf is believed; a mesh identity is exactly one URI name, and
//! names are compared whole; no verifier accepts everybody. No IO but reading a PEM file that the caller names, no tasks,
//! no clock but the one that is given.

pub mod clock;
pub mod error;
pub mod peer;
pub mod pem;
pub mod pin;
pub mod rules;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod token;
pub mod verify;

pub use clock::HandshakeClock;
pub use error::{HandshakeError, Side, Validity, clock_text};
pub use peer::Peer;
pub use pin::RootPin;
pub use rules::{PeerRefused, PeerRules, SanKind, SanRule};
pub use token::JoinToken;
pub use verify::{ClientVerifier, ServerVerifier, Trust};
