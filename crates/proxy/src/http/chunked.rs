//! Decodes the chunked coding (RFC 9112, section 7.1).

use bytes::{Buf, Bytes, BytesMut};

use super::h1::Limits;
use super::h1_fields::refusal;
use super::h1_scan::HeadScanner;
use super::headers::Headers;
use super::hop;
use super::refusal::Refusal;

/// Chunk extensions of one body, in bytes; they mean nothing to anybody, so they are read and dropped.
const MAX_EXTENSION_BYTES: usize = 16 * 1024;
/// Chunks smaller than this are joined when more of them are at hand: a sender of one-byte chunks must not make each
/// byte cost the next hop a chunk of its own.
const JOIN_BELOW: usize = 1024;
/// How much is joined at most.
const JOIN_UP_TO: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { digits: u8, size: u64 },
    Extension { size: u64 },
    SizeLineFeed { size: u64 },
    Data { remaining: u64 },
    DataReturn,
    DataLineFeed,
    Trailers,
    Done,
}

/// The decoder of one body.
#[derive(Debug)]
pub(crate) struct ChunkedDecoder {
    state: State,
    extension_bytes: usize,
    limits: Limits,
    trailers: HeadScanner,
}

/// One step.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    /// Bytes of the body, not empty.
    Data(Bytes),
    /// The end, with trailer fields that may pass.
    End(Headers),
    /// The buffer is used up.
    NeedMore,
}

impl ChunkedDecoder {
    /// At the first chunk; trailers are bound by `limits`.
    pub(crate) fn new(limits: Limits) -> Self {
        ChunkedDecoder {
            state: State::Size { digits: 0, size: 0 },
            extension_bytes: 0,
            limits,
            trailers: HeadScanner::default(),
        }
    }

    /// Takes bytes from the front of `buffer`.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Refusal> {
        let mut joined = BytesMut::new();
        loop {
            match self.state {
                State::Data { remaining } => {
                    let room = if joined.is_empty() { usize::MAX } else { JOIN_UP_TO - joined.len() };
                    let take = usize::try_from(remaining).unwrap_or(usize::MAX).min(buffer.len()).min(room);
                    if take == 0 {
                        break;
                    }
                    let data = buffer.split_to(take);
                    let left = remaining - take as u64;
                    self.state = if left == 0 { State::DataReturn } else { State::Data { remaining: left } };
                    if joined.is_empty() && (take >= JOIN_BELOW || buffer.len() <= 2) {
                        return Ok(Decoded::Data(data.freeze()));
                    }
                    joined.extend_from_slice(&data);
                    if joined.len() >= JOIN_UP_TO {
                        break;
                    }
                }
                State::Trailers | State::Done if !joined.is_empty() => break,
                State::Trailers => {
                    return Ok(match self.read_trailers(buffer)? {
                        Some(trailers) => Decoded::End(trailers),
                        None => Decoded::NeedMore,
                    });
                }
                State::Done => return Ok(Decoded::End(Headers::new())),
                _ => {
                    let Some(byte) = buffer.first().copied() else { break };
                    self.line_byte(byte)?;
                    buffer.advance(1);
                }
            }
        }
        Ok(if joined.is_empty() { Decoded::NeedMore } else { Decoded::Data(joined.freeze()) })
    }

    /// One byte of a chunk-size line, or of the line end after the data.
    fn line_byte(&mut self, byte: u8) -> Result<(), Refusal> {
        const SIZE: Refusal =
            Refusal::Malformed("a chunk size is not hexadecimal digits that fit in 63 bits");
        self.state = match (self.state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => {
                let digit = match byte {
                    b'0'..=b'9' => byte - b'0',
                    _ => (byte | 0x20) - b'a' + 10,
                };
                if digits >= 16 || size > (i64::MAX as u64) >> 4 {
                    return Err(SIZE);
                }
                State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) }
            }
            (State::Size { digits: 1.., size }, b'\r') => State::SizeLineFeed { size },
            (State::Size { digits: 1.., size }, b';') => State::Extension { size },
            (State::Size { .. }, _) => return Err(SIZE),
            (State::Extension { size }, b'\r') => State::SizeLineFeed { size },
            (State::Extension { .. }, b'\t' | b' '..=0x7e | 0x80..) => {
                self.extension_bytes += 1;
                if self.extension_bytes > MAX_EXTENSION_BYTES {
                    return Err(Refusal::Malformed(
                        "the chunk extensions of one body are longer than 16384 bytes",
                    ));
                }
                self.state
            }
            (State::Extension { .. }, _) => {
                return Err(Refusal::Malformed("a chunk extension has a control character"));
            }
            (State::SizeLineFeed { size: 0 }, b'\n') => State::Trailers,
            (State::SizeLineFeed { size }, b'\n') => State::Data { remaining: size },
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Size { digits: 0, size: 0 },
            (State::DataReturn | State::DataLineFeed, _) => {
                return Err(Refusal::Malformed("the data of a chunk is not followed by CR LF"));
            }
            _ => return Err(Refusal::Malformed("a chunk-size line does not end with CR LF")),
        };
        Ok(())
    }

    /// The trailer section, once it is complete.
    fn read_trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<Headers>, Refusal> {
        let Some(end) = self.trailers.scan(buffer, &self.limits, 0)? else { return Ok(None) };
        let section = buffer.split_to(end.length).freeze();
        self.state = State::Done;
        if end.lines == 0 {
            return Ok(Some(Headers::new()));
        }
        let mut trailers = Headers::with_capacity(end.lines);
        let mut table = vec![httparse::EMPTY_HEADER; end.lines];
        match httparse::parse_headers(&section, &mut table).map_err(refusal)? {
            httparse::Status::Complete((length, fields)) if length == section.len() => {
                for field in fields.iter().filter(|field| hop::is_allowed_in_trailers(field.name.as_bytes()))
                {
                    let value =
                        if field.value.is_empty() { Bytes::new() } else { section.slice_ref(field.value) };
                    trailers.push(section.slice_ref(field.name.as_bytes()), value);
                }
            }
            _ => return Err(Refusal::Malformed("an empty line inside the trailers")),
        }
        Ok(Some(trailers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<Option<(Vec<u8>, Headers, Vec<u8>)>, Refusal>;

    /// All data and the trailers, fed in pieces of `step` bytes; the rest that belongs to the next message.
    fn run(text: &[u8], step: usize, limits: Limits) -> Outcome {
        let mut decoder = ChunkedDecoder::new(limits);
        let (mut buffer, mut data) = (BytesMut::new(), Vec::new());
        let mut pieces = text.chunks(step);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(bytes) => {
                    assert!(!bytes.is_empty());
                    data.extend_from_slice(&bytes);
                }
                Decoded::End(trailers) => {
                    buffer.extend(pieces.flatten());
                    return Ok(Some((data, trailers, buffer.to_vec())));
                }
                Decoded::NeedMore => match pieces.next() {
                    Some(piece) => buffer.extend_from_slice(piece),
                    None => return Ok(None),
                },
            }
        }
    }

    fn both(text: &[u8]) -> Outcome {
        let whole = run(text, usize::MAX, Limits::default());
        assert_eq!(whole, run(text, 1, Limits::default()), "{:?}", String::from_utf8_lossy(text));
        whole
    }

    #[test]
    fn reads_chunks_extensions_and_trailers() {
        let text = b"4\r\nwiki\r\n05;a=\"b\";c\r\npedia\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\r\nGET";
        let (data, trailers, rest) = both(text).unwrap().unwrap();
        assert_eq!(data, b"wikipedia0123456789");
        assert_eq!((trailers.len(), trailers.get_str("x-sum"), &rest[..]), (1, Some("1"), &b"GET"[..]));
        assert_eq!(both(b"0\r\n\r\n").unwrap().unwrap().0, b"");
    }

    #[test]
    fn waits_for_more() {
        for text in ["", "4", "4\r\n", "4\r\nwik", "4\r\nwiki\r\n", "0\r\n", "0\r\nX: a\r\n"] {
            assert_eq!(both(text.as_bytes()), Ok(None), "{text:?}");
        }
    }

    #[test]
    fn refuses_odd_chunks() {
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            "1 \r\na\r\n",
            "1\t;a\r\n",
            "1\na\r\n",
            "1\r\r\n",
            "1\ra",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\rb",
            "1;\n\r\na",
            "1;a\nb\r\n",
            "1;\0\r\n",
            "8000000000000000\r\n",
            "10000000000000000\r\n",
            "00000000000000001\r\n",
            "ffffffffffffffff\r\n",
            "1;a\rb",
            "0\r\nX : a\r\n\r\n",
            "0\r\n X: a\r\n\r\n",
            "0\r\nX: a\n\r\n",
            "0\r\nX: a\r\n b\r\n\r\n",
            "0\r\n: a\r\n\r\n",
            "1_0\r\n",
            ";a\r\n",
            "0\n\n",
            "0\r\n\n",
        ] {
            assert!(both(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn bounds_extensions_and_trailers() {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(8000));
        assert!(both(chunk.repeat(2).as_bytes()).is_ok());
        assert!(both(chunk.repeat(3).as_bytes()).is_err());
        let limits = Limits { max_headers_bytes: 64, max_headers_count: 2 };
        let many = format!("0\r\n{}\r\n", "X: a\r\n".repeat(3));
        assert!(matches!(run(many.as_bytes(), 1, limits), Err(Refusal::TooManyHeaders { .. })));
        let long = format!("0\r\nX: {}", "a".repeat(64));
        assert!(matches!(run(long.as_bytes(), 1, limits), Err(Refusal::HeadTooLarge { .. })));
    }

    #[test]
    fn joins_small_chunks_and_passes_large_ones() {
        let mut decoder = ChunkedDecoder::new(Limits::default());
        let mut buffer = BytesMut::from("1\r\na\r\n".repeat(100).as_bytes());
        assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Data(data)) if data.len() == 100));
        buffer.extend_from_slice(format!("800\r\n{}\r\n1\r\na\r\n", "b".repeat(2048)).as_bytes());
        assert!(matches!(decoder.decode(&mut buffer), Ok(Decoded::Data(data)) if data.len() == 2048));
    }
}
