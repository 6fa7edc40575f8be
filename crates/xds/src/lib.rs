//! The aggregated discovery service (ADS, xDS v3) as state machines, client and server, in both of its dialects: delta
//! and state of the world.
//!
//! A resource is a name, a version and an opaque message: this room knows the order in which types must travel
//! ([`order`]) and nothing of what they mean. [`server::Session`] and [`client::Client`] do no IO and read no clock;
//! [`server::AdsService`] and [`client::run`] carry them over tonic.

pub mod client;
#[cfg(test)]
mod loopback;
pub mod order;
pub mod resource;
pub mod server;
#[cfg(test)]
mod testing;
pub mod wire;

pub use resource::Resource;
pub use wire::{Dialect, WILDCARD};
