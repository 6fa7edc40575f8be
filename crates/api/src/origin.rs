//! Where a resource was written: file, line of the document and the place of every field.

use std::sync::Arc;

use crate::path;

/// A place in a file: line and column, both from 1.
pub type Position = (u32, u32);

/// Where a resource was written. Cheap to clone. The default is "nowhere": a resource made by a program.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    file: Arc<str>,
    line: u32,
    column: u32,
    positions: Arc<Positions>,
}

impl Origin {
    /// An origin in `file` whose document starts at the given place.
    pub fn new(file: Arc<str>, start: Position, positions: Positions) -> Self {
        Origin { file, line: start.0, column: start.1, positions: Arc::new(positions) }
    }

    /// File as given to [`crate::parse`]; empty for a resource made by a program.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Line on which the document starts.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Column at which the document starts.
    pub fn column(&self) -> u32 {
        self.column
    }

    /// Where the field `path` is written: `spec.http[1]`, `metadata.labels["a.b/c"]`, `spec.http[0].route[0].weight`.
    /// The place is that of the key, for a list entry that of the entry.
    pub fn position(&self, path: &str) -> Option<Position> {
        self.positions.get(path)
    }

    /// As [`Origin::position`], for the nearest parent that is written when the field itself is not;
    /// the start of the document at last.
    pub fn nearest(&self, field: &str) -> Position {
        let mut field = field;
        loop {
            if let Some(position) = self.position(field) {
                return position;
            }
            match path::parent(field) {
                Some(shorter) => field = shorter,
                None => return (self.line, self.column),
            }
        }
    }

    /// `file:line` of a field or its nearest parent; empty for a resource made by a program.
    pub fn place(&self, path: &str) -> String {
        if self.file.is_empty() {
            return String::new();
        }
        format!("{}:{}", self.file, self.nearest(path).0)
    }

    /// Every field that is written, with its place, in the order of the file.
    pub fn fields(&self) -> impl Iterator<Item = (&str, Position)> {
        self.positions.written()
    }
}

/// Places of the fields of one document.
#[derive(Debug, Clone, Default)]
pub struct Positions {
    /// In the order of the file.
    written: Vec<(Box<str>, Position)>,
    /// Indexes into `written`, ordered by path.
    by_path: Vec<u32>,
}

impl Positions {
    /// From the fields in the order of the file.
    pub fn new(written: Vec<(Box<str>, Position)>) -> Self {
        let mut by_path: Vec<u32> = (0..u32::try_from(written.len()).unwrap_or(u32::MAX)).collect();
        by_path.sort_by(|a, b| written[*a as usize].0.cmp(&written[*b as usize].0));
        Positions { written, by_path }
    }

    /// The place of a path.
    pub fn get(&self, path: &str) -> Option<Position> {
        let at = self.by_path.binary_search_by(|index| (*self.written[*index as usize].0).cmp(path)).ok()?;
        Some(self.written[self.by_path[at] as usize].1)
    }

    /// Every path with its place, in the order of the file.
    pub fn written(&self) -> impl Iterator<Item = (&str, Position)> {
        self.written.iter().map(|(path, position)| (&**path, *position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_fields_and_their_parents() {
        let written =
            [("spec", (4, 1)), ("spec.http", (5, 3)), ("spec.http[0]", (6, 5)), ("metadata", (2, 1))];
        let positions = Positions::new(written.iter().map(|(path, at)| ((*path).into(), *at)).collect());
        let origin = Origin::new("a.yaml".into(), (1, 1), positions);
        assert_eq!(origin.position("spec.http[0]"), Some((6, 5)));
        assert_eq!(origin.position("spec.http[1]"), None);
        assert_eq!(origin.nearest("spec.http[1].route[0].weight"), (5, 3));
        assert_eq!(origin.nearest("metadata.labels[\"a.b/c\"]"), (2, 1));
        assert_eq!(origin.nearest("status"), (1, 1));
        assert_eq!(origin.place("spec.http[0].route"), "a.yaml:6");
        assert_eq!(origin.fields().map(|(path, _)| path).next(), Some("spec"));
    }
}
