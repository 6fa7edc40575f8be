//! Which cluster a request goes to, or what the proxy answers itself: a thin use of `decide` on the current routing.

pub mod canonical;
pub mod header_operations;
pub mod live;
pub mod pick;
pub mod rewrite;
pub mod view;

pub use live::{LiveRouting, Routing};
pub use pick::Picked;
