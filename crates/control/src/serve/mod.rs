//! The ports of `tulled`: 15012 (TLS), 15010 (plaintext, loopback only, when asked for) and 15014 (monitoring).

pub mod ads;
pub mod debug;
pub mod grpc;
pub mod listener;
pub mod live;
pub mod monitoring;
pub mod observe;
pub mod query;
pub mod raise;
pub mod status;
pub mod tls;
pub mod why;
pub mod why_order;

pub use crate::peer::PeerIdentity;
