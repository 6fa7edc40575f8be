//! Where a redirected connection wanted to go.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address that the client connected to before the system redirected it (`SO_ORIGINAL_DST`); `local` where nothing
/// was redirected, as in Envoy.
pub fn destination(stream: &TcpStream, local: SocketAddr) -> SocketAddr {
    let socket = SockRef::from(stream);
    let asked = if local.is_ipv4() { socket.original_dst_v4() } else { socket.original_dst_v6() };
    asked.ok().and_then(|address| address.as_socket()).unwrap_or(local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_redirected_is_where_it_is() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let local = listener.local_addr().unwrap();
        let _client = TcpStream::connect(local).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        assert_eq!(destination(&stream, local), local);
    }
}
