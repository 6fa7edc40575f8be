//! From a bound address to a connection whose protocol is known.
//!
//! Invariants: a port belongs to one process; a changed listener keeps its socket; plaintext on a chain that demands
//! TLS is closed without a byte; an edit ends no connection that would be taken if it came now.

pub mod attachment;
#[cfg(test)]
mod attachment_tests;
pub mod authorize;
pub mod bind;
pub mod bound;
pub mod chain;
pub mod choose;
pub mod client_hello;
mod codec;
pub mod connection;
pub mod detect;
#[cfg(test)]
mod detect_tests;
pub mod drain;
mod ended;
pub mod fuzzing;
pub mod inspect;
pub mod last_accept;
pub mod limits;
pub mod manager;
pub mod options;
pub mod original;
pub mod request_line;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod worker;

pub use chain::Parts;
pub use limits::ConnectionLimit;
pub use manager::{Command, Listening, Manager};
pub use worker::Worker;
