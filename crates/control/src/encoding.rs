//! Bytes as text, and text from outside as one line.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads [`encode`]'s output of exactly `N` bytes.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Text from a file or a peer for the log: it must not forge lines there.
pub fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_it_encodes_and_nothing_of_another_length() {
        let text = encode(&[0xff; 9]);
        assert_eq!(text, "____________");
        assert_eq!(decode::<9>(&text), Some([0xff; 9]));
        assert_eq!((decode::<8>(&text), decode::<9>("+___________")), (None, None));
    }

    #[test]
    fn a_log_line_stays_one_line() {
        assert_eq!(one_line("a\nb\x1b[31m"), "a\u{fffd}b\u{fffd}[31m");
    }
}
