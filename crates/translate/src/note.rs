//! What a user must be told about a resource that was accepted: a part that does not act, or acts otherwise.

use std::fmt;

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// A part is accepted and not acted on yet.
    Info,
    /// The mesh does something else than what the resource says.
    Warning,
}

/// One remark about one field of one resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// Kind, as in YAML; `Proxy` for a remark about the node itself.
    pub kind: &'static str,
    /// Namespace of the resource.
    pub namespace: String,
    /// Name of the resource.
    pub name: String,
    /// Path of the field from the document's root: `spec.http[0].fault`.
    pub field: String,
    /// What happens instead, and what to do.
    pub reason: String,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{} {}: {}", self.kind, self.namespace, self.name, self.field, self.reason)
    }
}

/// Notes being collected about one resource.
#[derive(Debug)]
pub struct About<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    notes: &'a mut Vec<Note>,
    /// Where the notes of this resource begin.
    start: usize,
}

impl<'a> About<'a> {
    /// Starts to collect notes about a resource into `notes`.
    pub fn new(kind: &'static str, namespace: &'a str, name: &'a str, notes: &'a mut Vec<Note>) -> Self {
        let start = notes.len();
        About { kind, namespace, name, notes, start }
    }

    /// The field is accepted and does not act yet.
    pub fn info(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.push(Severity::Info, field.into(), reason.into());
    }

    /// The mesh does something else than the field says.
    pub fn warning(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.push(Severity::Warning, field.into(), reason.into());
    }

    fn push(&mut self, severity: Severity, field: String, reason: String) {
        let (namespace, name) = (self.namespace.to_owned(), self.name.to_owned());
        let note = Note { severity, kind: self.kind, namespace, name, field, reason };
        if !self.notes.iter().skip(self.start).any(|known| *known == note) {
            self.notes.push(note);
        }
    }
}
