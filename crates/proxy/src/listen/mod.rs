//! From a bound address to a connection whose protocol is known.
//!
//! Invariants: a port belongs to one process; a changed listener keeps its socket; plaintext on a chain that demands
//! TLS is closed without a byte.

pub mod authorize;
pub mod bind;
pub mod bound;
pub mod chain;
pub mod choose;
pub mod connection;
pub mod drain;
pub mod inspect;
pub mod last_accept;
pub mod limits;
pub mod manager;
pub mod options;
pub mod prefixed;
#[cfg(test)]
mod tests;
pub mod worker;

pub use chain::Parts;
pub use limits::ConnectionLimit;
pub use manager::{Command, Listening, Manager};
pub use worker::Worker;
