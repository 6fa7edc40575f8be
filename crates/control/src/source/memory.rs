//! The last good version of every file, kept in `DATA/last-good/` so that a restart does not lose what a broken file
//! gave: without it, a typing error in a policy would switch the policy off at the next start.
//!
//! A copy begins with the hash of the rest. So nobody waits for the disk, 20,000 times at a first start, and what a power
//! cut tore is forgotten rather than taken for a shorter policy.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::scan::{self, Content, Limits};
use crate::ca::authority::sha256;
use crate::encoding::encode;
use crate::files::{self, Access, FileError};

/// The largest file with its head.
const FILE_BYTES: u64 = api::limits::FILE_BYTES as u64 + 128;

/// A folder with copies of good files, or none: then nothing is remembered.
#[derive(Debug)]
pub struct Memory {
    folder: Option<PathBuf>,
}

impl Memory {
    /// Remembers in `folder`, which is made when the first file is kept; `None`: remembers nothing.
    pub fn new(folder: Option<PathBuf>) -> Memory {
        Memory { folder }
    }

    /// The last good version of a file, by its path from the configuration's root.
    pub fn recall(&self, path: &Path) -> Option<Vec<u8>> {
        match scan::read(&self.folder.as_ref()?.join(path), FILE_BYTES) {
            Ok(Content::Bytes(bytes, _)) => {
                let end = bytes.iter().position(|byte| *byte == b'\n')?;
                let rest = bytes.get(end + 1..)?;
                (bytes[..=end] == *head(rest).as_bytes()).then(|| rest.to_vec())
            }
            _ => None,
        }
    }

    /// Keeps a good version. Not keeping it costs nothing before the next restart, so an error is only logged.
    pub fn keep(&self, path: &Path, bytes: &[u8]) {
        let Some(folder) = &self.folder else {
            return;
        };
        if self.recall(path).is_some_and(|known| known == bytes) {
            return;
        }
        if let Err(error) = write(folder, path, bytes) {
            tracing::warn!("the last good version is not kept for the next start: {error}");
        }
    }

    /// Forgets a file that is gone.
    pub fn forget(&self, path: &Path) {
        if let Some(folder) = &self.folder {
            // What is not there needs no forgetting, and what cannot be removed is not recalled for a file that is gone.
            let _ = fs::remove_file(folder.join(path));
        }
    }

    /// Forgets every file that is not among those that are there.
    pub fn retain(&self, is_there: impl Fn(&Path) -> bool) {
        let Some(folder) = self.folder.as_ref().filter(|folder| folder.is_dir()) else {
            return;
        };
        for path in scan::scan(folder, Limits::default()).files.keys().filter(|path| !is_there(path)) {
            self.forget(path);
        }
    }
}

fn write(folder: &Path, path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let target = folder.join(path);
    let parent = target.parent().unwrap_or(folder);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| FileError::new(parent, error.to_string()))?;
    files::write_unsynced(&target, &[head(bytes).as_bytes(), bytes].concat(), Access::Private)
}

/// The first line of the copy of `bytes`.
fn head(bytes: &[u8]) -> String {
    format!("tulle-last-good {}\n", encode(&sha256(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_recalls_and_forgets() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(folder.path().join("last-good")));
        let (a, b) = (Path::new("production/a.yaml"), Path::new("mesh.yaml"));
        assert!(memory.recall(a).is_none());
        memory.keep(a, b"one");
        memory.keep(a, b"two");
        memory.keep(b, b"three");
        assert_eq!(memory.recall(a).unwrap(), b"two");
        memory.retain(|path| path == a);
        assert!(memory.recall(a).is_some() && memory.recall(b).is_none());
        memory.forget(a);
        assert!(memory.recall(a).is_none());
        Memory::new(None).keep(a, b"one");
    }

    #[test]
    fn a_torn_copy_is_not_recalled() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(Some(folder.path().to_owned()));
        let path = Path::new("a.yaml");
        memory.keep(path, b"one\ntwo\n");
        let whole = fs::read(folder.path().join(path)).unwrap();
        for length in 0..whole.len() {
            fs::write(folder.path().join(path), &whole[..length]).unwrap();
            assert_eq!(memory.recall(path), None, "{length} bytes of {}", whole.len());
        }
        memory.keep(path, b"one\ntwo\n");
        assert_eq!(memory.recall(path).unwrap(), b"one\ntwo\n");
        let empty = Path::new("empty.yaml");
        memory.keep(empty, b"");
        assert_eq!(memory.recall(empty).unwrap(), b"");
    }
}
