//! Small types that two or more rooms share: SPIFFE ids, the clock trait, reason codes, expressions.
//!
//! Pure: no IO, no tokio, no global state.

pub mod clock;
pub mod expression;
pub mod reason;
pub mod spiffe;

pub use clock::Clock;
pub use reason::{Blame, Reason};
pub use spiffe::{Spiffe, SpiffeError};
