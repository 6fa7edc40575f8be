//! The data plane: from an accepted connection to the access log, in the order of `docs/life-of-a-request.md`.

pub mod http;
pub mod identity;
pub mod route;
pub mod telemetry;
pub mod tls;
pub mod upstream;
pub mod state;
