//! The process around the data plane: command line, bootstrap, threads, identity, xDS, admin, drain.

pub mod ads;
pub mod bootstrap;
mod export;
pub mod node;
mod observe;
mod observe_story;
pub mod options;
mod run;
mod survive;
#[cfg(test)]
mod survive_tests;
#[cfg(test)]
mod tests;

pub use options::Options;
pub use run::run;
