//! The laws that a machine can check. One file a law.

use std::path::{Path, PathBuf};
use std::process::Command;

mod imports;
mod inner;
mod purity;
mod sizes;
mod words;

/// What every law returns: the faults it found, or why it could not look.
pub type Faults = Result<Vec<String>, Box<dyn std::error::Error>>;

/// Checks every law.
pub fn run() -> Faults {
    let root = root()?;
    let files = tracked(&root)?;
    let mut faults = imports::check(&root)?;
    faults.extend(inner::check(&root, &files)?);
    faults.extend(purity::check(&root)?);
    faults.extend(sizes::check(&root, &files)?);
    faults.extend(words::check(&root, &files)?);
    Ok(faults)
}

/// The root of the workspace.
pub fn root() -> Result<PathBuf, Box<dyn std::error::Error>> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?)
}

/// Files that git tracks, or would track, relative to the root.
pub fn tracked(root: &Path) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(format!("git ls-files: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let names = String::from_utf8(output.stdout)?;
    Ok(names.lines().map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}
