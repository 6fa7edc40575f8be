//! Files of the data directory: private where they hold secrets, and always whole or absent.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file or directory that cannot be used, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileError {
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong, with the remedy where there is one.
    pub reason: String,
}

impl FileError {
    /// An error about `path`.
    pub fn new(path: &Path, reason: impl Into<String>) -> FileError {
        FileError { path: path.to_owned(), reason: reason.into() }
    }
}

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its owner only (0600).
    Private,
    /// Everybody (0644).
    Public,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Access::Private => 0o600,
            Access::Public => 0o644,
        }
    }
}

/// Makes the data directory (0700) where it is missing.
///
/// # Errors
/// It cannot be made, is not a directory, or can be written by other users, who could then replace the keys in it.
pub fn data_directory(path: &Path) -> Result<(), FileError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| FileError::new(path, format!("the data directory cannot be made: {error}")))?;
    let mode = directory_mode(path)?;
    if mode & 0o022 != 0 {
        return Err(FileError::new(
            path,
            format!(
                "the data directory can be written by other users (mode {mode:04o}); run: chmod go-w {}",
                path.display()
            ),
        ));
    }
    Ok(())
}

/// Checks that only its owner can look into a directory of secrets.
///
/// # Errors
/// It is missing, or its mode lets other users in.
pub fn check_private_directory(path: &Path) -> Result<(), FileError> {
    let mode = directory_mode(path)?;
    if mode & 0o077 != 0 {
        return Err(FileError::new(
            path,
            format!(
                "holds secrets and is open to other users (mode {mode:04o}); run: chmod 0700 {}",
                path.display()
            ),
        ));
    }
    Ok(())
}

fn directory_mode(path: &Path) -> Result<u32, FileError> {
    let metadata = fs::metadata(path).map_err(|error| FileError::new(path, error.to_string()))?;
    if !metadata.is_dir() {
        return Err(FileError::new(path, "is not a directory"));
    }
    Ok(metadata.mode() & 0o7777)
}

/// Reads a file of at most `limit` bytes.
///
/// # Errors
/// It is missing, not a regular file, or larger.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    read_open(path, open(path)?, limit)
}

/// Like [`read`], for a secret.
///
/// # Errors
/// Those of [`read`], and a mode that lets other users read or write it.
pub fn read_private(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(|error| FileError::new(path, error.to_string()))?;
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::new(
            path,
            format!(
                "holds a secret and is open to other users (mode {mode:04o}); run: chmod 0600 {}",
                path.display()
            ),
        ));
    }
    read_open(path, file, limit)
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(|error| FileError::new(path, error.to_string()))
}

fn read_open(path: &Path, file: File, limit: u64) -> Result<Vec<u8>, FileError> {
    let metadata = file.metadata().map_err(|error| FileError::new(path, error.to_string()))?;
    if !metadata.is_file() {
        return Err(FileError::new(path, "is not a regular file"));
    }
    if metadata.len() > limit {
        return Err(FileError::new(path, format!("is {} bytes long; the limit is {limit}", metadata.len())));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that grew since the check from one of exactly the limit.
    let read = file.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| FileError::new(path, error.to_string()))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::new(
            path,
            format!("grew beyond the limit of {limit} bytes while it was read"),
        ));
    }
    Ok(bytes)
}

/// Replaces a file so that a reader, also after a power cut, sees the old content or the new, never a part.
///
/// # Errors
/// The disk is full, the directory is missing or not writable, and the like. The old file is then untouched.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    replace(path, bytes, access, File::sync_all)?;
    sync_directory(parent(path)?)
}

/// Like [`write`], but a power cut may leave a part or nothing: for what can tell by itself whether it is whole.
///
/// # Errors
/// Those of [`write`].
pub fn write_unsynced(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    replace(path, bytes, access, |_| Ok(()))
}

fn replace(
    path: &Path,
    bytes: &[u8],
    access: Access,
    sync: impl FnOnce(&File) -> io::Result<()>,
) -> Result<(), FileError> {
    let fail = |error: io::Error| FileError::new(path, format!("cannot be written: {error}"));
    let mut file = tempfile::NamedTempFile::new_in(parent(path)?).map_err(fail)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(access.mode())).map_err(fail)?;
    file.write_all(bytes).map_err(fail)?;
    sync(file.as_file()).map_err(fail)?;
    file.persist(path).map_err(|error| fail(error.error))?;
    Ok(())
}

fn parent(path: &Path) -> Result<&Path, FileError> {
    path.parent().ok_or_else(|| FileError::new(path, "has no parent directory"))
}

/// Makes renames within a directory durable.
///
/// # Errors
/// The directory cannot be opened or synced.
pub fn sync_directory(path: &Path) -> Result<(), FileError> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.map_err(|error| FileError::new(path, format!("cannot be synced: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn writes_whole_files_with_their_mode_and_reads_them_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write(&path, b"one", Access::Private).unwrap();
        write(&path, b"two", Access::Private).unwrap();
        assert_eq!((read_private(&path, 3).unwrap(), mode(&path)), (b"two".to_vec(), 0o600));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file was left");
        write(&path, b"two", Access::Public).unwrap();
        assert_eq!(mode(&path), 0o644);
        assert!(read_private(&path, 3).unwrap_err().to_string().contains("chmod 0600"));
        assert_eq!(read(&path, 3).unwrap(), b"two");
        assert!(read(&path, 2).unwrap_err().to_string().contains("the limit is 2"));
    }

    #[test]
    fn directories_open_to_others_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("a/b");
        data_directory(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        check_private_directory(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        data_directory(&data).unwrap();
        assert!(check_private_directory(&data).unwrap_err().to_string().contains("mode 0755"));
        fs::set_permissions(&data, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(data_directory(&data).unwrap_err().to_string().contains("chmod go-w"));
        let file = directory.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(data_directory(&file).is_err());
    }
}
