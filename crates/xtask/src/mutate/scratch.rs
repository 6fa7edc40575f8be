//! The copy of the tree in which faults are made. Files that are as they were keep their time, and the first copy is given
//! the dependencies that the tree has built, so that little is built.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use super::fault::{self, Fault};

/// The copy.
#[derive(Debug)]
pub struct Scratch {
    /// Its root.
    pub root: PathBuf,
    /// Cargo's target folder for it.
    pub target: PathBuf,
}

impl Scratch {
    /// Makes the copy of a tree's files equal to them.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn copy(root: &Path, files: &[PathBuf]) -> Result<Scratch, Box<dyn Error>> {
        let base = root.join("target/mutate");
        let scratch = Scratch { root: base.join("tree"), target: base.join("target") };
        let mut old = Vec::new();
        list(&scratch.root, &mut old)?;
        for path in old {
            if !files.iter().any(|file| scratch.root.join(file) == path) {
                fs::remove_file(path)?;
            }
        }
        for file in files {
            let (from, to) = (root.join(file), scratch.root.join(file));
            let bytes = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
            if fs::read(&to).is_ok_and(|known| known == bytes) {
                continue;
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&to, bytes).map_err(|error| format!("{}: {error}", to.display()))?;
        }
        seed(&root.join("target/debug"), &scratch.target.join("debug"))?;
        Ok(scratch)
    }

    /// Runs something while a file has a fault.
    ///
    /// # Errors
    /// The file cannot be read or written; the error of what is run.
    pub fn with<T>(
        &self,
        file: &Path,
        fault: &Fault,
        run: impl FnOnce() -> Result<T, Box<dyn Error>>,
    ) -> Result<T, Box<dyn Error>> {
        let path = self.root.join(file);
        let text = fs::read_to_string(&path)?;
        fs::write(&path, fault::apply(&text, fault))?;
        let result = run();
        fs::write(&path, text)?;
        result
    }
}

/// Gives a new target folder the dependencies that are built already, so that only the rooms are built anew.
fn seed(from: &Path, to: &Path) -> std::io::Result<()> {
    if to.exists() || !from.is_dir() {
        return Ok(());
    }
    for part in ["build", "deps", ".fingerprint"] {
        let mut files = Vec::new();
        list(&from.join(part), &mut files)?;
        for file in files {
            // Without an extension: a program of tests, large and of the other tree.
            let program = part == "deps" && file.extension().is_none();
            let Some(name) = file.strip_prefix(from).ok().filter(|_| !program) else { continue };
            let target = to.join(name);
            if let Some(folder) = target.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::copy(&file, &target)?;
            // Cargo compares times: a copy must not look newer than what it was made from.
            fs::File::options().write(true).open(&target)?.set_modified(file.metadata()?.modified()?)?;
        }
    }
    Ok(())
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
