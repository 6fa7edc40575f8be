//! Takes DATA frames without payload out of what a peer sends, unless they end their stream.
//!
//! They mean nothing, and honest programs send them: one that passes a gRPC message on piece by piece, for each call. The
//! `h2` crate counts them over the life of a connection and ends it, with every stream on it, at the hundred and first.
//! Here they are dropped before it sees them; a long row of them, with nothing between, is left to that count.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Length of a frame's head (RFC 9113, section 4.1).
const HEAD: usize = 9;
/// Length of the preface (section 3.4).
const PREFACE: usize = 24;
/// Flags of DATA: END_STREAM, PADDED.
const MEANT: u8 = 0x1 | 0x8;
/// Empty frames in a row that are dropped.
const IN_A_ROW: u32 = 100;

/// A connection without empty DATA frames.
#[derive(Debug)]
pub(crate) struct Sifted<IO> {
    io: IO,
    sieve: Sieve,
}

impl<IO> Sifted<IO> {
    /// Of a side that sends frames from the first byte on.
    pub(crate) fn new(io: IO) -> Self {
        Sifted { io, sieve: Sieve::default() }
    }

    /// Of a side that begins with the preface.
    pub(crate) fn behind_preface(io: IO) -> Self {
        Sifted { io, sieve: Sieve { skip: PREFACE, ..Sieve::default() } }
    }
}

#[derive(Debug, Default)]
struct Sieve {
    /// Bytes of a payload that are still to come.
    skip: usize,
    head: [u8; HEAD],
    /// Bytes of the head that have come.
    filled: usize,
    /// The last ones of them, not passed on yet: whether the frame means something is not known.
    withheld: usize,
    empty_in_a_row: u32,
}

impl Sieve {
    /// Sifts `bytes` in place; the first `known` of them are those that were withheld. How many are passed on.
    fn sift(&mut self, bytes: &mut [u8], known: usize) -> usize {
        let (mut from, mut to) = (known, known);
        // Where the head that is under way begins, if none of it was passed on.
        let mut begin = (known > 0 && known == self.filled).then_some(0);
        while from < bytes.len() {
            let inside = self.skip > 0;
            if !inside && self.filled == 0 {
                begin = Some(to);
            }
            let wanted = if inside { self.skip } else { HEAD - self.filled };
            let piece = from..bytes.len().min(from.saturating_add(wanted));
            let length = piece.len();
            if !inside {
                self.head[self.filled..self.filled + length].copy_from_slice(&bytes[piece.clone()]);
            }
            if from != to {
                bytes.copy_within(piece, to);
            }
            (from, to) = (from + length, to + length);
            if inside {
                self.skip -= length;
                continue;
            }
            self.filled += length;
            if self.filled == HEAD {
                self.filled = 0;
                let empty = self.is_empty();
                match begin.take().filter(|_| empty && self.empty_in_a_row < IN_A_ROW) {
                    Some(begin) => to = begin,
                    None => self.skip = self.length(),
                }
                self.empty_in_a_row = if empty { self.empty_in_a_row.saturating_add(1) } else { 0 };
            }
        }
        self.withheld = 0;
        if let Some(begin) = begin.filter(|_| self.filled > 0) {
            self.withheld = self.filled;
            to = begin;
        }
        to
    }

    fn length(&self) -> usize {
        usize::from(self.head[0]) << 16 | usize::from(self.head[1]) << 8 | usize::from(self.head[2])
    }

    /// DATA of a stream with neither payload nor meaning.
    fn is_empty(&self) -> bool {
        let [_, _, _, kind, flags, stream @ ..] = self.head;
        self.length() == 0 && kind == 0 && flags & MEANT == 0 && stream != [0; 4]
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Sifted<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Sifted { io, sieve } = self.get_mut();
        loop {
            let (start, withheld) = (buf.filled().len(), sieve.withheld);
            let held = sieve.filled - withheld..sieve.filled;
            if withheld > 0 && buf.remaining() <= withheld {
                // No room to find out: the frame goes on as it is.
                let now = held.start..held.start + buf.remaining();
                buf.put_slice(&sieve.head[now.clone()]);
                sieve.withheld -= now.len();
                return Poll::Ready(Ok(()));
            }
            buf.put_slice(&sieve.head[held]);
            let read = match Pin::new(&mut *io).poll_read(cx, buf) {
                Poll::Ready(Ok(())) => buf.filled().len() - start - withheld,
                other => {
                    buf.set_filled(start);
                    return other;
                }
            };
            if read == 0 {
                // The end: half a head is passed on as it came.
                sieve.withheld = 0;
                return Poll::Ready(Ok(()));
            }
            let kept = sieve.sift(&mut buf.filled_mut()[start..], withheld);
            buf.set_filled(start + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Sifted<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    fn frame(kind: u8, flags: u8, stream: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, stream];
        frame.resize(HEAD + payload, 0);
        frame
    }

    /// What comes through when the bytes come in pieces of `cut` and are read into room for `room`.
    async fn through(bytes: &[u8], cut: usize, room: usize) -> Vec<u8> {
        let mut sifted = pieces(bytes, cut);
        let mut all = Vec::new();
        let mut buffer = vec![0; room];
        loop {
            match sifted.read(&mut buffer).await.unwrap() {
                0 => return all,
                read => all.extend_from_slice(&buffer[..read]),
            }
        }
    }

    /// Gives its bytes in pieces.
    struct Pieces(Vec<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let pieces = &mut self.get_mut().0;
            if let Some(first) = pieces.first_mut() {
                let now = first.len().min(buf.remaining());
                buf.put_slice(&first[..now]);
                first.drain(..now);
                if first.is_empty() {
                    pieces.remove(0);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    fn pieces(bytes: &[u8], cut: usize) -> Sifted<Pieces> {
        Sifted::new(Pieces(bytes.chunks(cut).map(<[u8]>::to_vec).collect()))
    }

    #[tokio::test]
    async fn only_empty_data_that_ends_nothing_is_taken_out_however_the_bytes_come() {
        let kept = [
            frame(4, 0, 0, 12),
            frame(1, 4, 1, 300),
            frame(0, 0, 1, 5),
            frame(0, 1, 1, 0),
            // A padded one must say how much; DATA of no stream breaks a rule; SETTINGS are acknowledged without payload.
            frame(0, 8, 3, 0),
            frame(0, 0, 0, 0),
            frame(4, 1, 0, 0),
        ];
        let mut wire = Vec::new();
        for (index, one) in kept.iter().enumerate() {
            for _ in 0..index % 3 {
                wire.extend(frame(0, 0, 1, 0));
            }
            wire.extend_from_slice(one);
        }
        wire.extend(frame(0, 0, 7, 0));
        for cut in [1, 2, 5, 8, 9, 10, 13, 64, wire.len()] {
            for room in [9, 10, 12, 1024] {
                assert_eq!(
                    through(&wire, cut, room).await,
                    kept.concat(),
                    "pieces of {cut}, room for {room}"
                );
            }
        }
    }

    #[tokio::test]
    async fn without_room_a_frame_goes_on_as_it_is_and_half_a_head_at_the_end_too() {
        let wire = [frame(0, 0, 1, 0), frame(0, 0, 1, 3), vec![0, 0]].concat();
        assert_eq!(through(&wire, 4, 3).await, wire);
        assert_eq!(through(&wire, 4, 64).await, wire[HEAD..]);
    }

    #[tokio::test]
    async fn a_long_row_is_left_to_the_codecs_own_limit() {
        let wire = frame(0, 0, 1, 0).repeat(250);
        assert_eq!(through(&wire, 100, 1024).await.len(), 150 * HEAD);
        let mixed = [frame(0, 0, 1, 0), frame(0, 0, 1, 1)].concat().repeat(250);
        assert_eq!(through(&mixed, 100, 1024).await.len(), 250 * (HEAD + 1));
    }
}
