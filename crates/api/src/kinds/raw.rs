//! A field that is known by name and whose inside is not read yet.

use serde::{Deserialize, Deserializer, de::IgnoredAny};

/// Presence of a field whose inside is not read yet. Everything inside is accepted; nothing acts on it, which
/// [`crate::acting`] reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Raw;

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Raw)
    }
}
