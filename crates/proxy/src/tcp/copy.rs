//! Copies bytes both ways until both sides have ended, with half-closes passed on, and gives up when neither side says
//! anything for the idle time.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;

/// Bytes in flight per direction.
const BUFFER: usize = 16 * 1024;

/// Bytes that went each way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Copied {
    /// From the client to the upstream.
    pub sent: u64,
    /// From the upstream to the client.
    pub received: u64,
}

/// Why copying ended before both sides did.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Nothing came for the idle time.
    #[error("no bytes in either direction for {0:?}")]
    Idle(Duration),
    /// A side broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Copies until both directions have ended. `copied` says at any time how much went, also when it fails or is dropped.
pub async fn both_ways<A, B>(
    client: A,
    upstream: B,
    idle: Option<Duration>,
    copied: &Cell<Copied>,
) -> Result<(), CopyError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (client_read, client_write) = tokio::io::split(client);
    let (upstream_read, upstream_write) = tokio::io::split(upstream);
    let sent = |bytes| copied.set(Copied { sent: copied.get().sent + bytes, ..copied.get() });
    let received = |bytes| copied.set(Copied { received: copied.get().received + bytes, ..copied.get() });
    let last = Cell::new(Instant::now());
    tokio::select! {
        result = async {
            tokio::try_join!(
                one_way(client_read, upstream_write, sent, &last),
                one_way(upstream_read, client_write, received, &last),
            )
        } => result.map(|_| ()).map_err(CopyError::from),
        limit = idle_for(idle, &last) => Err(CopyError::Idle(limit)),
    }
}

async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(u64),
    last: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        last.set(Instant::now());
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        count(length as u64);
        last.set(Instant::now());
    }
}

async fn idle_for(limit: Option<Duration>, last: &Cell<Instant>) -> Duration {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let deadline = last.get() + limit;
        if deadline <= Instant::now() {
            return limit;
        }
        tokio::time::sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_half_close_passes_and_the_other_way_goes_on() {
        let (mut client, near) = tokio::io::duplex(64);
        let (far, mut upstream) = tokio::io::duplex(64);
        let talk = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let mut question = Vec::new();
            upstream.read_to_end(&mut question).await.unwrap();
            upstream.write_all(b"the answer").await.unwrap();
            drop(upstream);
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            (question, answer)
        };
        let copied = Cell::default();
        let ((question, answer), result) = tokio::join!(talk, both_ways(near, far, None, &copied));
        result.unwrap();
        assert_eq!((&question[..], &answer[..]), (&b"question"[..], &b"the answer"[..]));
        assert_eq!(copied.get(), Copied { sent: 8, received: 10 });
    }

    #[tokio::test]
    async fn silence_ends_the_connection_and_bytes_put_the_end_off() {
        let idle = Duration::from_millis(200);
        let (mut client, near) = tokio::io::duplex(64);
        let (far, _upstream) = tokio::io::duplex(64);
        let begun = Instant::now();
        let talk = async {
            tokio::time::sleep(idle / 2).await;
            client.write_all(b"x").await.unwrap();
        };
        let copied = Cell::default();
        let ((), result) = tokio::join!(talk, both_ways(near, far, Some(idle), &copied));
        assert!(matches!(result, Err(CopyError::Idle(_))));
        assert!(
            copied.get().sent == 1 && begun.elapsed() >= idle * 3 / 2,
            "{copied:?} after {:?}",
            begun.elapsed()
        );
    }
}
