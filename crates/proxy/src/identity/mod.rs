//! The workload's identity: key, certificate and trust bundle, from the join token to the hourly renewal.
//!
//! The private key is made here and lives in this process's memory and in the state directory (0600), nowhere else.

pub mod material;
pub mod renew;
pub mod request;
pub mod seal;
pub mod store;
#[cfg(test)]
mod tests;

pub use renew::{Keeper, Options, Renewal, Status};
pub use request::Service;
