//! Header blocks of a connection: requests, responses, trailers (RFC 9113, sections 6.2, 6.10 and 8.1).

use super::code::{Code, Violation};
use super::connection::{Accepted, Core, ITSELF, Role};
use super::fields::{Asked, Block, Fault};
use super::fields_written;
use super::frame::{self, FrameHead, number, without_padding};
use super::hpack_encoder::Unwritable;
use super::streams::{Event, Failure, Stream};
use super::windows::{ReceiveWindow, SendWindow};
use crate::http::head::{BodyLength, RequestHead, ResponseHead};
use crate::http::headers::Headers;

/// Bytes of a priority in HEADERS.
const PRIORITY: usize = 5;

/// A header block whose end has not come.
#[derive(Debug)]
pub(crate) struct OpenBlock {
    pub stream: u32,
    ends_stream: bool,
    of_itself: bool,
    bytes: Vec<u8>,
}

impl Core {
    pub(super) fn headers(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        if head.stream == 0 {
            return Err(Violation::protocol("HEADERS on no stream"));
        }
        let part = without_padding(head, payload)?;
        let mut bytes = &payload[part];
        let mut of_itself = false;
        if head.has(frame::PRIORITIZED) {
            let Some((priority, rest)) = bytes.split_at_checked(PRIORITY) else {
                return Err(Violation::protocol("HEADERS too short for the priority that they announce"));
            };
            of_itself = number(priority).is_some_and(|parent| parent & 0x7fff_ffff == head.stream);
            bytes = rest;
        }
        let ends_stream = head.has(frame::END_STREAM);
        if head.has(frame::END_HEADERS) {
            return self.whole_block(head.stream, ends_stream, of_itself, bytes);
        }
        self.block = Some(OpenBlock { stream: head.stream, ends_stream, of_itself, bytes: bytes.to_vec() });
        Ok(())
    }

    pub(super) fn continuation(&mut self, head: FrameHead, payload: &[u8]) -> Result<(), Violation> {
        let Some(block) = &mut self.block else {
            return Err(Violation::protocol("CONTINUATION without HEADERS"));
        };
        // As much as the largest head that is told; what is compressed is not larger.
        if block.bytes.len() + payload.len() > self.rules.local.max_header_list_size as usize {
            let what = "a header block without end (max_headers_bytes, max_headers_count)";
            return Err(Violation::new(Code::ENHANCE_YOUR_CALM, what));
        }
        block.bytes.extend_from_slice(payload);
        if head.has(frame::END_HEADERS)
            && let Some(OpenBlock { stream, ends_stream, of_itself, bytes }) = self.block.take()
        {
            return self.whole_block(stream, ends_stream, of_itself, &bytes);
        }
        Ok(())
    }

    fn whole_block(
        &mut self,
        id: u32,
        ends_stream: bool,
        of_itself: bool,
        bytes: &[u8],
    ) -> Result<(), Violation> {
        let mut block = Block::new(self.rules.limits);
        if self.decoder.read(bytes, &mut block).is_err() {
            let what = "a header block that cannot be decoded";
            if self.rules.role == Role::Server && id > self.newest {
                self.unanswered.push(what);
            }
            return Err(Violation::new(Code::COMPRESSION_ERROR, what));
        }
        if self.rules.role == Role::Client {
            return self.response(id, ends_stream, block);
        }
        if id.is_multiple_of(2) {
            return Err(Violation::protocol("a request on a stream that a client cannot open"));
        }
        if id <= self.newest {
            return match self.streams.get(id) {
                Some(_) => self.trailers(id, ends_stream, block),
                None if self.was_reset(id) => Ok(()),
                None => Err(Violation::protocol("HEADERS on a stream that has ended")),
            };
        }
        self.newest = id;
        if self.is_too_late(id) {
            return Ok(());
        }
        if of_itself {
            return self.break_stream(id, Code::PROTOCOL_ERROR, ITSELF);
        }
        self.request(id, ends_stream, block)
    }

    fn request(&mut self, id: u32, ends_stream: bool, block: Block) -> Result<(), Violation> {
        let request = match block.into_request(ends_stream, self.rules.local.connect_protocol) {
            Ok(request) => Ok(request),
            Err(Fault::Refused(refusal)) => Err(refusal),
            Err(Fault::Fields(what)) => {
                self.unanswered.push(what);
                return Err(Violation::protocol(what));
            }
            Err(Fault::Malformed(what)) => {
                self.unanswered.push(what);
                return self.break_stream(id, Code::PROTOCOL_ERROR, what);
            }
        };
        let allowed = self.rules.local.max_concurrent_streams.map_or(usize::MAX, |limit| limit as usize);
        if self.streams.len() >= allowed {
            self.reset_stream(id, Code::REFUSED_STREAM);
            return Ok(());
        }
        let mut stream = self.new_stream(id);
        stream.receives = !ends_stream;
        stream.head_came = true;
        stream.discards = request.is_err();
        if let Ok(RequestHead { length: BodyLength::Known(length), .. }) = &request {
            stream.missing = Some(*length);
        }
        self.streams.insert(stream);
        self.accepted.push_back(Accepted { id, request });
        Ok(())
    }

    pub(super) fn new_stream(&self, id: u32) -> Stream {
        let receive = ReceiveWindow::new(self.rules.local.stream_window);
        Stream::new(id, receive, SendWindow::new(self.remote.stream_window))
    }

    /// The connection begins with a request that came in another protocol, and has ended (RFC 7540, section 3.2). It is
    /// accepted when the peer has begun to speak HTTP/2.
    pub(crate) fn begin_with(&mut self, settings: &[u8], request: RequestHead) -> Result<(), Violation> {
        self.apply_settings(settings)?;
        self.first = Some(request);
        Ok(())
    }

    pub(super) fn open_first(&mut self, request: RequestHead) {
        let mut stream = self.new_stream(1);
        stream.receives = false;
        stream.head_came = true;
        self.newest = 1;
        self.streams.insert(stream);
        self.accepted.push_back(Accepted { id: 1, request: Ok(request) });
    }

    fn trailers(&mut self, id: u32, ends_stream: bool, block: Block) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        if !stream.receives {
            if stream.failure.is_some() {
                return Ok(());
            }
            return Err(Violation::new(Code::STREAM_CLOSED, "HEADERS behind the end of their stream"));
        }
        let (whole, server) = (stream.missing.unwrap_or(0) == 0, self.rules.role == Role::Server);
        stream.receives = !ends_stream;
        let trailers = match block.into_trailers() {
            _ if !ends_stream => Err(Fault::Malformed("trailers that do not end their stream")),
            _ if !whole => {
                return self.break_stream(
                    id,
                    Code::PROTOCOL_ERROR,
                    "the body is shorter than its content-length",
                );
            }
            trailers => trailers,
        };
        match trailers {
            Ok(trailers) => {
                if !trailers.is_empty() && !stream.discards {
                    stream.events.push_back(Event::Trailers(trailers));
                }
                stream.wake_reader();
                Ok(())
            }
            Err(Fault::Fields(what)) => Err(Violation::protocol(what)),
            Err(Fault::Malformed(what)) => {
                self.end_stream(id, Code::PROTOCOL_ERROR, Failure::Malformed(what))
            }
            Err(Fault::Refused(refusal)) if server => {
                // The reader of the body is told, and the request is answered.
                stream.fail_reading(Failure::Refused(refusal));
                Ok(())
            }
            Err(Fault::Refused(refusal)) => self.end_stream(id, Code::CANCEL, Failure::Refused(refusal)),
        }
    }

    fn response(&mut self, id: u32, ends_stream: bool, block: Block) -> Result<(), Violation> {
        self.is_not_idle(id)?;
        let Some(stream) = self.streams.get_mut(id) else { return Ok(()) };
        if stream.head_came {
            return self.trailers(id, ends_stream, block);
        }
        if stream.failure.is_some() {
            return Ok(());
        }
        stream.receives = !ends_stream;
        let head = match block.into_response(ends_stream, &stream.asked) {
            Ok(head) => head,
            Err(Fault::Fields(what)) => return Err(Violation::protocol(what)),
            Err(Fault::Malformed(what)) => {
                return self.end_stream(id, Code::PROTOCOL_ERROR, Failure::Malformed(what));
            }
            Err(Fault::Refused(refusal)) => {
                return self.end_stream(id, Code::CANCEL, Failure::Refused(refusal));
            }
        };
        if head.status < 200 && head.status != 101 {
            if ends_stream {
                let what = "an interim response that ends its stream";
                return self.end_stream(id, Code::PROTOCOL_ERROR, Failure::Malformed(what));
            }
            let Some(left) = stream.interim.checked_sub(1) else {
                let what = "more interim responses than allowed";
                return self.end_stream(id, Code::CANCEL, Failure::Malformed(what));
            };
            stream.interim = left;
        } else {
            stream.head_came = true;
            stream.missing = match head.length {
                BodyLength::Known(length) => Some(length),
                BodyLength::None | BodyLength::Unknown => None,
            };
        }
        stream.events.push_back(Event::Head(head));
        stream.wake_reader();
        Ok(())
    }

    /// Sends a request, on a stream of its own.
    pub(crate) fn send_request(&mut self, head: &RequestHead, ends: bool) -> Result<u32, Unwritable> {
        let id = self.next;
        let encoder = &mut self.encoder;
        if let Err(error) = self.out.block(id, ends, |out| fields_written::request(encoder, out, head)) {
            self.encoder.forget();
            return Err(error);
        }
        self.next += 2;
        let mut stream = self.new_stream(id);
        stream.sends = !ends;
        stream.interim = self.rules.max_interim;
        stream.asked = Asked::new(head);
        self.streams.insert(stream);
        self.touched();
        Ok(id)
    }

    /// Sends the head of a response; nothing when its stream has ended.
    pub(crate) fn send_response(
        &mut self,
        id: u32,
        head: &ResponseHead,
        ends: bool,
    ) -> Result<(), Unwritable> {
        let encoder = &mut self.encoder;
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.sends) else { return Ok(()) };
        if let Err(error) = self.out.block(id, ends, |out| fields_written::response(encoder, out, head)) {
            self.encoder.forget();
            return Err(error);
        }
        stream.sends = !ends;
        self.touched();
        Ok(())
    }

    /// Ends a stream with trailers.
    pub(crate) fn send_trailers(&mut self, id: u32, trailers: &Headers) -> Result<(), Unwritable> {
        let encoder = &mut self.encoder;
        let Some(stream) = self.streams.get_mut(id).filter(|stream| stream.sends) else { return Ok(()) };
        if let Err(error) = self.out.block(id, true, |out| fields_written::trailers(encoder, out, trailers)) {
            self.encoder.forget();
            return Err(error);
        }
        stream.sends = false;
        self.touched();
        Ok(())
    }
}
