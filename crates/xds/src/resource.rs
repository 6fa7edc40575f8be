//! A resource: a name, a version and an opaque message. What it means is nobody's business here.

use protos::Any;

/// One resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// Its name, unique within its type.
    pub name: String,
    /// Version of its content: equal versions mean equal content.
    pub version: String,
    /// The message.
    pub any: Any,
}

/// FNV-1a, 64 bit: stable between builds and machines, which the standard library's hasher does not promise.
#[derive(Debug, Clone, Copy)]
pub struct ContentHash(u64);

impl Default for ContentHash {
    fn default() -> Self {
        ContentHash(0xcbf2_9ce4_8422_2325)
    }
}

impl ContentHash {
    /// Adds bytes.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self
    }

    /// The version text: 16 hexadecimal digits.
    pub fn version(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// Version of one message's bytes.
pub fn content_version(bytes: &[u8]) -> String {
    ContentHash::default().with(bytes).version()
}

/// Version of a set, from the name and version of each member in order of names.
pub fn set_version<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = ContentHash::default();
    for (name, version) in members {
        hash = hash.with(name.as_bytes()).with(&[0]).with(version.as_bytes()).with(&[0]);
    }
    hash.version()
}

/// Name of a bare resource of a state-of-the-world response: field 1, a string, in every xDS resource message. None
/// when the bytes are not a message with such a field.
pub fn name_of(message: &[u8]) -> Option<String> {
    use prost::encoding::{DecodeContext, WireType, decode_key, skip_field, string};
    let mut rest = message;
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).ok()?;
        if tag == 1 && wire_type == WireType::LengthDelimited {
            let mut name = String::new();
            string::merge(wire_type, &mut name, &mut rest, DecodeContext::default()).ok()?;
            return Some(name);
        }
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::Message;
    use protos::envoy::envoy::config::{endpoint::v3::ClusterLoadAssignment, listener::v3::Listener};

    #[test]
    fn the_hash_is_fnv_1a() {
        assert_eq!(content_version(b""), "cbf29ce484222325");
        assert_eq!(content_version(b"foobar"), "85944171f73967e8");
    }

    #[test]
    fn a_set_version_separates_names_from_versions() {
        let one = set_version([("ab", "c")].into_iter());
        assert_ne!(one, set_version([("a", "bc")].into_iter()));
        assert_eq!(one, set_version([("ab", "c")].into_iter()));
    }

    #[test]
    fn reads_the_name_field() {
        let listener = Listener { name: "0.0.0.0_80".to_owned(), ..Default::default() };
        assert_eq!(name_of(&listener.encode_to_vec()).as_deref(), Some("0.0.0.0_80"));
        let load = ClusterLoadAssignment { cluster_name: "outbound|80||a".to_owned(), ..Default::default() };
        assert_eq!(name_of(&load.encode_to_vec()).as_deref(), Some("outbound|80||a"));
        assert_eq!(name_of(&Listener::default().encode_to_vec()), None);
        assert_eq!(name_of(&[0x0a, 0xff]), None);
        assert_eq!(name_of(&[0x0a, 0x01, 0xff]), None);
    }
}
