//! How HTTP/2 is spoken to upstreams.

use std::time::Duration;

/// `Http2ProtocolOptions` of a cluster, defaults resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http2ClientOptions {
    /// Streams at once on one connection; the host may allow fewer.
    pub max_concurrent_streams: u32,
    /// Bytes of one response that the host may send before somebody reads them.
    pub initial_stream_window_size: u32,
    /// The same for all responses of a connection together.
    pub initial_connection_window_size: u32,
    /// Bytes of the table of header fields that the host may use.
    pub hpack_table_size: u32,
    /// All headers of a response together, in bytes (60 KiB by default).
    pub max_response_headers_bytes: usize,
    /// Pings on connections.
    pub keepalive: Option<Http2Keepalive>,
}

impl Default for Http2ClientOptions {
    /// Windows smaller than Envoy's (16 and 24 MiB): they are what a slow client can make this proxy keep.
    fn default() -> Self {
        Http2ClientOptions {
            max_concurrent_streams: 1024,
            initial_stream_window_size: 256 * 1024,
            initial_connection_window_size: 16 * 1024 * 1024,
            hpack_table_size: 4096,
            max_response_headers_bytes: 60 * 1024,
            keepalive: None,
        }
    }
}

/// `KeepaliveSettings`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http2Keepalive {
    /// Between two pings.
    pub interval: Duration,
    /// The connection is closed when a ping is not answered for so long.
    pub timeout: Duration,
}
