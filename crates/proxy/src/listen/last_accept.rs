//! Closes a listening socket without losing a connection.
//!
//! What waits in the accept queue when a socket closes is reset, and so is a handshake that is under way: its client
//! believes that it is connected, and may have sent a request that nobody can say was not executed. So new handshakes
//! are held off first; those under way get a moment; then the queue is emptied, and the socket closed. A client whose
//! handshake was held off asks again by itself, and is refused, or served by the next process.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How long a handshake that is under way may take to end.
const HANDSHAKES: Duration = Duration::from_millis(20);

/// Serves what has connected already, and closes.
pub async fn close(listener: TcpListener, mut serve: impl FnMut(TcpStream, SocketAddr)) {
    if let Err(error) = hold_off(&listener) {
        tracing::debug!("handshakes that are under way cannot be waited for: {error}");
    }
    let end = Instant::now() + HANDSHAKES;
    while let Ok(Ok((stream, peer))) = tokio::time::timeout_at(end, listener.accept()).await {
        serve(stream, peer);
    }
}

/// The kernel drops every segment that asks for a new connection (RFC 9293: SYN, the second bit of byte 13).
fn hold_off(listener: &TcpListener) -> io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::io::{Read, Write};

    #[tokio::test]
    async fn whoever_connected_in_time_is_served_and_nobody_comes_after() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut early: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        for client in &mut early {
            client.write_all(b"request").unwrap();
        }
        let served = RefCell::new(Vec::new());
        close(listener, |stream, _| served.borrow_mut().push(stream)).await;
        assert_eq!(served.borrow().len(), 20);
        for stream in served.take() {
            let mut stream = stream.into_std().unwrap();
            stream.set_nonblocking(false).unwrap();
            let mut request = [0; 7];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&request).unwrap();
        }
        for mut client in early {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            assert_eq!(answer, b"request");
        }
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn a_handshake_is_held_off_and_not_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        hold_off(&listener).unwrap();
        let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
