//! HTTP/2 as the client and the upstreams of a case speak it: frame by frame, so that a case can say anything.

pub mod frame;
pub mod hpack;
mod huffman;
pub mod notation;
pub mod peer;
pub mod server;
