//! What commands print for programs and people.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};

use serde_json::Value;

use crate::Error;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    #[value(alias = "text")]
    Table,
    /// For programs.
    Json,
}

/// Prints a text to standard output. A reader that has read enough (`| head`) is no error.
///
/// # Errors
/// Standard output takes nothing for another reason.
pub fn print(text: &str) -> Result<(), Error> {
    write(text).map(drop)
}

/// As [`print`]; whether somebody still reads.
///
/// # Errors
/// Standard output takes nothing for another reason.
pub fn write(text: &str) -> Result<bool, Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("standard output: {error}").into()),
    }
}

/// JSON for programs.
///
/// # Errors
/// As [`print`].
pub fn json(value: &Value) -> Result<(), Error> {
    print(&format!("{}\n", escaped(&serde_json::to_string_pretty(value)?)))
}

/// JSON as text, without the control characters that JSON allows and terminals act on (U+007F to U+009F): they can only
/// stand in texts, where an escape means the same.
pub fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, '\u{7f}'..='\u{9f}') {
            // A String takes everything.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Rows below a head, in columns as wide as they need; what comes from outside must be printable already.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |(column, name): (usize, &&str)| {
        rows.iter().map(|row| cell(row, column)).max().unwrap_or_default().max(name.chars().count())
    };
    let widths: Vec<usize> = head.iter().enumerate().map(width).collect();
    let mut out = String::new();
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // A String takes everything.
            let _ = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A text that another program sent, with nothing in it that acts on a terminal.
pub fn printable(text: &str) -> String {
    if text.chars().any(char::is_control) { text.escape_debug().to_string() } else { text.to_owned() }
}

/// An answer in which no text acts on a terminal or begins a line.
pub fn harmless(answer: &Value) -> Value {
    match answer {
        Value::String(text) => Value::String(printable(text)),
        Value::Array(items) => items.iter().map(harmless).collect(),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(name, value)| (printable(name), harmless(value))).collect())
        }
        other => other.clone(),
    }
}

/// The names that are nearest to one that does not exist: `; did you mean a, b?`, else all of them while they are few.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> String {
    // `namespace/name` and `name.namespace.svc` are told apart by the name.
    let short = |name: &'_ str| -> String {
        let last = name.rsplit('/').next().unwrap_or(name);
        last.split('.').next().unwrap_or(last).to_owned()
    };
    let wanted = short(wanted);
    let mut all: Vec<(usize, &str)> =
        names.map(|name| (strsim::levenshtein(&wanted, &short(name)), name)).collect();
    all.sort_unstable();
    let far = 1 + wanted.len() / 4;
    let near: Vec<&str> = all.iter().filter(|(by, _)| *by <= far).map(|it| it.1).take(3).collect();
    match (near.as_slice(), all.len()) {
        ([], 0) => "; there are none".to_owned(),
        ([], 1..=20) => format!("; there are: {}", all.iter().map(|it| it.1).collect::<Vec<_>>().join(", ")),
        ([], number) => format!("; none of the {number} that are there has a name like it"),
        (near, _) => format!("; did you mean {}?", near.join(" or ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["long name".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["NAME", "N"], &rows), "NAME       N\na          1\nlong name  2\n");
    }

    #[test]
    fn near_names_are_offered() {
        let names = ["production/frontend", "production/payment-stable", "production/ledger"];
        assert_eq!(nearest("production/frontned", names.into_iter()), "; did you mean production/frontend?");
        assert_eq!(nearest("legder", names.into_iter()), "; did you mean production/ledger?");
        assert!(nearest("zzzzzzzzzzzzzzzz", names.into_iter()).contains("there are: production/"));
        assert_eq!(nearest("a", std::iter::empty()), "; there are none");
    }
}
