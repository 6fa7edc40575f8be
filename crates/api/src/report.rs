//! Collects the problems of one resource and gives each its place.

use crate::limits;
use crate::origin::{Origin, Position};
use crate::problem::{Level, Problem};
use crate::text::printable;

/// The problems of one resource.
#[derive(Debug)]
pub struct Report<'a> {
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    origin: &'a Origin,
    problems: Vec<Problem>,
    refused: bool,
}

impl<'a> Report<'a> {
    /// A report on the resource that is written at `origin`.
    pub fn new(kind: &'a str, namespace: &'a str, name: &'a str, origin: &'a Origin) -> Self {
        Report { kind, namespace, name, origin, problems: Vec::new(), refused: false }
    }

    /// The resource is refused because of `field`.
    pub fn error(&mut self, field: &str, message: impl Into<String>) {
        self.add(Level::Error, field, message.into(), None);
    }

    /// As [`Report::error`], with what to do about it.
    pub fn error_with(&mut self, field: &str, message: impl Into<String>, suggestion: impl Into<String>) {
        self.add(Level::Error, field, message.into(), Some(suggestion.into()));
    }

    /// `field` is accepted and may surprise.
    pub fn warning(&mut self, field: &str, message: impl Into<String>) {
        self.add(Level::Warning, field, message.into(), None);
    }

    /// Adds a problem whose place is that of the field, or of the nearest parent that is written.
    pub fn add(&mut self, level: Level, field: &str, message: String, suggestion: Option<String>) {
        self.add_at(level, field, self.origin.nearest(field), message, suggestion);
    }

    /// Adds a problem with its place.
    pub fn add_at(
        &mut self,
        level: Level,
        field: &str,
        at: Position,
        message: String,
        suggestion: Option<String>,
    ) {
        self.refused |= level == Level::Error;
        if self.problems.len() > limits::PROBLEMS {
            return;
        }
        self.problems.push(Problem {
            level,
            kind: printable(self.kind),
            namespace: printable(self.namespace),
            name: printable(self.name),
            file: self.origin.file().to_string(),
            line: at.0,
            column: at.1,
            field: field.to_string(),
            message,
            suggestion,
        });
    }

    /// Whether anything refuses the resource.
    pub fn has_errors(&self) -> bool {
        self.refused
    }

    /// The problems, in the order they were added.
    pub fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}
