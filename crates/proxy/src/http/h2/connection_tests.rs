use bytes::BytesMut;

use super::*;
use crate::http::head::{BodyLength, ResponseHead};

fn rules(role: Role) -> Rules {
    Rules {
        role,
        limits: Limits::default(),
        local: Local {
            header_table_size: 4096,
            max_concurrent_streams: (role == Role::Server).then_some(2),
            stream_window: 100,
            max_header_list_size: 1000,
            connect_protocol: false,
            no_push: role == Role::Client,
        },
        connection_window: 65_535,
        floods: FloodLimits { empty_frames: 10, ..FloodLimits::default() },
        max_interim: 2,
    }
}

/// A core whose peer is written frame by frame.
struct Bench(Core);

impl Bench {
    fn new(role: Role) -> Self {
        let mut bench = Bench(Core::new(rules(role)));
        bench.send(frame::SETTINGS, 0, 0, &[]).unwrap();
        bench.sent();
        bench
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Result<(), Code> {
        let head = FrameHead { length: payload.len(), kind, flags, stream };
        let taken = self.0.head(head).and_then(|()| self.0.frame(head, Payload::Borrowed(payload)));
        taken.map_err(|violation| violation.code)
    }

    /// Kinds, streams and payloads of what was sent since.
    fn sent(&mut self) -> Vec<(u8, u32, Vec<u8>)> {
        let mut written = Vec::new();
        let waker = Waker::noop();
        assert!(self.0.out.poll_flush(&mut written, &mut Context::from_waker(waker)).is_ready());
        let mut rest = BytesMut::from(&written[..]);
        if rest.starts_with(frame::PREFACE) {
            let _ = rest.split_to(frame::PREFACE.len());
        }
        let mut all = Vec::new();
        while let Some(head) = FrameHead::read(&rest) {
            let _ = rest.split_to(frame::HEAD);
            all.push((head.kind, head.stream, rest.split_to(head.length).to_vec()));
        }
        all
    }

    /// What was said to end streams: number and code.
    fn resets(&mut self) -> Vec<(u32, u32)> {
        let resets = self.sent().into_iter().filter(|(kind, ..)| *kind == frame::RST_STREAM);
        resets.map(|(_, stream, payload)| (stream, number(&payload).unwrap())).collect()
    }

    fn open(&mut self, stream: u32, ends: bool) {
        let flags = frame::END_HEADERS | u8::from(ends);
        self.send(frame::HEADERS, flags, stream, HEAD).unwrap();
        self.0.accepted.pop_front();
    }
}

/// `GET http://up/` in HPACK.
const HEAD: &[u8] = b"\x82\x86\x84\x41\x02up";
/// END_STREAM and END_HEADERS.
const WHOLE: u8 = 5;

#[test]
fn frames_of_a_wrong_size_place_or_stream_end_the_connection_with_their_code() {
    let settings = [0, 1, 0, 0, 0, 0];
    for (kind, flags, stream, payload, code) in [
        (frame::PING, 0, 0, &[0; 7][..], Code::FRAME_SIZE_ERROR),
        (frame::SETTINGS, 0, 0, &[0; 5], Code::FRAME_SIZE_ERROR),
        (frame::SETTINGS, frame::ACK, 0, &settings, Code::FRAME_SIZE_ERROR),
        (frame::WINDOW_UPDATE, 0, 0, &[0; 3], Code::FRAME_SIZE_ERROR),
        (frame::RST_STREAM, 0, 1, &[0; 3], Code::FRAME_SIZE_ERROR),
        (frame::PRIORITY, 0, 1, &[0; 3], Code::FRAME_SIZE_ERROR),
        (frame::GOAWAY, 0, 0, &[0; 4], Code::FRAME_SIZE_ERROR),
        (frame::PING, 0, 1, &[0; 8], Code::PROTOCOL_ERROR),
        (frame::SETTINGS, 0, 1, &[], Code::PROTOCOL_ERROR),
        (frame::GOAWAY, 0, 1, &[0; 8], Code::PROTOCOL_ERROR),
        (frame::DATA, 0, 0, b"x", Code::PROTOCOL_ERROR),
        (frame::HEADERS, WHOLE, 0, HEAD, Code::PROTOCOL_ERROR),
        (frame::HEADERS, WHOLE, 2, HEAD, Code::PROTOCOL_ERROR),
        (frame::CONTINUATION, 4, 1, HEAD, Code::PROTOCOL_ERROR),
        (frame::PUSH_PROMISE, 4, 1, &[0; 4], Code::PROTOCOL_ERROR),
        (frame::DATA, 0, 3, b"x", Code::PROTOCOL_ERROR),
        (frame::RST_STREAM, 0, 3, &[0; 4], Code::PROTOCOL_ERROR),
        (frame::WINDOW_UPDATE, 0, 3, &[0, 0, 0, 1], Code::PROTOCOL_ERROR),
        (frame::WINDOW_UPDATE, 0, 0, &[0; 4], Code::PROTOCOL_ERROR),
        (frame::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff], Code::FLOW_CONTROL_ERROR),
        (frame::DATA, frame::PADDED, 1, &[9, 1], Code::PROTOCOL_ERROR),
        (frame::HEADERS, WHOLE | frame::PADDED, 3, &[9, 1], Code::PROTOCOL_ERROR),
        (frame::HEADERS, WHOLE, 3, &[0x80], Code::COMPRESSION_ERROR),
        (frame::HEADERS, WHOLE, 3, b"\x82\x86\x84\x41\x02up\x00\x01X\x01y", Code::PROTOCOL_ERROR),
    ] {
        let mut bench = Bench::new(Role::Server);
        bench.open(1, false);
        assert_eq!(
            bench.send(kind, flags, stream, payload),
            Err(code),
            "{kind} {flags} {stream} {payload:?}"
        );
    }
    let mut silent = Bench(Core::new(rules(Role::Server)));
    assert_eq!(silent.send(frame::PING, 0, 0, &[0; 8]), Err(Code::PROTOCOL_ERROR), "SETTINGS come first");
    let mut bench = Bench::new(Role::Server);
    bench.send(frame::HEADERS, 0, 1, HEAD).unwrap();
    assert_eq!(bench.send(frame::PING, 0, 0, &[0; 8]), Err(Code::PROTOCOL_ERROR), "within a block");
    let mut bench = Bench::new(Role::Server);
    bench.send(frame::HEADERS, 0, 1, HEAD).unwrap();
    assert_eq!(bench.send(frame::CONTINUATION, 4, 3, HEAD), Err(Code::PROTOCOL_ERROR), "of another block");
}

#[test]
fn what_breaks_a_rule_of_one_stream_ends_that_stream() {
    let mut bench = Bench::new(Role::Server);
    bench.open(1, false);
    bench.send(frame::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff]).unwrap();
    assert_eq!(bench.resets(), [(1, Code::FLOW_CONTROL_ERROR.0)]);
    // What was on its way says nothing.
    bench.send(frame::DATA, 0, 1, b"late").unwrap();
    bench.send(frame::HEADERS, WHOLE, 1, HEAD).unwrap();
    assert_eq!(bench.resets(), []);
    bench.0.forget(1, Code::CANCEL);
    bench.send(frame::DATA, 0, 1, b"later").unwrap();
    assert_eq!(bench.resets(), []);

    bench.open(3, true);
    bench.send(frame::DATA, 0, 3, b"x").unwrap();
    assert_eq!(bench.resets(), [(3, Code::STREAM_CLOSED.0)]);
    bench.0.forget(3, Code::CANCEL);

    bench.open(5, false);
    bench.send(frame::DATA, 0, 5, &[0; 101]).unwrap();
    assert_eq!(bench.resets(), [(5, Code::FLOW_CONTROL_ERROR.0)]);
    assert_eq!(bench.0.failure(5), Some(Failure::Broken("more DATA than the window of its stream")));
    bench.0.forget(5, Code::CANCEL);

    for (stream, payload) in
        [(7, &b"\x82\x86\x84\x41\x02up\x00\x0aconnection\x01x"[..]), (9, b"\x82\x86\x41\x02up")]
    {
        bench.send(frame::HEADERS, WHOLE, stream, payload).unwrap();
        assert_eq!(bench.resets(), [(stream, Code::PROTOCOL_ERROR.0)]);
        assert!(bench.0.accepted.is_empty());
    }
    assert_eq!(bench.0.unanswered.len(), 2);
    // The number of a stream that was used before.
    assert_eq!(
        bench.send(frame::HEADERS, WHOLE, 3, HEAD),
        Ok(()),
        "reset by us: it may have been on its way"
    );
    bench.open(11, true);
    bench.0.send_response(11, &ResponseHead::new(204, BodyLength::None), true).unwrap();
    bench.0.forget(11, Code::NO_ERROR);
    assert_eq!(bench.send(frame::HEADERS, WHOLE, 11, HEAD), Err(Code::PROTOCOL_ERROR));
}

#[test]
fn streams_beyond_the_limit_are_refused_and_those_that_end_make_room() {
    let mut bench = Bench::new(Role::Server);
    bench.open(1, true);
    bench.open(3, true);
    bench.send(frame::HEADERS, WHOLE, 5, HEAD).unwrap();
    assert_eq!(bench.resets(), [(5, Code::REFUSED_STREAM.0)]);
    bench.0.forget(1, Code::NO_ERROR);
    bench.send(frame::HEADERS, WHOLE, 7, HEAD).unwrap();
    assert_eq!(bench.0.accepted.pop_front().map(|accepted| accepted.id), Some(7));
}

#[test]
fn what_the_client_broke_too_often_ends_the_connection() {
    let mut bench = Bench(Core::new(Rules {
        floods: FloodLimits { reset_burst: 5, ..FloodLimits::default() },
        ..rules(Role::Server)
    }));
    bench.send(frame::SETTINGS, 0, 0, &[]).unwrap();
    // Requests that the proxy itself has to reset count like those that the client resets.
    let ended =
        (0..20).map(|n| bench.send(frame::HEADERS, WHOLE, 2 * n + 1, b"\x82")).position(|sent| sent.is_err());
    assert_eq!(ended, Some(5));
}

#[test]
fn bodies_are_held_to_their_length() {
    let post = |length: u8| [b"\x83\x86\x84\x41\x02up\x5c\x01".as_slice(), &[b'0' + length]].concat();
    for (pieces, fine) in [(&["ab", "c"][..], true), (&["ab"], false), (&["abcd"], false)] {
        let mut bench = Bench::new(Role::Server);
        bench.send(frame::HEADERS, frame::END_HEADERS, 1, &post(3)).unwrap();
        for (index, piece) in pieces.iter().enumerate() {
            let ends = u8::from(index + 1 == pieces.len());
            bench.send(frame::DATA, ends, 1, piece.as_bytes()).unwrap();
        }
        assert_eq!(bench.resets().is_empty(), fine, "{pieces:?}");
    }
}

#[test]
fn windows_open_again_as_bodies_are_read_and_padding_counts() {
    let mut bench = Bench::new(Role::Server);
    bench.open(1, false);
    let padded = [&[9][..], b"0123456789", &[0; 9]].concat();
    for _ in 0..5 {
        bench.send(frame::DATA, frame::PADDED, 1, &padded).unwrap();
    }
    // The padding is given back at once, at half of the window.
    assert_eq!(bench.sent(), [(frame::WINDOW_UPDATE, 1, vec![0, 0, 0, 50])]);
    let cx = &Context::from_waker(Waker::noop());
    let Poll::Ready(Some(Ok(Event::Data(data)))) = bench.0.poll_event(1, cx) else { panic!() };
    assert_eq!(data, "0123456789".repeat(5), "small pieces are read as one");
    bench.0.release_stream(1, data.len());
    assert_eq!(bench.sent(), [(frame::WINDOW_UPDATE, 1, vec![0, 0, 0, 50])]);
    assert!(bench.0.poll_event(1, cx).is_pending());
}

#[test]
fn a_goaway_ends_streams_beyond_its_last_one() {
    let mut bench = Bench::new(Role::Client);
    let head = RequestHead {
        method: http::Method::GET,
        scheme: crate::http::Scheme::Http,
        authority: "up".into(),
        target: "/".into(),
        version: crate::http::Version::Http2,
        headers: crate::http::Headers::new(),
        length: BodyLength::None,
        upgrade: None,
    };
    for id in [1, 3] {
        assert_eq!(bench.0.send_request(&head, true), Ok(id));
    }
    bench.send(frame::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
    assert_eq!((bench.0.failure(1), bench.0.failure(3)), (None, Some(Failure::GoneAway)));
    assert!(!bench.0.opens());
    for _ in 0..2 {
        bench.send(frame::HEADERS, frame::END_HEADERS, 1, b"\x08\x03103").unwrap();
    }
    bench.send(frame::HEADERS, frame::END_HEADERS, 1, b"\x08\x03103").unwrap();
    assert_eq!(bench.0.failure(1), Some(Failure::Malformed("more interim responses than allowed")));
}
