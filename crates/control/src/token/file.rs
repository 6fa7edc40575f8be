//! `DATA/tokens.json` (0600): the tokens that are good, without their secrets. Written by `tulled token create` and, for
//! tokens with a limited number of uses, by a running `tulled`; a lock file keeps the two apart.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files::{self, Access, FileError};

const FILE: &str = "tokens.json";
const LOCK: &str = "tokens.lock";
const FILE_LIMIT: u64 = 16 << 20;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Public name.
    pub id: String,
    /// SHA-256 of the secret, base64url.
    pub secret_sha256: String,
    /// Namespace that its holder may claim.
    pub namespace: String,
    /// Service account that its holder may claim.
    pub service_account: String,
    /// End of its life, Unix seconds.
    pub expires: u64,
    /// How often it may be used; absent: as often as its holder wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_uses: Option<u64>,
    /// How often it was used; counted only where there is a limit.
    #[serde(default)]
    pub uses: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Content {
    tokens: Vec<Entry>,
}

/// The path of the token file of a data directory.
pub fn path(data: &Path) -> PathBuf {
    data.join(FILE)
}

/// Reads the entries; a missing file has none.
///
/// # Errors
/// The file is open to other users, too large, or not what this program wrote.
pub fn read(data: &Path) -> Result<Vec<Entry>, FileError> {
    let path = path(data);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = files::read_private(&path, FILE_LIMIT)?;
    let content: Content = serde_json::from_slice(&bytes).map_err(|error| {
        FileError::new(&path, format!("is damaged: {error}; remove it and create the tokens anew"))
    })?;
    Ok(content.tokens)
}

/// Reads, changes and replaces the entries while nobody else does.
///
/// # Errors
/// Those of [`read`]; the file cannot be written; or the change's own error.
pub fn update<T, E: From<FileError>>(
    data: &Path,
    change: impl FnOnce(&mut Vec<Entry>) -> Result<T, E>,
) -> Result<T, E> {
    let _lock = lock(data)?;
    let mut content = Content { tokens: read(data)? };
    let result = change(&mut content.tokens)?;
    let path = path(data);
    let bytes =
        serde_json::to_vec_pretty(&content).map_err(|error| FileError::new(&path, error.to_string()))?;
    files::write(&path, &bytes, Access::Private)?;
    Ok(result)
}

/// Held until dropped; the file itself stays, so that two processes never lock two different files.
fn lock(data: &Path) -> Result<File, FileError> {
    let path = data.join(LOCK);
    let fail = |error: std::io::Error| FileError::new(&path, format!("cannot be locked: {error}"));
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(fail)?;
    file.lock().map_err(fail)?;
    Ok(file)
}
