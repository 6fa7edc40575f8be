//! HTTP/1.0 and HTTP/1.1 (RFC 9112).
//!
//! Pure parts (scan, request, response, framing, chunked, decode, encode) take bytes and return values; `server` and
//! `client` move the bytes.

pub use super::h1_client as client;
pub use super::h1_server as server;

/// Bounds for one head or one trailer section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on the wire of the first line and all fields. Envoy's `max_request_headers_kb`.
    pub max_headers_bytes: usize,
    /// Number of fields. Envoy's `max_headers_count`.
    pub max_headers_count: usize,
}

impl Default for Limits {
    /// Envoy's defaults: 60 KiB and 100 fields.
    fn default() -> Self {
        Limits { max_headers_bytes: 60 * 1024, max_headers_count: 100 }
    }
}
