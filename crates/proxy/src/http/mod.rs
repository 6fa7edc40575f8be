//! The codec seam: filters and routing see one request head and one body, whatever the protocol on the wire.
//!
//! `headers`, `head`, `body` and `handler` are the seam; each codec is a folder beside them.

pub mod body;
pub mod handler;
pub mod head;
pub mod headers;

pub use body::{Body, BodyError, BodyStream, Frame};
pub use handler::{Handler, Informational, InformationalSink, LocalBoxFuture};
pub use head::{BodyLength, RequestHead, ResponseHead, Scheme, Version};
pub use headers::Headers;
