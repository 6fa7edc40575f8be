//! Finds the end of a head as bytes arrive, looking at each byte once.

use super::h1::Limits;
use super::refusal::Refusal;

/// Where the search stands. Starts again with [`HeadScanner::default`] for each head.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeadScanner {
    scanned: usize,
    line_start: usize,
    lines: usize,
}

/// The end of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadEnd {
    /// Bytes up to and with the empty line.
    pub length: usize,
    /// Lines before the empty line.
    pub lines: usize,
}

impl HeadScanner {
    /// Goes on where the last call stopped; `buffer` begins at the first byte of the head and only grows. `None` when
    /// the end has not arrived. A line that ends with LF alone is refused: peers disagree on whether it is a line.
    /// `first_lines` is the number of lines that are not fields: 1 for heads, 0 for trailers.
    pub(crate) fn scan(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        first_lines: usize,
    ) -> Result<Option<HeadEnd>, Refusal> {
        let limit = limits.max_headers_bytes;
        while let Some(found) = memchr::memchr(b'\n', &buffer[self.scanned..]) {
            let line_feed = self.scanned + found;
            if line_feed >= limit {
                return Err(Refusal::HeadTooLarge { limit, seen: buffer.len() });
            }
            if line_feed == 0 || buffer[line_feed - 1] != b'\r' {
                return Err(Refusal::Malformed("a line ends with LF without CR"));
            }
            self.scanned = line_feed + 1;
            if line_feed - 1 == self.line_start {
                return Ok(Some(HeadEnd { length: line_feed + 1, lines: self.lines }));
            }
            self.lines += 1;
            self.line_start = line_feed + 1;
            if self.lines > limits.max_headers_count + first_lines {
                let seen = self.lines - first_lines;
                return Err(Refusal::TooManyHeaders { limit: limits.max_headers_count, seen });
            }
        }
        self.scanned = buffer.len();
        if buffer.len() >= limit {
            return Err(Refusal::HeadTooLarge { limit, seen: buffer.len() });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], limits: Limits) -> Result<Option<HeadEnd>, Refusal> {
        HeadScanner::default().scan(bytes, &limits, 1)
    }

    #[test]
    fn finds_the_same_end_whole_and_byte_by_byte() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let expected = Some(HeadEnd { length: 27, lines: 2 });
        assert_eq!(whole(text, Limits::default()).unwrap(), expected);
        let mut scanner = HeadScanner::default();
        for end in 1..27 {
            assert_eq!(scanner.scan(&text[..end], &Limits::default(), 1).unwrap(), None);
        }
        assert_eq!(scanner.scan(&text[..27], &Limits::default(), 1).unwrap(), expected);
    }

    #[test]
    fn refuses_a_bare_line_feed_and_what_exceeds_a_limit() {
        let limits = Limits { max_headers_bytes: 20, max_headers_count: 1 };
        assert!(matches!(whole(b"GET\n", limits), Err(Refusal::Malformed(_))));
        assert!(matches!(whole(b"\n", limits), Err(Refusal::Malformed(_))));
        assert_eq!(whole(&[b'a'; 20], limits), Err(Refusal::HeadTooLarge { limit: 20, seen: 20 }));
        assert_eq!(whole(&[b'a'; 19], limits), Ok(None));
        assert_eq!(whole(b"a\r\nb\r\nc\r\n", limits), Err(Refusal::TooManyHeaders { limit: 1, seen: 2 }));
    }
}
