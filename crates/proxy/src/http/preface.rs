//! HTTP/2 with prior knowledge: told from HTTP/1 by the first bytes of a connection (RFC 9113, section 3.4).

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Reads into `buffer` until it is known whether the connection begins with the preface. Whoever comes next has to see
/// these bytes again. A connection that ends first does not.
///
/// # Errors
/// The connection broke.
pub async fn is_http2<IO: AsyncRead + Unpin>(io: &mut IO, buffer: &mut BytesMut) -> io::Result<bool> {
    loop {
        let seen = buffer.len().min(PREFACE.len());
        if buffer[..seen] != PREFACE[..seen] {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        if io.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn tells_the_preface_from_everything_else_and_keeps_the_bytes() {
        for (bytes, expected) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nrest"[..], true),
            (b"PRI * HTTP/2.0\r\n\r\nSN", false),
            (b"PRI * HTTP/2.0\r\n\r\n", false),
            (b"POST / HTTP/1.1\r\n", false),
            (b"", false),
        ] {
            let (mut client, mut server) = duplex(64);
            let mut buffer = BytesMut::new();
            let (seen, ()) = tokio::join!(is_http2(&mut server, &mut buffer), async {
                for piece in bytes.chunks(3) {
                    client.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                drop(client);
            });
            assert_eq!(seen.unwrap(), expected, "{bytes:?}");
            assert_eq!(buffer[..], bytes[..buffer.len()]);
        }
    }
}
