//! Frames out of bytes as they are read. While nothing is under way no buffer is held: what is read goes through the stack,
//! and only a frame whose end has not come is kept.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::code::Violation;
use super::frame::{self, FrameHead, HEAD, PREFACE, Payload};

/// One read through the stack.
const SCRATCH: usize = 8 * 1024;
/// Room for the rest of a large frame and what comes behind it.
const LARGE_READ: usize = 32 * 1024;
/// DATA of at least this size is handed on without a copy.
const KEPT_WHOLE: usize = 2 * 1024;

/// Takes frames.
pub(crate) trait FrameSink {
    /// The head of a frame, whose payload may still be to come: it is asked again as more of it comes.
    fn head(&mut self, head: FrameHead) -> Result<(), Violation>;

    /// One whole frame.
    fn frame(&mut self, head: FrameHead, payload: Payload<'_>) -> Result<(), Violation>;
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Read {
    /// Bytes, and all frames of them were taken.
    Some,
    /// The peer has closed its side, between two frames.
    End,
    /// The same within a frame.
    Cut,
    /// The peer broke a rule.
    Violation(Violation),
}

/// Puts frames together.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// The beginning of a frame.
    pending: BytesMut,
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// Nobody has looked at `pending` yet.
    fresh: bool,
}

impl Reader {
    /// For the side that a client's preface comes to, of which so much was read already.
    pub(crate) fn behind_preface(read: BytesMut) -> Self {
        Reader { fresh: !read.is_empty(), pending: read, preface: PREFACE.len() }
    }

    /// Whether the preface is whole.
    pub(crate) fn is_past_preface(&self) -> bool {
        self.preface == 0
    }

    /// Whether a frame with a part of a header block has begun and not ended.
    pub(crate) fn is_inside_head(&self) -> bool {
        self.preface == 0
            && self.pending.len() >= HEAD
            && matches!(self.pending[3], frame::HEADERS | frame::CONTINUATION)
    }

    /// Reads once, and hands on the frames that are whole by then.
    pub(crate) fn poll_read<IO: AsyncRead + Unpin>(
        &mut self,
        io: &mut IO,
        cx: &mut Context<'_>,
        sink: &mut impl FrameSink,
    ) -> Poll<io::Result<Read>> {
        if std::mem::take(&mut self.fresh) {
            return Poll::Ready(Ok(self.take_pending(sink)));
        }
        if self.pending.is_empty() {
            let mut scratch = [const { MaybeUninit::uninit() }; SCRATCH];
            let mut piece = ReadBuf::uninit(&mut scratch);
            let Poll::Ready(()) = Pin::new(io).poll_read(cx, &mut piece)? else { return Poll::Pending };
            let bytes = piece.filled();
            if bytes.is_empty() {
                return Poll::Ready(Ok(if self.preface == 0 { Read::End } else { Read::Cut }));
            }
            return Poll::Ready(Ok(self.take(bytes, sink)));
        }
        let wanted = self.missing();
        self.pending.reserve(if wanted > SCRATCH / 2 { LARGE_READ } else { wanted.max(512) });
        let Poll::Ready(read) = pin!(io.read_buf(&mut self.pending)).poll(cx)? else { return Poll::Pending };
        if read == 0 {
            return Poll::Ready(Ok(Read::Cut));
        }
        Poll::Ready(Ok(self.take_pending(sink)))
    }

    /// Bytes that the frame under way still needs.
    fn missing(&self) -> usize {
        let whole = match FrameHead::read(&self.pending) {
            _ if self.preface > 0 => self.preface,
            Some(head) => HEAD + head.length,
            None => HEAD,
        };
        whole.saturating_sub(self.pending.len())
    }

    /// Frames of bytes that were read while none was under way.
    fn take(&mut self, mut bytes: &[u8], sink: &mut impl FrameSink) -> Read {
        if self.preface > 0 {
            // Once a connection.
            self.pending.extend_from_slice(bytes);
            return self.take_pending(sink);
        }
        while let Some(head) = FrameHead::read(bytes) {
            if let Err(violation) = sink.head(head) {
                return Read::Violation(violation);
            }
            let Some((frame, rest)) = bytes.split_at_checked(HEAD + head.length) else { break };
            if let Err(violation) = sink.frame(head, Payload::Borrowed(&frame[HEAD..])) {
                return Read::Violation(violation);
            }
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
        Read::Some
    }

    fn take_pending(&mut self, sink: &mut impl FrameSink) -> Read {
        if self.preface > 0 {
            let seen = self.pending.len().min(self.preface);
            let expected = &PREFACE[PREFACE.len() - self.preface..][..seen];
            if self.pending[..seen] != *expected {
                return Read::Violation(Violation::protocol("the client's preface is not that of HTTP/2"));
            }
            self.pending.advance(seen);
            self.preface -= seen;
        }
        while let Some(head) = FrameHead::read(&self.pending) {
            if let Err(violation) = sink.head(head) {
                return Read::Violation(violation);
            }
            let whole = HEAD + head.length;
            if self.pending.len() < whole {
                return Read::Some;
            }
            let taken = if head.kind == frame::DATA && head.length >= KEPT_WHOLE {
                let mut frame = self.pending.split_to(whole).freeze();
                frame.advance(HEAD);
                sink.frame(head, Payload::Owned(frame))
            } else {
                let taken = sink.frame(head, Payload::Borrowed(&self.pending[HEAD..whole]));
                self.pending.advance(whole);
                taken
            };
            if let Err(violation) = taken {
                return Read::Violation(violation);
            }
        }
        if self.pending.is_empty() {
            self.pending = BytesMut::new();
        }
        Read::Some
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::http::h2::frame::MAX_PAYLOAD;

    #[derive(Default)]
    struct Seen(Vec<(u8, Vec<u8>)>);

    impl FrameSink for Seen {
        fn head(&mut self, head: FrameHead) -> Result<(), Violation> {
            if head.length > MAX_PAYLOAD { Err(Violation::size("larger than allowed")) } else { Ok(()) }
        }

        fn frame(&mut self, head: FrameHead, payload: Payload<'_>) -> Result<(), Violation> {
            assert_eq!(payload.bytes().len(), head.length);
            self.0.push((head.kind, payload.bytes().to_vec()));
            Ok(())
        }
    }

    fn wire(kind: u8, payload: &[u8]) -> Vec<u8> {
        let head = FrameHead { length: payload.len(), kind, flags: 0, stream: 1 };
        [&head.to_bytes()[..], payload].concat()
    }

    #[tokio::test]
    async fn finds_the_same_frames_however_the_bytes_are_cut() {
        let all = [
            PREFACE.to_vec(),
            wire(4, b""),
            wire(1, &[1; 300]),
            wire(0, &[2; MAX_PAYLOAD]),
            wire(0, b"x"),
            wire(9, b"rest"),
        ]
        .concat();
        for cut in [1, 2, 9, 10, 24, 33, 1000, 8192, all.len()] {
            let (mut near, mut far) = duplex(cut);
            let writing = async {
                near.write_all(&all).await.unwrap();
                drop(near);
            };
            let reading = async {
                let (mut reader, mut seen) = (Reader::behind_preface(BytesMut::new()), Seen::default());
                loop {
                    match poll_fn(|cx| reader.poll_read(&mut far, cx, &mut seen)).await.unwrap() {
                        Read::Some => {}
                        Read::End => return seen,
                        other => panic!("{other:?}"),
                    }
                }
            };
            let ((), seen) = tokio::join!(writing, reading);
            let lengths: Vec<_> = seen.0.iter().map(|(kind, payload)| (*kind, payload.len())).collect();
            assert_eq!(lengths, [(4, 0), (1, 300), (0, MAX_PAYLOAD), (0, 1), (9, 4)], "pieces of {cut}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_no_preface_or_cut_off_is_told() {
        for (wire, expected) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "preface"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\x40\x01\0\0\0\0\0\x01", "larger than"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x01\x01\0\0\0\0\x01", "cut in a head"),
            (b"PRI * HT", "cut"),
        ] {
            let mut io = wire;
            let (mut reader, mut seen) = (Reader::behind_preface(BytesMut::new()), Seen::default());
            let told = loop {
                match poll_fn(|cx| reader.poll_read(&mut io, cx, &mut seen)).await.unwrap() {
                    Read::Some => {}
                    Read::End => break "end",
                    Read::Cut if reader.is_inside_head() => break "cut in a head",
                    Read::Cut => break "cut",
                    Read::Violation(violation) => break violation.what,
                }
            };
            assert!(told.contains(expected), "{told} instead of {expected}");
        }
    }
}
