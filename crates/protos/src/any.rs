//! Packing messages into `google.protobuf.Any` and back, by type URL.

use crate::Any;
use prost::{Message, Name};

/// Prefix of every type URL on the xDS wire.
pub const TYPE_PREFIX: &str = "type.googleapis.com/";

/// Type URL of a message: `type.googleapis.com/` and its full name.
pub fn type_url<M: Name>() -> String {
    format!("{TYPE_PREFIX}{}", M::full_name())
}

/// Packs a message. The bytes are deterministic for messages without maps; see `translate` for hashing.
pub fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: type_url::<M>(), value: message.encode_to_vec() }
}

/// Why an `Any` could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// The type URL names another message.
    OtherType {
        /// What was expected.
        expected: String,
        /// What the `Any` says.
        found: String,
    },
    /// The bytes are not such a message.
    Malformed {
        /// The type URL.
        type_url: String,
        /// The decoder's reason.
        reason: String,
    },
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OpenError::OtherType { expected, found } => write!(f, "expected {expected}, found {found:?}"),
            OpenError::Malformed { type_url, reason } => write!(f, "malformed {type_url}: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens an `Any` that must hold an `M`.
pub fn open<M: Message + Name + Default>(any: &Any) -> Result<M, OpenError> {
    let expected = type_url::<M>();
    if any.type_url != expected {
        return Err(OpenError::OtherType { expected, found: any.type_url.clone() });
    }
    M::decode(any.value.as_slice())
        .map_err(|error| OpenError::Malformed { type_url: expected, reason: error.to_string() })
}
