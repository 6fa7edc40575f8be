//! Which requests were executed: one line a request, in a file that outlives the process.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::Error;

/// The header with a request's own name.
pub const ID: &str = "x-echo-id";
/// Longer names are cut.
const MAX_ID: usize = 128;

/// The file of executions.
#[derive(Debug)]
pub struct Record {
    file: File,
}

impl Record {
    /// Opens the file; lines are added at its end.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path) -> Result<Record, Error> {
        let file = File::options().create(true).append(true).open(path);
        Ok(Record { file: file.map_err(|error| format!("{}: {error}", path.display()))? })
    }

    /// Notes an execution before it is answered: a process that is killed afterwards has still done it.
    ///
    /// # Errors
    /// The line could not be written, so the request must not be answered as if it were counted.
    pub fn executed(&self, id: &[u8]) -> Result<(), Error> {
        let mut line: Vec<u8> = id.iter().copied().filter(u8::is_ascii_graphic).take(MAX_ID).collect();
        line.push(b'\n');
        // One call, so that lines of several writers stay whole.
        Ok((&self.file).write_all(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added_and_cannot_be_forged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        for id in [&b"one"[..], b"two\nthree"] {
            Record::open(&path).unwrap().executed(id).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwothree\n");
    }
}
