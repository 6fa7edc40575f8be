//! `Upgrade: h2c`: from HTTP/1.1 to HTTP/2 on the same plaintext connection (RFC 7540, section 3.2). The request that asks
//! becomes stream 1, and nobody sees it before: what the `h2` crate reads is the client's preface and settings, then the
//! request as a HEADERS frame that is made here, then whatever the client sends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::head::RequestHead;
use super::hop::ConnectionFields;

/// The answer that accepts.
pub(crate) const ACCEPT: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: h2c\r\n\r\n";
/// What an HTTP/2 client sends first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of the preface and of a frame's head.
const BEGIN: usize = PREFACE.len() + FRAME_HEAD;
/// The end of a connection whose client does not.
const NO_HTTP2: &str = "101 for `upgrade: h2c` was not followed by the preface and SETTINGS";
const FRAME_HEAD: usize = 9;
/// The largest frame that a server must take. A head that does not fit one is answered in HTTP/1.1.
const MAX_FRAME: usize = 16_384;
/// Type of HEADERS with END_STREAM and END_HEADERS.
const HEADERS: [u8; 2] = [1, 1 | 4];
/// Type of SETTINGS that is no acknowledgement.
const SETTINGS: [u8; 2] = [4, 0];

/// The client's settings, when the offer is whole: `connection` names both fields, there is one `http2-settings`, and it
/// holds settings that are allowed. Anything else is no offer, and the request is answered in HTTP/1.1.
pub(crate) fn settings(
    connection: &ConnectionFields,
    upgrade: Option<&Bytes>,
    settings: &[Bytes],
) -> Option<Bytes> {
    let [settings] = settings else { return None };
    let asked = upgrade.is_some_and(|name| name.eq_ignore_ascii_case(b"h2c"));
    if !asked || !connection.has("upgrade") || !connection.has("http2-settings") {
        return None;
    }
    let payload = URL_SAFE_NO_PAD.decode(settings).ok()?;
    let whole = payload.len() % 6 == 0 && payload.len() <= 64 * 6;
    (whole && payload.chunks_exact(6).all(is_allowed)).then(|| payload.into())
}

/// Values that RFC 9113, section 6.5.2 allows.
fn is_allowed(setting: &[u8]) -> bool {
    let [high, low, value @ ..] = setting else { return false };
    let value = value.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    match u16::from_be_bytes([*high, *low]) {
        0x2 | 0x8 => value <= 1,
        0x4 => value <= i32::MAX.unsigned_abs(),
        0x5 => (16_384..=16_777_215).contains(&value),
        _ => true,
    }
}

/// The request as a HEADERS frame of stream 1, every field written out so that no table of the connection knows of it;
/// `None`: it does not fit.
pub(crate) fn request_frame(head: &RequestHead) -> Option<Bytes> {
    let mut frame = BytesMut::with_capacity(head.headers.byte_size() + 256);
    frame.put_slice(&[0; FRAME_HEAD]);
    put_field(&mut frame, b":method", head.method.as_str().as_bytes())?;
    put_field(&mut frame, b":scheme", head.scheme.as_str().as_bytes())?;
    put_field(&mut frame, b":authority", &head.authority)?;
    put_field(&mut frame, b":path", &head.target)?;
    for (name, value) in head.headers.iter() {
        if !name.eq_ignore_ascii_case(b"host") {
            put_field(&mut frame, name, value)?;
        }
    }
    let length = frame.len() - FRAME_HEAD;
    if length > MAX_FRAME {
        return None;
    }
    frame[..FRAME_HEAD].copy_from_slice(&frame_head(length, HEADERS, 1));
    Some(frame.freeze())
}

fn frame_head(length: usize, kind: [u8; 2], stream: u8) -> [u8; FRAME_HEAD] {
    let [.., high, middle, low] = length.to_be_bytes();
    [high, middle, low, kind[0], kind[1], 0, 0, 0, stream]
}

/// A literal field that is never remembered (RFC 7541, section 6.2.3), its name in lower case.
fn put_field(out: &mut BytesMut, name: &[u8], value: &[u8]) -> Option<()> {
    out.put_u8(0x10);
    put_length(out, name.len())?;
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    put_length(out, value.len())?;
    out.put_slice(value);
    Some(())
}

/// A string's length (RFC 7541, section 5.1); longer strings than a frame are not written.
fn put_length(out: &mut BytesMut, length: usize) -> Option<()> {
    match length {
        0..=126 => out.put_u8(u8::try_from(length).ok()?),
        127..=MAX_FRAME => {
            out.put_u8(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.put_u8((rest & 127) as u8 | 128);
                rest >>= 7;
            }
            out.put_u8(rest as u8);
        }
        _ => return None,
    }
    Some(())
}

/// What comes next of what the client sends.
#[derive(Debug)]
enum Phase {
    /// The preface and the head of the first frame; what has come of them.
    Begin(BytesMut),
    /// So many bytes of its settings.
    Settings(usize),
    /// Anything.
    Rest,
}

/// A connection that was switched: reading it gives what an HTTP/2 connection begins with, and the request.
#[derive(Debug)]
pub struct Switched<IO> {
    io: IO,
    /// What was read of it already.
    read: Bytes,
    phase: Phase,
    /// To be read next.
    out: BytesMut,
    settings: Bytes,
    request: Bytes,
}

impl<IO> Switched<IO> {
    /// `read`: what has come behind the request; `settings`: those of `http2-settings`.
    pub(crate) fn new(io: IO, read: Bytes, settings: Bytes, request: Bytes) -> Self {
        Switched { io, read, phase: Phase::Begin(BytesMut::new()), out: BytesMut::new(), settings, request }
    }

    /// The client's preface and the head of its first frame have come. Its settings follow those of the request in one
    /// frame, so that there is one acknowledgement, and what it says last holds. `None`: it is no HTTP/2 that begins here
    /// (RFC 9113, section 3.4), and nobody would answer a request that is never read.
    fn begun(&mut self, begin: &[u8]) -> Option<Phase> {
        let head = &begin[BEGIN - FRAME_HEAD..];
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let whole = length + self.settings.len();
        if !begin.starts_with(PREFACE) || head[3..5] != SETTINGS || whole > MAX_FRAME {
            return None;
        }
        self.out.put_slice(&begin[..BEGIN - FRAME_HEAD]);
        self.out.put_slice(&frame_head(whole, SETTINGS, 0));
        self.out.put_slice(&self.settings);
        Some(self.settled(length))
    }

    /// Behind the client's settings comes the request.
    fn settled(&mut self, left: usize) -> Phase {
        if left > 0 {
            return Phase::Settings(left);
        }
        self.out.put_slice(&std::mem::take(&mut self.request));
        Phase::Rest
    }
}

impl<IO: AsyncRead + Unpin> Switched<IO> {
    fn poll_client(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buffer);
        }
        let length = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Switched<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.out.is_empty() {
                let length = this.out.len().min(buffer.remaining());
                buffer.put_slice(&this.out[..length]);
                this.out.advance(length);
                return Poll::Ready(Ok(()));
            }
            let wanted = match &this.phase {
                Phase::Begin(begin) => BEGIN - begin.len(),
                Phase::Settings(left) => *left,
                Phase::Rest => return this.poll_client(cx, buffer),
            };
            let mut scratch = [0; 512];
            let mut piece = ReadBuf::new(&mut scratch[..wanted.min(512)]);
            match this.poll_client(cx, &mut piece) {
                Poll::Ready(Ok(())) => {}
                unready => return unready,
            }
            let piece = piece.filled();
            if piece.is_empty() {
                // The end of the connection.
                return Poll::Ready(Ok(()));
            }
            this.phase = match std::mem::replace(&mut this.phase, Phase::Rest) {
                Phase::Begin(mut begin) => {
                    begin.put_slice(piece);
                    if begin.len() < BEGIN {
                        Phase::Begin(begin)
                    } else {
                        this.begun(&begin)
                            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, NO_HTTP2))?
                    }
                }
                Phase::Settings(left) => {
                    this.out.put_slice(piece);
                    this.settled(left - piece.len())
                }
                Phase::Rest => Phase::Rest,
            };
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Switched<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[path = "h2c_tests.rs"]
mod tests;
