//! The admin server, in Envoy's shapes so that existing tools read it. On the main thread, off the request path.
//!
//! Invariants: pages are rendered when they are asked for and freed afterwards; no page shows a private key; what
//! changes something takes POST only.

mod actions;
mod app_metrics;
mod certs;
mod clusters;
mod config_dump;
mod json;
mod listeners;
mod membership;
mod page;
mod readiness;
mod server;
mod server_info;
mod stat_names;
mod stats;
mod status_port;
mod trace_context;

pub use membership::Membership;
pub use page::{Context, render};
pub use readiness::{Readiness, State};
pub use server::{AdminPages, bind, serve};
pub use server_info::CommandLine;
pub use status_port::{StatusPages, StatusPort};
