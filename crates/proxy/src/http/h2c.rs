//! `Upgrade: h2c`: from HTTP/1.1 to HTTP/2 on the same plaintext connection (RFC 7540, section 3.2). The request that asks
//! becomes stream 1, and nobody sees it before the client has begun to speak HTTP/2.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};

use super::h2::server::{Upgraded, are_settings};
use super::head::{RequestHead, Version};
use super::headers::Headers;
use super::hop::ConnectionFields;

/// The answer that accepts.
pub(crate) const ACCEPT: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n";
/// The client's settings, when the offer is whole: `connection` names both fields, there is one `http2-settings`, and it
/// holds settings that are allowed. Anything else is no offer, and the request is answered in HTTP/1.1.
pub(crate) fn settings(
    connection: &ConnectionFields,
    upgrade: Option<&Bytes>,
    settings: &[Bytes],
) -> Option<Bytes> {
    let [settings] = settings else { return None };
    let asked = upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"h2c"));
    if !asked || !connection.has("upgrade") || !connection.has("http2-settings") {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(settings).ok()?;
    (payload.len() <= 64 * 6 && are_settings(&payload)).then(|| payload.into())
}

/// A connection that goes on in HTTP/2.
#[derive(Debug)]
pub struct Switched<IO> {
    /// The connection.
    pub io: IO,
    /// How it begins.
    pub first: Upgraded,
}

impl<IO> Switched<IO> {
    /// `read`: what has come behind the request; `settings`: those of `http2-settings`.
    pub(crate) fn new(io: IO, read: BytesMut, settings: Bytes, request: RequestHead) -> Self {
        let mut head = RequestHead { version: Version::Http2, headers: Headers::new(), ..request };
        for (name, value) in request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"host")) {
            head.headers.append(name.to_ascii_lowercase(), Bytes::copy_from_slice(value));
        }
        Switched { io, first: Upgraded { head, settings, read } }
    }
}

#[cfg(test)]
#[path = "h2c_tests.rs"]
mod tests;
