//! Values without a schema (`google.protobuf.Struct`), such as the labels of a JSON log.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A map of values.
pub type Structure = BTreeMap<String, AnyValue>;

/// Any value that YAML and JSON share.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyValue {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<AnyValue>),
    /// A map.
    Map(Structure),
}

/// Reads a JSON object.
///
/// # Errors
/// Where and why it is none.
pub fn parse(text: &str) -> Result<Structure, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = AnyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E: de::Error>(self) -> Result<AnyValue, E> {
                Ok(AnyValue::Null)
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<AnyValue, E> {
                Ok(AnyValue::Bool(value))
            }

            // Numbers of protobuf's Struct are doubles.
            #[allow(clippy::cast_precision_loss)]
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<AnyValue, E> {
                Ok(AnyValue::Number(value as f64))
            }

            #[allow(clippy::cast_precision_loss)]
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<AnyValue, E> {
                Ok(AnyValue::Number(value as f64))
            }

            fn visit_none<E: de::Error>(self) -> Result<AnyValue, E> {
                Ok(AnyValue::Null)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<AnyValue, E> {
                Ok(AnyValue::Number(value))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<AnyValue, E> {
                Ok(AnyValue::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AnyValue, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(AnyValue::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<AnyValue, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = entries.next_entry()? {
                    map.insert(key, value);
                }
                Ok(AnyValue::Map(map))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
