//! The configuration in use ([`Live`], [`Snapshot`]) and how it comes about ([`Builder`]).
//!
//! Invariants: a snapshot is never changed, only replaced; a refused resource leaves the version before in use; what a
//! push did not change is shared with the snapshot before.

pub mod builder;
pub mod fuzzing;
pub mod kept;
pub mod notes;
pub mod references;
pub mod sealed;
pub mod sealed_status;
pub mod snapshot;
#[cfg(test)]
mod tests;
pub mod warming;

pub use builder::{Builder, Checks, Stream};
pub use kept::Kept;
pub use notes::Notes;
pub use sealed_status::SealedStatus;
pub use snapshot::{Live, Named, Snapshot};
