//! The codec seam: filters and routing see one request head and one body, whatever the protocol on the wire.
//!
//! `headers`, `head`, `body` and `handler` are the seam; each codec is a folder beside them.

mod authority;
pub mod body;
mod chunked;
mod deadline;
pub mod fuzzing;
pub mod h1;
mod h1_buffers;
pub mod h1_client;
mod h1_client_body;
mod h1_decode;
mod h1_encode;
mod h1_exchange;
mod h1_fields;
mod h1_framing;
mod h1_head_reader;
mod h1_request;
mod h1_response;
mod h1_scan;
pub mod h1_server;
pub mod h2;
pub mod h2_fuzzing;
pub mod h2c;
pub mod handler;
pub mod head;
pub mod headers;
mod hop;
pub(crate) mod on_wake;
pub mod preface;
pub mod refusal;

#[cfg(test)]
mod tunnel_tests;

pub use body::{Body, BodyError, BodyStream, Frame};
pub use h2::client as h2_client;
pub use h2::server as h2_server;
pub use handler::{Gone, Handler, Informational, InformationalSink, LocalBoxFuture};
pub use head::{BodyLength, RequestHead, ResponseHead, Scheme, Version};
pub use headers::Headers;
pub use refusal::Refusal;
