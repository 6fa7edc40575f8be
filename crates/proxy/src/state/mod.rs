//! The configuration in use ([`Live`], [`Snapshot`]) and how it comes about ([`Builder`]).
//!
//! Invariants: a snapshot is never changed, only replaced; a refused resource leaves the version before in use; what a
//! push did not change is shared with the snapshot before.

pub mod kept;
pub mod references;
pub mod snapshot;
pub mod warming;

pub use kept::Kept;
pub use snapshot::{Live, Named, Snapshot};
