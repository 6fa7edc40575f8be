//! The control plane: source, store, push, serve.

pub mod bounded;
pub mod ca;
pub mod csr;
pub mod encoding;
pub mod files;
pub mod metrics;
pub mod options;
pub mod peer;
pub mod push;
pub mod rate;
pub mod run;
pub mod serve;
pub mod source;
pub mod store;
pub mod timestamp;
pub mod token;

#[cfg(test)]
mod testing;
