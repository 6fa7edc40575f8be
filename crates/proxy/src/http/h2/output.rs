//! What waits to be written: small frames in one buffer, large bodies as they are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::frame::{self, FrameHead, HEAD, MAX_PAYLOAD};
use crate::http::h1_buffers::COPY_BELOW;

/// Room that is taken at once: what most turns write.
const ROOM: usize = 4 * 1024;

/// Frames that wait to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    large: VecDeque<Bytes>,
    /// Bytes to write after `large`.
    tail: BytesMut,
    queued: usize,
    unflushed: bool,
}

impl Output {
    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.queued + self.tail.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting() == 0 && !self.unflushed
    }

    /// Queues bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Not many small steps.
    fn make_room(&mut self) {
        if self.tail.capacity() == 0 {
            self.tail.reserve(ROOM);
        }
    }

    /// Queues a small frame.
    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.tail.put_slice(&FrameHead { length: payload.len(), kind, flags, stream }.to_bytes());
        self.tail.put_slice(payload);
    }

    /// Queues a DATA frame; `bytes` are at most [`MAX_PAYLOAD`].
    pub(crate) fn data(&mut self, stream: u32, bytes: Bytes, ends: bool) {
        let flags = if ends { frame::END_STREAM } else { 0 };
        let head = FrameHead { length: bytes.len(), kind: frame::DATA, flags, stream };
        self.make_room();
        self.tail.put_slice(&head.to_bytes());
        if bytes.len() < COPY_BELOW {
            self.tail.put_slice(&bytes);
            return;
        }
        let before = self.tail.split().freeze();
        self.queued += before.len() + bytes.len();
        self.large.extend([before, bytes]);
    }

    /// Queues a header block that `write` writes, in as many frames as it needs. Nothing is queued when it fails.
    pub(crate) fn block<E>(
        &mut self,
        stream: u32,
        ends: bool,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        self.make_room();
        let start = self.tail.len();
        self.tail.put_slice(&[0; HEAD]);
        if let Err(error) = write(&mut self.tail) {
            self.tail.truncate(start);
            return Err(error);
        }
        let length = self.tail.len() - start - HEAD;
        let mut flags = if ends { frame::END_STREAM } else { 0 };
        if length <= MAX_PAYLOAD {
            flags |= frame::END_HEADERS;
            let head = FrameHead { length, kind: frame::HEADERS, flags, stream };
            self.tail[start..start + HEAD].copy_from_slice(&head.to_bytes());
            return Ok(());
        }
        let block = self.tail.split_off(start + HEAD);
        self.tail.truncate(start);
        let mut kind = frame::HEADERS;
        let mut pieces = block.chunks(MAX_PAYLOAD).peekable();
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { frame::END_HEADERS } else { 0 };
            self.frame(kind, flags | last, stream, piece);
            (kind, flags) = (frame::CONTINUATION, 0);
        }
        Ok(())
    }

    /// Writes and flushes all that is queued.
    pub(crate) fn poll_flush<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.waiting() > 0 {
            let polled = if self.large.is_empty() {
                Pin::new(&mut *io).poll_write(cx, &self.tail)?
            } else {
                let mut slices = [IoSlice::new(&[]); 32];
                let pieces = self.large.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
                let mut count = 0;
                for (slice, piece) in slices.iter_mut().zip(pieces) {
                    *slice = IoSlice::new(piece);
                    count += 1;
                }
                Pin::new(&mut *io).poll_write_vectored(cx, &slices[..count])?
            };
            let Poll::Ready(wrote) = polled else { return Poll::Pending };
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(wrote);
        }
        if self.unflushed {
            let Poll::Ready(()) = Pin::new(io).poll_flush(cx)? else { return Poll::Pending };
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, wrote: usize) {
        self.unflushed = true;
        let mut rest = wrote;
        while rest > 0 {
            let Some(first) = self.large.front_mut() else {
                if rest == self.tail.len() {
                    // Its room is used again.
                    self.tail.clear();
                } else {
                    self.tail.advance(rest);
                }
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

    /// Gives the buffers back while nothing waits.
    pub(crate) fn shrink(&mut self) {
        if self.waiting() == 0 {
            self.tail = BytesMut::new();
            self.large = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_block_is_cut_into_frames_and_one_that_fails_leaves_nothing() {
        let mut output = Output::default();
        let long = vec![7; 2 * MAX_PAYLOAD + 5];
        output
            .block::<()>(3, true, |out| {
                out.put_slice(&long);
                Ok(())
            })
            .unwrap();
        assert_eq!(
            output.block(5, true, |out| {
                out.put_slice(b"half");
                Err(1)
            }),
            Err(1)
        );
        let mut rest = &output.tail[..];
        let mut seen = Vec::new();
        while let Some(head) = FrameHead::read(rest) {
            seen.push((head.kind, head.flags, head.length, head.stream));
            rest = &rest[HEAD + head.length..];
        }
        let expected = [(frame::HEADERS, 1, MAX_PAYLOAD, 3), (frame::CONTINUATION, 0, MAX_PAYLOAD, 3)];
        assert_eq!(seen[..2], expected);
        assert_eq!(seen[2..], [(frame::CONTINUATION, 4, 5, 3)]);
        assert!(rest.is_empty());
    }

    #[tokio::test]
    async fn large_and_small_pieces_keep_their_order() {
        let mut output = Output::default();
        output.frame(frame::PING, 0, 0, &[1; 8]);
        output.data(1, Bytes::from(vec![2; COPY_BELOW]), false);
        output.data(1, Bytes::from_static(b"end"), true);
        assert_eq!(output.waiting(), 3 * HEAD + 8 + COPY_BELOW + 3);
        let mut written = Vec::new();
        std::future::poll_fn(|cx| output.poll_flush(&mut written, cx)).await.unwrap();
        assert_eq!((written[9], written[26], written[written.len() - 1]), (1, 2, b'd'));
        assert!(output.is_empty());
    }
}
