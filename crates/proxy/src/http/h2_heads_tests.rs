use super::*;
use crate::http::h2_frames::FrameScanner;

/// A HEADERS (1) or CONTINUATION (9) frame.
fn frame(kind: u8, flags: u8, stream: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream], block].concat()
}

/// A field that is written out and not remembered.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

const END_HEADERS: u8 = 4;

fn requests(wire: &[u8]) -> Requests {
    let (mut requests, mut scanner) = (Requests::new(4096, 60 * 1024), FrameScanner::default());
    scanner.scan(wire, |piece| requests.take(piece));
    requests
}

#[test]
fn a_fragment_and_pseudo_headers_in_trailers_are_told_of_their_stream_only() {
    let bad = [field(":method", "GET"), field(":path", "/a#b")].concat();
    let good = [field(":path", "/a"), field("x", "a#b")].concat();
    let wire = [
        frame(1, END_HEADERS, 1, &bad),
        frame(1, END_HEADERS, 3, &good),
        frame(1, END_HEADERS, 5, &good),
        frame(1, END_HEADERS, 3, &field("x-sum", "1")),
        frame(1, END_HEADERS, 5, &field(":status", "200")),
    ]
    .concat();
    let mut requests = requests(&wire);
    let of = |requests: &Requests, stream| {
        [Fault::Fragment, Fault::PseudoInTrailers].map(|fault| requests.has(stream, fault))
    };
    assert_eq!([1, 3, 5].map(|stream| of(&requests, stream)), [[true, false], [false, false], [false, true]]);
    requests.forget(1);
    assert_eq!([1, 5].map(|stream| of(&requests, stream)), [[false, false], [false, true]]);
    assert!(requests.broken().is_none());
}

#[test]
fn a_block_in_pieces_is_read_whole() {
    let block = [field(":method", "GET"), field(":path", "/a#b")].concat();
    let (first, second) = block.split_at(14);
    let wire = [frame(1, 0, 1, first), frame(9, 0, 1, b""), frame(9, END_HEADERS, 1, second)].concat();
    for cut in [1, 5, wire.len()] {
        let (mut requests, mut scanner) = (Requests::new(4096, 60 * 1024), FrameScanner::default());
        for piece in wire.chunks(cut) {
            scanner.scan(piece, |piece| requests.take(piece));
        }
        assert!(requests.has(1, Fault::Fragment) && requests.broken().is_none());
    }
}

#[test]
fn what_cannot_be_followed_ends_the_connection() {
    let block = field(":path", "/");
    for wire in [
        frame(1, END_HEADERS, 1, &[0x80]),
        frame(9, END_HEADERS, 1, &block),
        [frame(1, 0, 1, &block), frame(1, END_HEADERS, 3, &block)].concat(),
        [frame(1, 0, 1, &block), frame(0, 0, 1, b"data")].concat(),
        [frame(1, 0, 1, &block), frame(9, END_HEADERS, 3, &block)].concat(),
        frame(5, END_HEADERS, 1, &block),
        frame(1, END_HEADERS | 8, 1, &[200, 0]),
    ] {
        assert!(requests(&wire).broken().is_some(), "{wire:?}");
    }
    let endless: Vec<u8> = (0..40).flat_map(|_| frame(9, 0, 1, &[0x20; 16_000])).collect();
    assert!(requests(&[frame(1, 0, 1, b""), endless].concat()).broken().is_some());
    let ignored: Vec<u8> =
        (0..=MAX_FAULTS).flat_map(|_| frame(1, END_HEADERS, 1, &field(":path", "/"))).collect();
    assert!(requests(&[frame(1, END_HEADERS, 1, &block), ignored].concat()).broken().is_some());
}

fn answered(blocks: &[Vec<u8>]) -> Option<Fault> {
    let (mut responses, mut scanner) = (Responses::new(4096, 60 * 1024), FrameScanner::default());
    responses.wait(1);
    for block in blocks {
        scanner.scan(&frame(1, END_HEADERS, 1, block), |piece| responses.take(piece));
        scanner.scan(&frame(1, END_HEADERS, 3, &field(":path", "/")), |piece| responses.take(piece));
    }
    assert!(!responses.is_broken());
    let fault = responses.fault(1);
    responses.forget(1);
    assert_eq!(responses.fault(1), None);
    fault
}

#[test]
fn responses_have_a_status_and_trailers_have_none() {
    let (ok, early, sum) = (field(":status", "200"), field(":status", "103"), field("x-sum", "1"));
    let other = |name: &str| [ok.clone(), field(name, "/")].concat();
    assert_eq!(answered(&[early.clone(), early.clone(), ok.clone(), sum.clone()]), None);
    assert_eq!(answered(&[vec![0x88], sum.clone()]), None, "200 of the static table");
    assert_eq!(answered(&[ok.clone(), ok.clone()]), Some(Fault::PseudoInTrailers));
    assert_eq!(answered(&[ok.clone(), early.clone()]), Some(Fault::PseudoInTrailers));
    assert_eq!(answered(&[other(":path")]), Some(Fault::PseudoOfRequest));
    assert_eq!(answered(&[other(":x")]), Some(Fault::PseudoOfRequest));
    assert_eq!(answered(&[[early, field(":method", "GET")].concat(), ok]), Some(Fault::PseudoOfRequest));
}
