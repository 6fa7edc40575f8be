//! How long a message is (RFC 9112, section 6.3), in the strict reading: whatever two parsers could read in two ways is
//! refused, because the difference is how requests are smuggled.

use super::head::{BodyLength, Version};
use super::refusal::Refusal;

/// What the fields of a head say about its length, gathered while they are walked.
#[derive(Debug, Default)]
pub(crate) struct FramingFields {
    content_length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    /// Takes a `content-length` field; `raw` is what stands between the colon and the line end.
    pub(crate) fn content_length(&mut self, value: &[u8], raw: &[u8]) -> Result<(), Refusal> {
        if self.content_length.is_some() {
            return Err(Refusal::Malformed("content-length occurs more than once"));
        }
        no_tab(raw)?;
        self.content_length = Some(parse_length(value)?);
        Ok(())
    }

    /// Takes a `transfer-encoding` field. Only `chunked`, once, is a coding that all peers read alike.
    pub(crate) fn transfer_encoding(&mut self, value: &[u8], raw: &[u8]) -> Result<(), Refusal> {
        if self.chunked {
            return Err(Refusal::Malformed("transfer-encoding occurs more than once"));
        }
        no_tab(raw)?;
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Unsupported {
                what: "a transfer-encoding other than exactly \"chunked\"",
                details: "http1.invalid_transfer_encoding",
            });
        }
        self.chunked = true;
        Ok(())
    }

    /// The length that the fields give; `None` when there is none of them.
    pub(crate) fn length(&self, version: Version) -> Result<Option<BodyLength>, Refusal> {
        match (self.chunked, self.content_length) {
            (true, Some(_)) => Err(Refusal::Invalid {
                what: "both transfer-encoding and content-length",
                details: "http1.content_length_and_chunked_not_allowed",
            }),
            (true, None) if version == Version::Http10 => {
                Err(Refusal::Malformed("transfer-encoding in an HTTP/1.0 message"))
            }
            (true, None) => Ok(Some(BodyLength::Unknown)),
            (false, Some(length)) => Ok(Some(BodyLength::Known(length))),
            (false, None) => Ok(None),
        }
    }
}

/// A tab around a value that decides the length: legal whitespace, but old parsers take it for a part of the value.
fn no_tab(raw: &[u8]) -> Result<(), Refusal> {
    if raw.contains(&b'\t') {
        return Err(Refusal::Malformed("a tab in a field that decides the length of the body"));
    }
    Ok(())
}

/// Digits only: no sign, no list, no space, nothing that overflows 64 bits.
pub(crate) fn parse_length(value: &[u8]) -> Result<u64, Refusal> {
    const BAD: Refusal = Refusal::Malformed("content-length is not a decimal number below 2^63");
    if value.is_empty() {
        return Err(BAD);
    }
    let mut length: u64 = 0;
    for byte in value {
        if !byte.is_ascii_digit() {
            return Err(BAD);
        }
        length = length.checked_mul(10).and_then(|n| n.checked_add(u64::from(byte - b'0'))).ok_or(BAD)?;
    }
    // Peers that count in signed numbers must read the same length.
    if length > i64::MAX as u64 { Err(BAD) } else { Ok(length) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn length(fields: &[(&str, &'static str)], version: Version) -> Result<Option<BodyLength>, Refusal> {
        let mut framing = FramingFields::default();
        for (name, value) in fields {
            let trimmed = Bytes::from_static(value.trim_matches([' ', '\t']).as_bytes());
            match *name {
                "cl" => framing.content_length(&trimmed, value.as_bytes())?,
                _ => framing.transfer_encoding(&trimmed, value.as_bytes())?,
            }
        }
        framing.length(version)
    }

    #[test]
    fn one_clear_answer_is_taken() {
        for (value, expected) in [(" 0", 0), ("5", 5), (" 007 ", 7), ("9223372036854775807", i64::MAX as u64)]
        {
            assert_eq!(
                length(&[("cl", value)], Version::Http11),
                Ok(Some(BodyLength::Known(expected))),
                "{value}"
            );
        }
        for value in ["chunked", " Chunked", " CHUNKED "] {
            assert_eq!(length(&[("te", value)], Version::Http11), Ok(Some(BodyLength::Unknown)), "{value}");
        }
        assert_eq!(length(&[], Version::Http11), Ok(None));
    }

    #[test]
    fn everything_else_is_refused() {
        for value in [
            "",
            " ",
            "+5",
            "-5",
            "5,5",
            "5, 6",
            "5 5",
            "0x5",
            "5\t",
            "\t5",
            "9223372036854775808",
            "18446744073709551616",
            "99999999999999999999999999",
            "5.0",
            "five",
        ] {
            assert!(length(&[("cl", value)], Version::Http11).is_err(), "{value:?}");
        }
        for value in [
            "",
            "identity",
            "identity, chunked",
            "chunked, chunked",
            "\tchunked",
            "chunked\t",
            "xchunked",
            "gzip, chunked",
            "chunked;q=1",
            "chunked,",
            ",chunked",
            "\"chunked\"",
            "chunk",
        ] {
            assert!(length(&[("te", value)], Version::Http11).is_err(), "{value:?}");
        }
        assert!(length(&[("cl", "5"), ("cl", "5")], Version::Http11).is_err());
        assert!(length(&[("te", "chunked"), ("te", "chunked")], Version::Http11).is_err());
        assert!(length(&[("te", "chunked"), ("cl", "5")], Version::Http11).is_err());
        assert!(length(&[("cl", "5"), ("te", "chunked")], Version::Http11).is_err());
        assert!(length(&[("te", "chunked")], Version::Http10).is_err());
    }
}
