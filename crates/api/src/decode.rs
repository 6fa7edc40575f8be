//! From a tree to typed values. All unknown fields and all values of a wrong type of a document are found in one go,
//! each with its place, its path and a suggestion.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Expected, IntoDeserializer, Visitor};

use crate::limits;
use crate::origin::Position;
use crate::path::Path;
use crate::text::{did_you_mean, one_of, quote};
use crate::tree::{Entry, Node, Value};

/// Something wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Path of the field.
    pub field: String,
    /// Where it is written.
    pub at: Position,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub suggestion: Option<String>,
}

/// What to make of `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// As if the field were absent.
    Absent,
    /// Refused inside of this value: in a policy an absent field means "any", which its author hardly meant.
    Refused,
}

/// Reads `node`, which stands at `base`, as a `T`.
///
/// # Errors
/// Every unknown field and every value of a wrong type, in the order of the file.
pub fn decode<T: DeserializeOwned>(node: &Node, base: &str, null: Null) -> Result<T, Vec<Finding>> {
    let context = Context { findings: RefCell::default(), skipped: RefCell::default(), null };
    let root = Path::Root;
    let path = if base.is_empty() { root } else { Path::Key(&root, base) };
    let mut rounds = None;
    loop {
        context.findings.borrow_mut().retain(|noted| !noted.unknown);
        match T::deserialize(Reader { node, path, context: &context }) {
            Ok(value) => {
                let findings = context.take();
                return if findings.is_empty() { Ok(value) } else { Err(findings) };
            }
            Err(error) => {
                let place = error.place.unwrap_or_else(|| (path.render(), node.at));
                let again = place.0 == base || !context.skipped.borrow_mut().insert(place.0.clone());
                context.note(place, error.message, error.suggestion, false);
                // Each round reads the document again: of a large one fewer problems of type are looked for.
                let left =
                    rounds.get_or_insert_with(|| (2_000_000 / node.measure().0).min(limits::TYPE_PROBLEMS));
                *left = left.saturating_sub(1);
                if again || *left == 0 {
                    break;
                }
            }
        }
    }
    Err(context.take())
}

struct Noted {
    finding: Finding,
    unknown: bool,
}

/// What one decoding knows and found.
struct Context {
    findings: RefCell<Vec<Noted>>,
    /// Paths of values that were found wrong: passed over in the next round.
    skipped: RefCell<HashSet<String>>,
    null: Null,
}

impl Context {
    fn note(
        &self,
        (field, at): (String, Position),
        message: String,
        suggestion: Option<String>,
        unknown: bool,
    ) {
        if !self.is_full() {
            self.findings
                .borrow_mut()
                .push(Noted { finding: Finding { field, at, message, suggestion }, unknown });
        }
    }

    /// Whether no further finding would be kept.
    fn is_full(&self) -> bool {
        self.findings.borrow().len() >= limits::PROBLEMS
    }

    fn skips(&self, path: &Path<'_>) -> bool {
        let skipped = self.skipped.borrow();
        !skipped.is_empty() && skipped.contains(&path.render())
    }

    fn take(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            self.findings.take().into_iter().map(|noted| noted.finding).collect();
        findings.sort_by_key(|finding| finding.at);
        findings
    }
}

/// A value that cannot be read; the place is filled in by the innermost reader that knows it.
#[derive(Debug)]
struct Error {
    place: Option<(String, Position)>,
    message: String,
    suggestion: Option<String>,
}

impl Error {
    fn at(mut self, path: &Path<'_>, at: Position) -> Self {
        self.place.get_or_insert_with(|| (path.render(), at));
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error { place: None, message: message.to_string(), suggestion: None }
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'a> {
    node: &'a Node,
    path: Path<'a>,
    context: &'a Context,
}

impl<'a> Reader<'a> {
    /// `expected …, found …`, with a hint where the cure is to add or remove quotes.
    fn mismatch(&self, expected: &dyn Expected) -> Error {
        let expected = expected.to_string();
        let suggestion = match &self.node.value {
            Value::Scalar(text, false) if expected.starts_with("a string") && !self.node.is_null() => {
                Some(format!("put it in quotes: {}", quote(text)))
            }
            Value::Scalar(text, true)
                if scalar_type(text) != "the text" && !expected.starts_with("a string") =>
            {
                Some("remove the quotes".into())
            }
            _ => None,
        };
        let error = Error {
            place: None,
            message: format!("expected {expected}, found {}", self.describe()),
            suggestion,
        };
        error.at(&self.path, self.node.at)
    }

    fn describe(&self) -> String {
        match &self.node.value {
            _ if self.node.is_null() => "nothing (null)".into(),
            Value::Scalar(text, true) => format!("the text {}", quote(text)),
            Value::Scalar(text, false) => format!("{} {}", scalar_type(text), quote(text)),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
        }
    }

    fn refuse(&self, message: String, suggestion: Option<String>) -> Error {
        Error { place: None, message, suggestion }.at(&self.path, self.node.at)
    }

    /// A whole number between two bounds.
    fn integer(&self, lowest: i128, highest: i128) -> Result<i128, Error> {
        let Value::Scalar(text, false) = &self.node.value else {
            return Err(self.mismatch(&"a whole number"));
        };
        let Some(number) = whole(text) else { return Err(self.mismatch(&"a whole number")) };
        if number < lowest || number > highest {
            return Err(self.refuse(format!("{number} is not between {lowest} and {highest}"), None));
        }
        Ok(number)
    }
}

/// What a plain scalar is.
fn scalar_type(text: &str) -> &'static str {
    match text {
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "the boolean",
        _ if whole(text).is_some() || decimal(text).is_some() => "the number",
        _ => "the text",
    }
}

fn whole(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || digits.len() > 30 {
        return None;
    }
    if let Some(hex) = text.strip_prefix("0x") {
        return i128::from_str_radix(hex, 16).ok();
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return i128::from_str_radix(octal, 8).ok();
    }
    // A leading zero means octal to some readers of YAML and decimal to others.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}

fn decimal(text: &str) -> Option<f64> {
    let looks = text.bytes().any(|byte| byte.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    looks.then(|| text.parse::<f64>().ok()).flatten().filter(|number| number.is_finite())
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ty,)+) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.integer(i128::from(<$type>::MIN), i128::from(<$type>::MAX))?;
            let Ok(number) = <$type>::try_from(number) else { return Err(self.mismatch(&"a whole number")) };
            visitor.$visit(number).map_err(|error: Error| error.at(&self.path, self.node.at))
        }
    )+};
}

impl<'de, 'a> de::Deserializer<'de> for Reader<'a> {
    type Error = Error;

    integers! {
        deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16, deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64, deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Map(_) => self.deserialize_map(visitor),
            Value::Scalar(text, false) if scalar_type(text) == "the boolean" => {
                self.deserialize_bool(visitor)
            }
            Value::Scalar(text, false) if whole(text).is_some() => self.deserialize_i64(visitor),
            Value::Scalar(text, false) if decimal(text).is_some() => self.deserialize_f64(visitor),
            Value::Scalar(..) if self.node.is_null() => visitor.visit_unit(),
            Value::Scalar(..) => self.deserialize_str(visitor),
        }
        .map_err(|error| error.at(&self.path, self.node.at))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar(text, false) if matches!(&**text, "true" | "True" | "TRUE") => {
                visitor.visit_bool(true)
            }
            Value::Scalar(text, false) if matches!(&**text, "false" | "False" | "FALSE") => {
                visitor.visit_bool(false)
            }
            _ => Err(self.mismatch(&"true or false")),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar(text, false) => match decimal(text) {
                Some(number) => visitor.visit_f64(number),
                None => Err(self.mismatch(&"a number")),
            },
            _ => Err(self.mismatch(&"a number")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar(text, true) => visitor.visit_str(text),
            Value::Scalar(text, false) if !self.node.is_null() && scalar_type(text) == "the text" => {
                visitor.visit_str(text)
            }
            _ => Err(self.mismatch(&visitor)),
        }
        .map_err(|error: Error| error.at(&self.path, self.node.at))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.node.is_null() { visitor.visit_unit() } else { Err(self.mismatch(&visitor)) }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::List(items) => visitor.visit_seq(Items { items, next: 0, reader: self }),
            _ => Err(self.mismatch(&"a list")),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Map(entries) => {
                visitor.visit_map(Fields { entries: entries.iter(), entry: None, known: None, reader: self })
            }
            _ => Err(self.mismatch(&"a map")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Map(entries) => visitor.visit_map(Fields {
                entries: entries.iter(),
                entry: None,
                known: Some(known),
                reader: self,
            }),
            _ => Err(self.mismatch(&"a map")),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Value::Scalar(text, _) = &self.node.value else {
            return Err(self.mismatch(&format!("a name: {}", one_of(variants)).as_str()));
        };
        if !variants.contains(&&**text) {
            let message = format!("unknown value {}; expected {}", quote(text), one_of(variants));
            return Err(self.refuse(message, did_you_mean(text, variants.iter().copied())));
        }
        let name: StrDeserializer<'_, Error> = (&**text).into_deserializer();
        visitor.visit_enum(name).map_err(|error| error.at(&self.path, self.node.at))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }
}

/// The entries of a list.
struct Items<'a> {
    items: &'a [Node],
    next: usize,
    reader: Reader<'a>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        while let Some(node) = self.items.get(self.next) {
            let path = Path::Index(&self.reader.path, self.next);
            self.next += 1;
            if self.reader.context.skips(&path) {
                continue;
            }
            let reader = Reader { node, path, context: self.reader.context };
            return seed.deserialize(reader).map(Some).map_err(|error| error.at(&path, node.at));
        }
        Ok(None)
    }
}

/// The entries of a map; with `known`, those of a struct.
struct Fields<'a> {
    entries: std::slice::Iter<'a, Entry>,
    entry: Option<&'a Entry>,
    known: Option<&'static [&'static str]>,
    reader: Reader<'a>,
}

impl Fields<'_> {
    /// Whether a field of a struct is passed over: unknown (noted) or null.
    fn passes_over(&self, entry: &Entry, known: &[&str], path: &Path<'_>) -> bool {
        let context = self.reader.context;
        if !known.contains(&&*entry.key) {
            if context.is_full() {
                return true;
            }
            let message = format!("unknown field {}", quote(&entry.key));
            let suggestion = did_you_mean(&entry.key, known.iter().copied());
            context.note((path.render(), entry.at), message, suggestion, true);
            return true;
        }
        if !entry.value.is_null() {
            return false;
        }
        if context.null == Null::Refused {
            let message = "nothing (null) is given, which would mean \"any\"".to_string();
            let suggestion = Some("give a value, or remove the field".to_string());
            context.note((path.render(), entry.at), message, suggestion, true);
        }
        true
    }
}

impl<'de> de::MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        for entry in self.entries.by_ref() {
            let path = Path::Key(&self.reader.path, &entry.key);
            if self.reader.context.skips(&path) {
                continue;
            }
            if let Some(known) = self.known {
                let fields =
                    Fields { entries: [].iter(), entry: None, known: self.known, reader: self.reader };
                if fields.passes_over(entry, known, &path) {
                    continue;
                }
            }
            self.entry = Some(entry);
            return seed
                .deserialize(KeyReader(&entry.key))
                .map(Some)
                .map_err(|error| error.at(&path, entry.at));
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some(entry) = self.entry.take() else {
            return Err(de::Error::custom("a value without its key"));
        };
        let path = Path::Key(&self.reader.path, &entry.key);
        let reader = Reader { node: &entry.value, path, context: self.reader.context };
        seed.deserialize(reader).map_err(|error| error.at(&path, entry.value.at))
    }
}

/// Reads a key: text, or a number where the map is keyed by numbers (ports).
struct KeyReader<'a>(&'a str);

impl<'de> de::Deserializer<'de> for KeyReader<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_str(self.0)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.parse() {
            Ok(number) => visitor.visit_u32(number),
            Err(_) => {
                Err(de::Error::custom(format!("expected a whole number as the key, found {}", quote(self.0))))
            }
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests;
