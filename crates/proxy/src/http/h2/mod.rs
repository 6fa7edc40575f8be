//! HTTP/2 (RFC 9113) with header compression (RFC 7541).
//!
//! `connection` is the protocol without input and output: frames in, events and bytes out. `server` and `client` move the
//! bytes and hand heads and bodies over the seam.

pub mod client;
mod client_exchange;
mod code;
mod connection;
mod connection_data;
mod connection_heads;
mod fields;
mod fields_written;
mod floods;
mod frame;
pub(crate) mod fuzzing;
mod hpack_decoder;
mod hpack_encoder;
mod hpack_static;
mod huffman;
mod output;
mod reader;
mod ready;
mod receiver;
mod sender;
pub mod server;
mod server_exchange;
mod settings;
mod streams;
mod windows;

pub use code::Code;
