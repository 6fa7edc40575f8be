//! One file: bounds, encoding, documents, duplicates.

use std::collections::HashMap;
use std::sync::Arc;

use crate::collector::Collector;
use crate::document::{self, Place};
use crate::limits;
use crate::object::{Key, Object};
use crate::origin::{Origin, Position};
use crate::problem::{Level, Problem};
use crate::tree::{self, Node, SyntaxError};

/// What [`parse`] found in one file.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Every resource that is valid, in the order of the file.
    pub objects: Vec<Object>,
    /// Everything worth saying, in the order of the file.
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// Whether something in the file is refused.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// Reads the resources of a file: YAML (any number of documents) or JSON. A resource without a namespace gets
/// `default_namespace`. Never fails as a whole: what is wrong is a [`Problem`], and what is valid is an [`Object`].
///
/// The bytes are distrusted: see [`crate::limits`]. A caller that reads a file should look at its size first, with
/// [`too_large`].
pub fn parse(file: &str, bytes: &[u8], default_namespace: &str) -> Parsed {
    let mut found = Collector::default();
    match text(file, bytes) {
        Ok(text) => read_documents(file, text, default_namespace, &mut found),
        Err(problem) => found.problem(*problem),
    }
    refuse_duplicates(&mut found);
    found.finish(file)
}

fn read_documents(file: &str, text: &str, default_namespace: &str, found: &mut Collector) {
    let place = Place { file: Arc::from(file), default_namespace };
    let mut documents = 0_usize;
    tree::documents(text, |next| {
        documents += 1;
        if documents > limits::DOCUMENTS {
            let message =
                format!("more than {} documents in one file, which is the limit", limits::DOCUMENTS);
            let at = next.as_ref().map_or_else(|error| error.at, |node| node.at);
            found.problem(problem(file, at, message, Some("split the file".into())));
            return false;
        }
        match next {
            Ok(node) => document::read(&node, &place, found),
            Err(error) => found.problem(syntax_problem(file, error)),
        }
        !found.is_full()
    });
}

/// The problem with a file of `size` bytes when that is more than is read; for callers that can tell the size without
/// reading the file.
pub fn too_large(file: &str, size: u64) -> Option<Problem> {
    if size <= limits::FILE_BYTES as u64 {
        return None;
    }
    let message = format!("the file has {size} bytes; at most {} (8 MiB) are read", limits::FILE_BYTES);
    Some(problem(file, (0, 0), message, Some("split it into several files".into())))
}

/// The bytes as text, without a byte order mark.
pub(crate) fn text<'a>(file: &str, bytes: &'a [u8]) -> Result<&'a str, Box<Problem>> {
    if let Some(problem) = too_large(file, bytes.len() as u64) {
        return Err(Box::new(problem));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let offset = error.valid_up_to();
            let before = &bytes[..offset];
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
            let byte = bytes.get(offset).copied().unwrap_or_default();
            let message = format!("the file is not UTF-8: byte 0x{byte:02x} at offset {offset}");
            let at = (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX));
            Err(Box::new(problem(file, at, message, Some("save it as UTF-8".into()))))
        }
    }
}

/// The only document of a text; for files that hold one.
pub(crate) fn single(file: &str, text: &str) -> Result<Option<Node>, Box<Problem>> {
    let mut found: Result<Option<Node>, Box<Problem>> = Ok(None);
    tree::documents(text, |next| {
        match (next, &found) {
            (Ok(node), _) if node.is_null() => {}
            (Ok(node), Ok(None)) => found = Ok(Some(node)),
            (Ok(node), _) => {
                let message = "a second document: this file holds exactly one".into();
                found = Err(Box::new(problem(file, node.at, message, None)));
            }
            (Err(error), _) => found = Err(Box::new(syntax_problem(file, error))),
        }
        found.is_ok()
    });
    found
}

fn syntax_problem(file: &str, error: SyntaxError) -> Problem {
    problem(file, error.at, error.message, error.suggestion)
}

/// An error about a file rather than a resource.
pub(crate) fn problem(file: &str, at: Position, message: String, suggestion: Option<String>) -> Problem {
    Problem {
        level: Level::Error,
        kind: String::new(),
        namespace: String::new(),
        name: String::new(),
        file: file.to_string(),
        line: at.0,
        column: at.1,
        field: String::new(),
        message,
        suggestion,
    }
}

/// That `second` has the kind, namespace and name of `first`, which is written elsewhere.
pub fn duplicate(first: &Origin, key: &Key, second: &Origin) -> Problem {
    let (line, column) = second.nearest("metadata.name");
    Problem {
        level: Level::Error,
        kind: key.kind.to_string(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        file: second.file().to_string(),
        line,
        column,
        field: "metadata.name".into(),
        message: format!("{key} is given twice: first at {}", first.place("metadata.name")),
        suggestion: Some("rename or remove one of them".into()),
    }
}

/// Keeps the first of several resources with the same key and refuses the others.
fn refuse_duplicates(found: &mut Collector) {
    let mut first: HashMap<Key, Origin> = HashMap::with_capacity(found.objects().len());
    let mut problems = Vec::new();
    found.objects().retain(|object| {
        let key = object.key();
        if let Some(earlier) = first.get(&key) {
            problems.push(duplicate(earlier, &key, object.origin()));
            return false;
        }
        first.insert(key, object.origin().clone());
        true
    });
    found.problems(problems);
}

#[cfg(test)]
mod tests;
