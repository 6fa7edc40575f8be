//! Entry points for fuzzers: any bytes may go in, and properties that must hold for all bytes are asserted.
//!
//! * nothing panics;
//! * the verdict on bytes that come at once equals the verdict on the same bytes one by one;
//! * what was read, written again and read again, is the same message: the next hop sees what this one judged.

use bytes::BytesMut;
use http::Method;

use super::h1::Limits;
use super::h1_decode::{BodyDecoder, Step};
use super::h1_encode::{self, Framing, ResponseRules};
use super::h1_head_reader::HeadReader;
use super::h1_request::RequestRules;
use super::h1_response::{self, ResponseFraming};
use super::h1_scan::HeadScanner;
use super::head::{BodyLength, RequestHead, ResponseHead, Version};
use super::headers::Headers;
use super::refusal::Refusal;

/// A message that was read to its end, and how many bytes came after it.
#[derive(Debug, PartialEq)]
struct Message<H> {
    head: H,
    body: Vec<u8>,
    trailers: Headers,
    rest: usize,
}

/// `Ok(None)`: more bytes are needed.
type Verdict<H> = Result<Option<Message<H>>, Refusal>;

/// Reads bytes as requests.
pub fn request(data: &[u8]) {
    let whole = read_request(data, data.len());
    assert_eq!(comparable(&whole), comparable(&read_request(data, 1)), "the verdict depends on the arrival");
    let Ok(Some(message)) = whole else { return };
    let mut out = BytesMut::new();
    let framing = h1_encode::request_head(&mut out, &message.head);
    write_body(&mut out, framing, &message);
    let again = read_request(&out, out.len());
    assert!(matches!(&again, Ok(Some(_))), "what was accepted is refused when it is sent on: {again:?}");
    let Ok(Some(again)) = again else { return };
    let (before, after) = (&message.head, &again.head);
    // A method that expects a body says that there is none.
    let length =
        |head: &RequestHead| if head.length == BodyLength::None { BodyLength::Known(0) } else { head.length };
    assert_eq!(
        (&before.method, &before.authority, &before.target, length(before)),
        (&after.method, &after.authority, &after.target, length(after))
    );
    same_content(
        (&before.headers, &message.body, &message.trailers),
        (&after.headers, &again.body, &again.trailers),
    );
    assert_eq!(again.rest, 0, "one request became two");
}

/// Reads bytes as responses, to GET and to HEAD.
pub fn response(data: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        let whole = read_response(data, data.len(), &method);
        let one_by_one = read_response(data, 1, &method);
        assert_eq!(comparable(&whole), comparable(&one_by_one), "the verdict depends on the arrival");
        let Ok(Some(message)) = whole else { continue };
        let mut out = BytesMut::new();
        if message.head.status < 200 {
            h1_encode::informational(&mut out, message.head.status, &message.head.headers);
        } else {
            let rules = ResponseRules {
                client: Version::Http11,
                to_head: method == Method::HEAD,
                close: false,
                tunnel: false,
            };
            let framing = h1_encode::response_head(&mut out, &message.head, rules);
            write_body(&mut out, framing, &message);
        }
        let again = read_response(&out, out.len(), &method);
        assert!(matches!(&again, Ok(Some(_))), "what was accepted is refused when it is sent on: {again:?}");
        let Ok(Some(again)) = again else { continue };
        assert_eq!((message.head.status, again.rest), (again.head.status, 0));
        same_content(
            (&message.head.headers, &message.body, &message.trailers),
            (&again.head.headers, &again.body, &again.trailers),
        );
    }
}

/// Reads bytes as a chunked body.
pub fn chunked(data: &[u8]) {
    let read = |step| {
        let mut source = Source { data, step, buffer: BytesMut::new() };
        read_body(BodyDecoder::marked(BodyLength::Unknown, Limits::default()), &mut source, ())
    };
    let whole = read(data.len());
    assert_eq!(comparable(&whole), comparable(&read(1)), "the verdict depends on the arrival");
    let Ok(Some(message)) = whole else { return };
    let mut out = BytesMut::new();
    write_body(&mut out, Framing::Chunked, &message);
    let mut source = Source { data: &out, step: out.len(), buffer: BytesMut::new() };
    let again = read_body(BodyDecoder::marked(BodyLength::Unknown, Limits::default()), &mut source, ());
    let expected = Message { rest: 0, ..message };
    assert_eq!(again, Ok(Some(expected)));
}

/// Verdicts without the sizes that depend on when a limit was noticed.
fn comparable<H>(verdict: &Verdict<H>) -> Result<Option<&Message<H>>, std::mem::Discriminant<Refusal>> {
    verdict.as_ref().map(Option::as_ref).map_err(std::mem::discriminant)
}

fn same_content(before: (&Headers, &Vec<u8>, &Headers), after: (&Headers, &Vec<u8>, &Headers)) {
    let kept = |headers: &Headers| -> Vec<(Vec<u8>, Vec<u8>)> {
        const WRITTEN_ANEW: [&str; 3] = ["host", "content-length", "transfer-encoding"];
        let is_kept = |name: &[u8]| !WRITTEN_ANEW.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()));
        headers.iter().filter(|(name, _)| is_kept(name)).map(|(n, v)| (n.to_vec(), v.to_vec())).collect()
    };
    assert_eq!(kept(before.0), kept(after.0), "a field changed on its way");
    assert_eq!((before.1, before.2), (after.1, after.2), "the body changed on its way");
}

/// Bytes that arrive in pieces of `step`.
struct Source<'d> {
    data: &'d [u8],
    step: usize,
    buffer: BytesMut,
}

impl Source<'_> {
    /// Whether another piece arrived.
    fn more(&mut self) -> bool {
        let take = self.step.min(self.data.len());
        let (piece, rest) = self.data.split_at(take);
        self.buffer.extend_from_slice(piece);
        self.data = rest;
        take > 0
    }

    fn rest(&self) -> usize {
        self.data.len() + self.buffer.len()
    }
}

fn read_request(data: &[u8], step: usize) -> Verdict<RequestHead> {
    let mut source = Source { data, step, buffer: BytesMut::new() };
    let (limits, rules) = (Limits::default(), RequestRules::default());
    let mut reader = HeadReader::default();
    loop {
        if let Some(request) = reader.read(&mut source.buffer, &limits, &rules)? {
            // What follows an offer to upgrade is the next request, until the offer is accepted.
            let offered = request.head.is_tunnel();
            let length = if offered { BodyLength::None } else { request.head.length };
            return read_body(BodyDecoder::marked(length, limits), &mut source, request.head);
        }
        if !source.more() {
            return Ok(None);
        }
    }
}

fn read_response(data: &[u8], step: usize, method: &Method) -> Verdict<ResponseHead> {
    let mut source = Source { data, step, buffer: BytesMut::new() };
    let limits = Limits::default();
    let mut scanner = HeadScanner::default();
    loop {
        if let Some(end) = scanner.scan(&source.buffer, &limits, 1)? {
            let response = h1_response::parse(source.buffer.split_to(end.length).freeze(), end, method)?;
            let decoder = match response.framing {
                ResponseFraming::UntilClose => BodyDecoder::UntilClose,
                _ => BodyDecoder::marked(response.head.length, limits),
            };
            return read_body(decoder, &mut source, response.head);
        }
        if !source.more() {
            return Ok(None);
        }
    }
}

fn read_body<H>(mut decoder: BodyDecoder, source: &mut Source<'_>, head: H) -> Verdict<H> {
    let (mut body, mut trailers) = (Vec::new(), Headers::new());
    loop {
        match decoder.decode(&mut source.buffer)? {
            Step::Data(data) => {
                assert!(!data.is_empty(), "an empty piece of data would end a chunked body");
                body.extend_from_slice(&data);
            }
            Step::Trailers(fields) => {
                trailers = fields;
                break;
            }
            Step::End => break,
            Step::NeedMore if source.more() => {}
            Step::NeedMore if decoder.may_close() => break,
            Step::NeedMore => return Ok(None),
        }
    }
    Ok(Some(Message { head, body, trailers, rest: source.rest() }))
}

fn write_body<H>(out: &mut BytesMut, framing: Framing, message: &Message<H>) {
    match framing {
        Framing::None => assert!(message.body.is_empty(), "a body that is not sent"),
        Framing::Known(bytes) => {
            assert_eq!(bytes, message.body.len() as u64, "the length lies");
            out.extend_from_slice(&message.body);
        }
        Framing::Chunked => {
            if !message.body.is_empty() {
                h1_encode::chunk_line(out, message.body.len());
                out.extend_from_slice(&message.body);
                out.extend_from_slice(b"\r\n");
            }
            h1_encode::last_chunk(out, &message.trailers);
        }
        Framing::UntilClose => out.extend_from_slice(&message.body),
    }
}
