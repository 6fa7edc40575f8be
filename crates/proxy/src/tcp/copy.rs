//! Copies bytes both ways until both sides have ended, with half-closes passed on, and gives up when neither side says
//! anything for the idle time.
//!
//! A connection that waits holds no buffer: bytes are read into the worker's, and only what the other side does not take
//! at once is kept, at most one buffer per direction. Nothing more is read before that is gone: back-pressure passes.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use base::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Bytes read at once, and the most that wait per direction.
const BUFFER: usize = 64 * 1024;

/// The buffer that the connections of one worker read into.
#[derive(Debug)]
pub struct Scratch(RefCell<Vec<u8>>);

impl Default for Scratch {
    fn default() -> Self {
        Scratch(RefCell::new(vec![0; BUFFER]))
    }
}

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
    /// The client's side broke.
    #[error("the client's side broke: {0}")]
    Client(io::Error),
    /// The upstream's side broke.
    #[error("the upstream's side broke: {0}")]
    Upstream(io::Error),
}

impl CopyError {
    /// The row of the table.
    pub fn reason(&self) -> Reason {
        match self {
            CopyError::Idle(_) => Reason::IdleTimeout,
            CopyError::Client(_) => Reason::DownstreamReset,
            CopyError::Upstream(_) => Reason::UpstreamReset,
        }
    }
}

/// Which of the two sides of one direction broke.
enum Broken {
    From(io::Error),
    To(io::Error),
}

/// Copies until both directions have ended. `copied` says at any time how much went, also when it fails or is dropped.
///
/// # Errors
/// A side broke, or both were silent for too long.
pub async fn both_ways<A, B>(
    mut client: A,
    mut upstream: B,
    idle: Option<Duration>,
    copied: &Cell<Copied>,
    scratch: &Scratch,
) -> Result<(), CopyError>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let last = Cell::new(Instant::now());
    let sent = |bytes| copied.set(Copied { sent: copied.get().sent + bytes, ..copied.get() });
    let received = |bytes| copied.set(Copied { received: copied.get().received + bytes, ..copied.get() });
    let (mut up, mut down) = (OneWay::default(), OneWay::default());
    let copying = poll_fn(|cx| {
        let upwards =
            up.poll(cx, &mut client, &mut upstream, scratch, &last, sent).map_err(|it| match it {
                Broken::From(error) => CopyError::Client(error),
                Broken::To(error) => CopyError::Upstream(error),
            })?;
        let downwards = down.poll(cx, &mut upstream, &mut client, scratch, &last, received);
        let downwards = downwards.map_err(|it| match it {
            Broken::From(error) => CopyError::Upstream(error),
            Broken::To(error) => CopyError::Client(error),
        })?;
        if upwards.is_ready() && downwards.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    });
    tokio::select! {
        result = copying => result,
        limit = idle_for(idle, &last) => Err(CopyError::Idle(limit)),
    }
}

/// One direction.
#[derive(Debug, Default)]
struct OneWay {
    /// Bytes that were read and not taken yet, from `taken` on.
    waiting: Vec<u8>,
    taken: usize,
    /// The writer may hold bytes back.
    unflushed: bool,
    /// The reader has ended.
    ended: bool,
    /// So has the writer.
    closed: bool,
}

impl OneWay {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &Scratch,
        last: &Cell<Instant>,
        count: impl Fn(u64),
    ) -> Poll<Result<(), Broken>> {
        while !self.closed {
            while self.taken < self.waiting.len() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.waiting[self.taken..]))
                    .and_then(|written| self.wrote(written, last, &count).map(|()| written))
                    .map_err(Broken::To)?;
                self.taken += written;
            }
            // Gives the memory back.
            (self.waiting, self.taken) = (Vec::new(), 0);
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Broken::To)?;
                self.closed = true;
                break;
            }
            let mut scratch = scratch.0.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            if Pin::new(&mut *from).poll_read(cx, &mut buffer).map_err(Broken::From)?.is_pending() {
                if self.unflushed {
                    ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Broken::To)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
            last.set(Instant::now());
            let read = buffer.filled();
            self.ended = read.is_empty();
            if self.ended {
                continue;
            }
            let written = match Pin::new(&mut *to).poll_write(cx, read).map_err(Broken::To)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            if written > 0 {
                self.wrote(written, last, &count).map_err(Broken::To)?;
            }
            self.waiting.extend_from_slice(read.get(written..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, bytes: usize, last: &Cell<Instant>, count: &impl Fn(u64)) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.unflushed = true;
        last.set(Instant::now());
        count(bytes as u64);
        Ok(())
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        let (copied, scratch) = (Cell::default(), Scratch::default());
        let ((question, answer), result) = tokio::join!(talk, both_ways(near, far, None, &copied, &scratch));
        result.unwrap();
        assert_eq!((&question[..], &answer[..]), (&b"question"[..], &b"the answer"[..]));
        assert_eq!(copied.get(), Copied { sent: 8, received: 10 });
    }

    #[tokio::test]
    async fn a_slow_reader_holds_the_writer_back_and_nothing_is_lost() {
        const ALL: usize = 5 * BUFFER;
        let (mut client, near) = tokio::io::duplex(ALL * 2);
        let (far, mut upstream) = tokio::io::duplex(100);
        let all: Vec<u8> = (0..ALL).map(|n| (n % 251) as u8).collect();
        client.write_all(&all).await.unwrap();
        client.shutdown().await.unwrap();
        let (copied, scratch) = (Cell::default(), Scratch::default());
        let copying = both_ways(near, far, None, &copied, &scratch);
        tokio::pin!(copying);
        // Nobody reads: what is taken from the client is what the pipe and one buffer hold.
        assert!(futures_util::poll!(copying.as_mut()).is_pending());
        assert_eq!(copied.get().sent, 100);
        let mut read = Vec::new();
        let reading = async {
            upstream.read_to_end(&mut read).await.unwrap();
            drop(upstream);
            drop(client);
        };
        let (result, ()) = tokio::join!(copying, reading);
        result.unwrap();
        assert!(read == all, "{} bytes of {ALL}", read.len());
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
        let (copied, scratch) = (Cell::default(), Scratch::default());
        let ((), result) = tokio::join!(talk, both_ways(near, far, Some(idle), &copied, &scratch));
        assert!(matches!(result, Err(CopyError::Idle(_))));
        assert!(
            copied.get().sent == 1 && begun.elapsed() >= idle * 3 / 2,
            "{copied:?} after {:?}",
            begun.elapsed()
        );
    }
}
