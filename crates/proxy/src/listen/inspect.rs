//! A look at the first bytes of a connection: TLS or not, and what its ClientHello asks for.

use std::io;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest ClientHello that is looked at, in bytes (Envoy's `max_client_hello_size`).
const MAX_CLIENT_HELLO: usize = 16 * 1024;
/// First byte of a TLS record that holds a handshake message (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;

/// What the first bytes say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// It is TLS.
    pub tls: bool,
    /// Server name, in lower case.
    pub sni: Option<String>,
    /// Application protocols that are offered.
    pub alpn: Vec<String>,
}

/// Reads into `buffer` until it is known what the connection speaks. Whoever comes next has to see these bytes again.
///
/// # Errors
/// The peer closed or broke the connection first, or its ClientHello is not one or too long.
pub async fn inspect<IO: AsyncRead + Unpin>(io: &mut IO, buffer: &mut BytesMut) -> io::Result<Seen> {
    if !is_tls(io, buffer).await? {
        return Ok(Seen::default());
    }
    loop {
        match client_hello(buffer)? {
            Some(seen) => return Ok(seen),
            None if buffer.len() >= MAX_CLIENT_HELLO => {
                let reason = format!("a ClientHello of more than {MAX_CLIENT_HELLO} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
            }
            None => read_more(io, buffer).await?,
        }
    }
}

/// Reads the first byte at least, and tells TLS from anything else.
///
/// # Errors
/// The peer closed or broke the connection first.
pub async fn is_tls<IO: AsyncRead + Unpin>(io: &mut IO, buffer: &mut BytesMut) -> io::Result<bool> {
    if buffer.is_empty() {
        read_more(io, buffer).await?;
    }
    Ok(buffer.first() == Some(&HANDSHAKE))
}

async fn read_more<IO: AsyncRead + Unpin>(io: &mut IO, buffer: &mut BytesMut) -> io::Result<()> {
    if io.read_buf(buffer).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before its protocol was known"));
    }
    Ok(())
}

/// `None`: not whole yet.
fn client_hello(bytes: &[u8]) -> io::Result<Option<Seen>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        let invalid =
            |(error, _)| io::Error::new(io::ErrorKind::InvalidData, format!("not a ClientHello: {error}"));
        if let Some(accepted) = acceptor.accept().map_err(invalid)? {
            let hello = accepted.client_hello();
            let alpn =
                hello.alpn().into_iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned());
            return Ok(Some(Seen {
                tls: true,
                sni: hello.server_name().map(str::to_ascii_lowercase),
                alpn: alpn.collect(),
            }));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;
    use rustls::pki_types::ServerName;
    use std::sync::Arc;
    use tokio::io::AsyncWriteExt;

    fn hello() -> Vec<u8> {
        let roots = crate::tls::pem::roots("test", &[Authority::new("root").certificate]).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"istio-http/1.1".to_vec(), b"istio".to_vec()];
        let name = ServerName::try_from("Payment.production").unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    #[tokio::test]
    async fn a_client_hello_is_read_even_byte_by_byte() {
        let (mut near, mut far) = tokio::io::duplex(1);
        let bytes = hello();
        let mut read = BytesMut::new();
        let (_, seen) = tokio::join!(near.write_all(&bytes), inspect(&mut far, &mut read));
        let seen = seen.unwrap();
        assert_eq!(read, bytes);
        assert_eq!((seen.tls, seen.sni.as_deref()), (true, Some("payment.production")));
        assert_eq!(seen.alpn, ["istio-http/1.1", "istio"]);
    }

    #[tokio::test]
    async fn other_bytes_are_plaintext_and_come_back() {
        let mut read = BytesMut::with_capacity(64);
        let seen = inspect(&mut &b"GET / HTTP/1.1\r\n"[..], &mut read).await.unwrap();
        assert_eq!((seen, &read[..]), (Seen::default(), &b"GET / HTTP/1.1\r\n"[..]));
        assert!(inspect(&mut &b""[..], &mut BytesMut::new()).await.is_err());
    }

    #[tokio::test]
    async fn what_only_begins_like_tls_is_refused() {
        let mut endless = Vec::from([HANDSHAKE, 3, 1, 0x40, 0]);
        endless.extend([1, 0, 0xff, 0xff]);
        endless.resize(40_000, 0);
        assert!(inspect(&mut &endless[..], &mut BytesMut::new()).await.is_err());
        assert!(inspect(&mut &[HANDSHAKE, 0, 0, 0, 0, 0, 0, 0][..], &mut BytesMut::new()).await.is_err());
    }
}
