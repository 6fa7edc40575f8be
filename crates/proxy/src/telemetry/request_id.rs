//! `x-request-id`: a random UUID that every hop keeps (RFC 9562, version 4).

use bytes::Bytes;

use super::random::Random;

/// The header.
pub const HEADER: &str = "x-request-id";

/// What the connection manager's configuration says about request ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestIdRules {
    /// Make one when there is none.
    pub generate: bool,
    /// Keep the client's even when the client is outside.
    pub preserve_external: bool,
}

impl RequestIdRules {
    /// Whether a new id replaces what the client sent. As Envoy: at the edge always (unless preserved), inside the
    /// mesh only when there is none.
    pub fn wants_new(self, has_one: bool, from_outside: bool) -> bool {
        self.generate && (!has_one || (from_outside && !self.preserve_external))
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Where the digits of each byte stand: 8-4-4-4-12.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// A new id.
pub fn generate(random: &Random) -> Bytes {
    let mut bits = (u128::from(random.next()) << 64) | u128::from(random.next());
    bits = (bits & !(0xf << 76)) | (0x4 << 76); // version 4
    bits = (bits & !(0x3 << 62)) | (0x2 << 62); // variant 10
    let mut text = [b'-'; 36];
    for (at, byte) in PLACES.into_iter().zip(bits.to_be_bytes()) {
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
    }
    Bytes::copy_from_slice(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_version_4_uuid() {
        let random = Random::from_system();
        for _ in 0..1_000 {
            let id = String::from_utf8(generate(&random).to_vec()).unwrap();
            let parts: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(parts, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(id.as_bytes()[14], b'4', "{id}");
            assert!(matches!(id.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{id}");
        }
        assert_ne!(generate(&random), generate(&random));
    }

    #[test]
    fn is_replaced_only_at_the_edge() {
        let rules = RequestIdRules { generate: true, preserve_external: false };
        assert!(rules.wants_new(false, false));
        assert!(!rules.wants_new(true, false), "what the mesh sends is kept");
        assert!(rules.wants_new(true, true));
        assert!(!RequestIdRules { preserve_external: true, ..rules }.wants_new(true, true));
        assert!(!RequestIdRules { generate: false, ..rules }.wants_new(false, true));
    }
}
