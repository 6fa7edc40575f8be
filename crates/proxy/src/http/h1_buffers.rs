//! A connection with its read buffer and its queue of bytes to write.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Small reads go through this much of the stack, so that a connection that waits holds no buffer at all.
const SCRATCH: usize = 8 * 1024;
/// Large bodies are read into buffers of this size without a copy.
const LARGE_READ: usize = 32 * 1024;
/// The rest of a block that is still worth a read.
const SMALLEST_READ: usize = 8 * 1024;
/// Pieces of at least this size are queued as they are; smaller ones are copied behind the bytes before them.
pub(crate) const COPY_BELOW: usize = 4 * 1024;
/// More queued bytes than this, and the producer is not asked for more until they are written: a client that takes nothing
/// costs this much and one piece.
pub(crate) const HIGH_WATER: usize = 16 * 1024;

/// An IO object with its buffers.
#[derive(Debug)]
pub(crate) struct Transport<IO> {
    io: IO,
    /// Bytes read and not yet used.
    pub read: BytesMut,
    /// The peer has closed its side.
    pub eof: bool,
    large: VecDeque<Bytes>,
    /// Bytes to write after `large`.
    pub out: BytesMut,
    queued: usize,
    written: u64,
    unflushed: bool,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Transport<IO> {
    pub(crate) fn new(io: IO) -> Self {
        Transport {
            io,
            read: BytesMut::new(),
            eof: false,
            large: VecDeque::new(),
            out: BytesMut::new(),
            queued: 0,
            written: 0,
            unflushed: false,
        }
    }

    /// The IO object and what was read of it, when everything was written.
    pub(crate) fn into_parts(self) -> (IO, BytesMut) {
        (self.io, self.read)
    }

    /// Reads once; 0 at the end of the stream. `wants` says how much the caller could use.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>, wants: usize) -> Poll<io::Result<usize>> {
        if self.eof {
            return Poll::Ready(Ok(0));
        }
        let got = if wants > SCRATCH {
            // A block is filled before there is a next one: what is queued of it is not twice as large as it looks.
            if self.read.capacity() - self.read.len() < SMALLEST_READ {
                self.read.reserve(wants.min(LARGE_READ));
            }
            let polled = pin!(self.io.read_buf(&mut self.read)).poll(cx)?;
            let Poll::Ready(got) = polled else { return Poll::Pending };
            got
        } else {
            let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
            let mut piece = ReadBuf::uninit(&mut scratch);
            let Poll::Ready(()) = Pin::new(&mut self.io).poll_read(cx, &mut piece)? else {
                return Poll::Pending;
            };
            self.read.extend_from_slice(piece.filled());
            piece.filled().len()
        };
        self.eof = got == 0;
        Poll::Ready(Ok(got))
    }

    /// Gives the buffers back while the connection has nothing to do.
    pub(crate) fn shrink(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
        if self.queued_bytes() == 0 {
            self.out = BytesMut::new();
            self.large = VecDeque::new();
        }
    }

    /// Queues a piece of a body.
    pub(crate) fn push(&mut self, data: Bytes) {
        if data.len() < COPY_BELOW {
            self.out.extend_from_slice(&data);
            return;
        }
        if !self.out.is_empty() {
            let before = self.out.split().freeze();
            self.queued += before.len();
            self.large.push_back(before);
        }
        self.queued += data.len();
        self.large.push_back(data);
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.queued + self.out.len()
    }

    /// Bytes that the IO object took, ever.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes and flushes all that is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.queued_bytes() > 0 {
            let polled = if self.large.is_empty() {
                Pin::new(&mut self.io).poll_write(cx, &self.out)?
            } else {
                let mut slices = [IoSlice::new(&[]); 16];
                let pieces = self.large.iter().map(|piece| &piece[..]).chain([&self.out[..]]);
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count])?
            };
            let Poll::Ready(wrote) = polled else { return Poll::Pending };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(wrote);
        }
        if self.unflushed {
            let Poll::Ready(()) = Pin::new(&mut self.io).poll_flush(cx)? else { return Poll::Pending };
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, wrote: usize) {
        self.written += wrote as u64;
        self.unflushed = true;
        let mut rest = wrote;
        while rest > 0 {
            let Some(first) = self.large.front_mut() else {
                self.out.advance(rest);
                return;
            };
            let taken = rest.min(first.len());
            first.advance(taken);
            self.queued -= taken;
            rest -= taken;
            if first.is_empty() {
                self.large.pop_front();
            }
        }
    }

    /// Closes the write side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::future::poll_fn;
    use tokio::io::{BufStream, duplex};

    #[tokio::test]
    async fn what_the_connection_below_holds_back_is_flushed() {
        let (near, mut far) = duplex(64);
        let mut transport = Transport::new(BufStream::new(near));
        transport.push(Bytes::from_static(b"hello"));
        poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
        let mut got = [0; 5];
        let read = far.read_exact(&mut got).now_or_never().expect("nothing has arrived");
        assert_eq!((read.unwrap(), &got), (5, b"hello"));
    }
}
