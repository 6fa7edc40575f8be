//! Free-form metadata (`google.protobuf.Struct`) as plain data.

use std::collections::BTreeMap;
use std::sync::Arc;

/// A JSON-like value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Absent on purpose.
    Null,
    /// True or false.
    Bool(bool),
    /// Every JSON number is a double.
    Number(f64),
    /// Text.
    String(Arc<str>),
    /// Values in order.
    List(Vec<Value>),
    /// Fields by name.
    Map(BTreeMap<Arc<str>, Value>),
}

impl Value {
    /// The text, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A field of a map.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }
}
