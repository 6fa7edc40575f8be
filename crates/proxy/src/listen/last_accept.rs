//! Closes a listening socket without losing a connection.
//!
//! What waits in the accept queue when a socket closes is reset, and so is a handshake that is under way: its client
//! believes that it is connected, and may have sent a request that nobody can say was not executed. So the socket is
//! first taken out of the way of new handshakes, which the kernel then refuses at once: a client hears that nothing of
//! it arrived, and goes elsewhere without losing time. Those under way get a moment; then the queue is emptied, and the
//! socket closed.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// How long a handshake that is under way may take to end.
const HANDSHAKES: Duration = Duration::from_millis(20);
/// Index of a network interface that no machine has: Linux counts them up from one.
const NOWHERE: Option<NonZeroU32> = NonZeroU32::new(i32::MAX.unsigned_abs());

/// Serves what has connected already, and closes.
pub async fn close(listener: TcpListener, mut serve: impl FnMut(TcpStream, SocketAddr)) {
    if let Err(error) = refuse(&listener).or_else(|_| hold_off(&listener)) {
        tracing::debug!("handshakes that are under way cannot be waited for: {error}");
    }
    let end = Instant::now() + HANDSHAKES;
    while let Ok(Ok((stream, peer))) = tokio::time::timeout_at(end, listener.accept()).await {
        serve(stream, peer);
    }
}

/// The kernel no longer finds this socket for new connections and answers them with a reset, while handshakes that
/// have begun still end here: a listener that is bound to an interface is found only for segments that come through it
/// (socket(7), `SO_BINDTODEVICE`; by index since Linux 5.1, without privileges since 5.7).
fn refuse(listener: &TcpListener) -> io::Result<()> {
    // The option is the same one for both families.
    SockRef::from(listener).bind_device_by_index_v4(NOWHERE)
}

/// Where that is not allowed: the kernel drops every segment that asks for a new connection (RFC 9293: SYN, the second
/// bit of byte 13). Its client asks again after a second, and is refused, or served by the next process.
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

    /// A client that is refused knows at once that nothing of it arrived; one that connected is served.
    #[tokio::test]
    async fn a_new_handshake_is_refused_at_once_and_one_that_ended_is_served() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).await.unwrap();
            let address = listener.local_addr().unwrap();
            let early = std::net::TcpStream::connect(address).unwrap();
            refuse(&listener).unwrap();
            let late = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(500));
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            let (_, peer) = listener.accept().await.unwrap();
            assert_eq!(peer, early.local_addr().unwrap());
        }
    }

    /// Clients connect all the time while sockets close: each is served whole or refused, none is reset or kept waiting.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn whoever_connects_meanwhile_is_served_or_refused() {
        let (mut served, mut refused) = (0, 0);
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let clients = tokio::task::spawn_blocking(move || {
                let (mut served, mut refused) = (0, 0);
                while refused < 3 {
                    let begun = std::time::Instant::now();
                    match std::net::TcpStream::connect(address) {
                        Ok(mut client) => {
                            client.write_all(b"request").unwrap();
                            let mut answer = [0; 7];
                            client.read_exact(&mut answer).unwrap();
                            served += 1;
                        }
                        Err(error) => {
                            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
                            assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
                            refused += 1;
                        }
                    }
                }
                (served, refused)
            });
            let (mut first, _) = listener.accept().await.unwrap();
            answer(&mut first).await;
            let streams = RefCell::new(Vec::new());
            close(listener, |stream, _| streams.borrow_mut().push(stream)).await;
            for mut stream in streams.take() {
                answer(&mut stream).await;
            }
            let (more_served, more_refused) = clients.await.unwrap();
            served += more_served;
            refused += more_refused;
        }
        assert!(served >= 20 && refused == 60, "{served} served, {refused} refused");
    }

    async fn answer(stream: &mut TcpStream) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut request = [0; 7];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(&request).await.unwrap();
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
