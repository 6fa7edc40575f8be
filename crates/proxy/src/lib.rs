//! The data plane: from an accepted connection to the access log, in the order of `docs/life-of-a-request.md`.

pub mod admin;
pub mod allocator;
pub mod filter;
pub mod host;
pub mod http;
pub mod identity;
pub mod listen;
pub mod route;
pub mod state;
pub mod tcp;
pub mod telemetry;
pub mod tls;
pub mod upstream;
