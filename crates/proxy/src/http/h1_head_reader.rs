//! Reads request heads from a buffer that fills as bytes arrive.

use bytes::{Buf, BytesMut};

use super::h1::Limits;
use super::h1_request::{self, ParsedRequest, RequestRules};
use super::h1_scan::HeadScanner;
use super::headers::is_token_byte;
use super::refusal::Refusal;

/// Empty lines before a request line that are ignored (RFC 9112, section 2.2).
const MAX_EMPTY_LINES: usize = 4;

/// Where the reading of one head stands.
#[derive(Default)]
pub(crate) struct HeadReader {
    scanner: HeadScanner,
    /// The first byte of the request line is there.
    pub begun: bool,
    empty_lines: usize,
}

impl HeadReader {
    /// A request or a refusal, when the buffer has enough for one; the bytes of the head are taken from the buffer.
    pub(crate) fn read(
        &mut self,
        buffer: &mut BytesMut,
        limits: &Limits,
        rules: &RequestRules,
    ) -> Result<Option<ParsedRequest>, Refusal> {
        while !self.begun && buffer.starts_with(b"\r\n") && self.empty_lines < MAX_EMPTY_LINES {
            buffer.advance(2);
            self.empty_lines += 1;
        }
        let Some(first) = buffer.first() else { return Ok(None) };
        if !self.begun && !is_token_byte(*first) {
            if &buffer[..] == b"\r" && self.empty_lines < MAX_EMPTY_LINES {
                return Ok(None);
            }
            return Err(Refusal::Malformed(
                "the first byte does not begin a method; is this another protocol, or TLS?",
            ));
        }
        self.begun = true;
        let Some(end) = self.scanner.scan(buffer, limits, 1)? else { return Ok(None) };
        let head = buffer.split_to(end.length).freeze();
        h1_request::parse(head, end, rules).map(Some)
    }
}
