//! HTTP told from other bytes by a connection's first line (Envoy's `http_inspector`). Each byte is looked at once.

/// What an HTTP/2 client says first (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest first line, as in Envoy.
pub const MAX_LINE: usize = 64 * 1024;

/// How far the reading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// More bytes are needed.
    Partial,
    /// It is HTTP: the name that `filter_chain_match.application_protocols` has for it.
    Http(&'static str),
    /// It is something else.
    Other,
    /// It may be HTTP, but the line does not end.
    TooLong,
}

/// Reads the first line.
#[derive(Debug, Default)]
pub struct Reader {
    /// Bytes looked at.
    seen: usize,
    /// Where the target begins; 0 while the method goes on.
    target: usize,
}

impl Reader {
    /// Looks at all bytes that have come so far; those of the call before must be among them.
    pub fn read(&mut self, bytes: &[u8]) -> Reading {
        let common = bytes.len().min(PREFACE.len());
        if bytes[..common] == PREFACE[..common] {
            return if common == PREFACE.len() { Reading::Http("h2c") } else { Reading::Partial };
        }
        let looked_at = &bytes[..bytes.len().min(MAX_LINE)];
        for (index, byte) in looked_at.iter().enumerate().skip(self.seen) {
            if *byte == b'\n' {
                return self.line(&looked_at[..index]);
            }
            if !self.may_be(index, *byte, looked_at) {
                return Reading::Other;
            }
        }
        self.seen = looked_at.len();
        if self.seen == MAX_LINE { Reading::TooLong } else { Reading::Partial }
    }

    /// Whether that byte can stand in a request line.
    fn may_be(&mut self, index: usize, byte: u8, bytes: &[u8]) -> bool {
        if self.target == 0 {
            if byte == b' ' && index > 0 {
                self.target = index + 1;
                return true;
            }
            return is_token(byte);
        }
        if index == self.target && byte != b' ' && !bytes.starts_with(b"CONNECT ") {
            return byte == b'/' || byte == b'*' || byte.is_ascii_alphabetic();
        }
        !byte.is_ascii_control() || matches!(byte, b'\r' | b'\t')
    }

    /// The verdict on a line without its LF.
    fn line(&self, line: &[u8]) -> Reading {
        let rest = match line.get(self.target..) {
            Some(rest) if self.target > 0 => rest.trim_ascii(),
            _ => return Reading::Other,
        };
        let (target, version) = match rest.iter().rposition(u8::is_ascii_whitespace) {
            Some(blank) => (rest[..blank].trim_ascii_end(), &rest[blank + 1..]),
            // HTTP/0.9 had no version.
            None => (rest, &b""[..]),
        };
        if !line.starts_with(b"CONNECT ") && !is_target(target) {
            return Reading::Other;
        }
        match version {
            b"HTTP/1.1" => Reading::Http("http/1.1"),
            b"" | [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Reading::Http("http/1.0"),
            _ => Reading::Other,
        }
    }
}

/// A path, `*`, or an absolute URI.
fn is_target(target: &[u8]) -> bool {
    match target {
        [b'/' | b'*', ..] => true,
        _ => target
            .windows(3)
            .position(|part| part == b"://")
            .is_some_and(|end| end > 0 && target[..end].iter().all(u8::is_ascii_alphabetic)),
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Reading {
        Reader::default().read(bytes)
    }

    fn one_by_one(bytes: &[u8]) -> Reading {
        let mut reader = Reader::default();
        let each = (1..=bytes.len()).map(|length| reader.read(&bytes[..length]));
        each.into_iter().find(|reading| *reading != Reading::Partial).unwrap_or(Reading::Partial)
    }

    #[test]
    fn http_is_told_by_its_first_line() {
        for (bytes, wanted) in [
            (&b"GET / HTTP/1.1\r\n"[..], Reading::Http("http/1.1")),
            (b"M-SEARCH * HTTP/1.1\nx", Reading::Http("http/1.1")),
            (b"GET http://a/b HTTP/1.0\r\n", Reading::Http("http/1.0")),
            (b"CONNECT a:443 HTTP/1.1\r\n", Reading::Http("http/1.1")),
            (b"GET /\r\n", Reading::Http("http/1.0")),
            (PREFACE, Reading::Http("h2c")),
            (b"PRI * HTTP/2.0\r\n\r\n", Reading::Partial),
            (b"GET / HTTP/1.", Reading::Partial),
            (b"", Reading::Partial),
        ] {
            assert_eq!(read(bytes), wanted, "{:?}", bytes.escape_ascii().to_string());
            assert_eq!(one_by_one(bytes), wanted, "{:?}, byte by byte", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn other_protocols_are_told_apart_as_early_as_can_be() {
        for bytes in [
            &b"\r\n"[..],
            b" GET / HTTP/1.1\r\n",
            b"EHLO client.example\r\n",
            b"USER anonymous\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x16\x03\x01",
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"GET / HTTP/one\r\n",
            b"GET / FTP/1.1\r\n",
            b"GET \x01",
            b"GET (",
        ] {
            assert_eq!(read(bytes), Reading::Other, "{:?}", bytes.escape_ascii().to_string());
            assert_eq!(one_by_one(bytes), Reading::Other, "{:?}", bytes.escape_ascii().to_string());
        }
        assert_eq!(read(b"\x03"), Reading::Other, "one byte is enough");
    }

    #[test]
    fn the_line_is_bounded() {
        let mut bytes = b"GET /".to_vec();
        bytes.resize(MAX_LINE, b'a');
        assert_eq!(read(&bytes), Reading::TooLong);
        assert_eq!(one_by_one(&bytes), Reading::TooLong);
        bytes.truncate(MAX_LINE - 1);
        assert_eq!(read(&bytes), Reading::Partial);
    }
}
