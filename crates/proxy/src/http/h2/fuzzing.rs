//! Properties of the protocol without input and output, for any bytes.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;

use super::connection::{Core, Role, Rules};
use super::fields::Block;
use super::floods::FloodLimits;
use super::hpack_decoder::Decoder;
use super::hpack_encoder::Encoder;
use super::reader::{Read, Reader};
use super::settings::Local;
use crate::http::h1::Limits;
use crate::http::head::{BodyLength, RequestHead, Scheme, Version};
use crate::http::headers::Headers;

const LIMITS: Limits = Limits { max_headers_bytes: 4096, max_headers_count: 100 };

fn core(role: Role) -> Core {
    let mut core = Core::new(Rules {
        role,
        limits: LIMITS,
        local: Local {
            header_table_size: 4096,
            max_concurrent_streams: (role == Role::Server).then_some(10),
            stream_window: 65_535,
            max_header_list_size: 16 * 1024,
            connect_protocol: true,
            no_push: role == Role::Client,
        },
        connection_window: 65_535,
        floods: FloodLimits::default(),
        max_interim: 4,
    });
    if role == Role::Client {
        let head = RequestHead {
            method: http::Method::GET,
            scheme: Scheme::Http,
            authority: "a".into(),
            target: "/".into(),
            version: Version::Http2,
            headers: Headers::new(),
            length: BodyLength::None,
            upgrade: None,
        };
        for _ in 0..3 {
            assert!(core.send_request(&head, true).is_ok(), "a plain request can be written");
        }
    }
    core
}

/// Gives out its bytes in pieces.
struct Pieces<'a>(std::slice::Chunks<'a, u8>);

impl tokio::io::AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if let Some(piece) = self.0.next() {
            buffer.put_slice(&piece[..piece.len().min(buffer.remaining())]);
        }
        Poll::Ready(Ok(()))
    }
}

/// What is left of a side when all bytes were read: how it ended, what it says, and what came of its streams.
fn outcome(role: Role, wire: &[u8], cut: usize) -> (String, Vec<u8>, Vec<String>) {
    let (mut core, mut reader) = (core(role), Reader::default());
    let mut io = Pieces(wire.chunks(cut));
    let mut cx = Context::from_waker(Waker::noop());
    let ended = loop {
        match reader.poll_read(&mut io, &mut cx, &mut core) {
            Poll::Ready(Ok(Read::Some)) => {}
            ended => break format!("{ended:?}"),
        }
    };
    let mut said = Vec::new();
    let flushed = core.out.poll_flush(&mut said, &mut cx);
    assert!(flushed.is_ready(), "a vector takes everything");
    let mut streams: Vec<_> = core.accepted.iter().map(|accepted| format!("{accepted:?}")).collect();
    for stream in core.streams.iter_mut() {
        streams.push(format!("{} {:?} {:?}", stream.id, stream.failure, stream.events));
    }
    (ended, said, streams)
}

/// Either side reads the same of the bytes in one piece (as far as one read goes) and in pieces of `cut`.
pub(crate) fn frames(cut: usize, wire: &[u8]) {
    for role in [Role::Server, Role::Client] {
        assert_eq!(outcome(role, wire, cut), outcome(role, wire, 512), "{role:?} in pieces of {cut}");
    }
}

/// The regular fields of a block, written again, are read as they were.
pub(crate) fn block(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        let mut block = Block::new(LIMITS);
        Decoder::new(4096).read(bytes, &mut block).map(|()| block.headers)
    };
    let Ok(first) = read(bytes) else { return };
    let (mut encoder, mut out) = (Encoder::new(), BytesMut::new());
    encoder.begin(&mut out);
    for (name, value) in first.iter() {
        assert!(encoder.field(&mut out, name, value).is_ok(), "read, but not written: {name:?}: {value:?}");
    }
    assert_eq!(read(&out), Ok(first));
}
