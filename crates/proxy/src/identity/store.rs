//! The state directory: the identity (key, chain and roots) and the sealed snapshot, readable by their owner only, each
//! replaced whole.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::material::Material;
use super::seal::{self, MAX_FILE, SealKey};
use crate::tls::pem;

const FILE: &str = "identity.pem";
/// Name of the sealed snapshot.
pub const SNAPSHOT: &str = "snapshot.sealed";

/// The directory that keeps a workload's identity and configuration between starts.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    /// Of the private key in the directory, which need not be the one in use: a new key may not have been saved.
    key: Mutex<Option<SealKey>>,
}

/// Why the state directory could not be used.
#[derive(Debug, thiserror::Error)]
#[error("state directory: {path}: {reason}")]
pub struct StoreError {
    /// File or directory.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

fn fail(path: &Path, reason: impl ToString) -> StoreError {
    StoreError { path: path.display().to_string(), reason: reason.to_string() }
}

impl Store {
    /// Opens the directory; makes it (0700) where it is missing, and takes other users' access away where it has any.
    ///
    /// # Errors
    /// It cannot be made, or belongs to somebody else.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        match fs::metadata(directory) {
            Ok(metadata) if !metadata.is_dir() => return Err(fail(directory, "is not a directory")),
            Ok(metadata) if metadata.permissions().mode() & 0o077 != 0 => {
                fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(|error| {
                    fail(
                        directory,
                        format!("other users can open it, and it cannot be closed to them: {error}"),
                    )
                })?;
                tracing::warn!(directory = %directory.display(), "other users could open the state directory; it is 0700 now");
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(directory)
                    .map_err(|error| fail(directory, error))?;
            }
            Err(error) => return Err(fail(directory, error)),
        }
        Ok(Store { directory: directory.to_owned(), key: Mutex::new(None) })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn key(&self) -> MutexGuard<'_, Option<SealKey>> {
        self.key.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The identity that was saved last; `None` where none was.
    ///
    /// # Errors
    /// There is a file, and it cannot be used: other users can read it, or it is damaged.
    pub fn load(&self) -> Result<Option<Material>, StoreError> {
        let file = self.file(FILE);
        let remedy = "remove the file, and the workload asks for a new identity";
        let Some(text) = read_private(&file, pem::MAX_PEM, remedy)? else { return Ok(None) };
        let material = Material::from_pem(&text).map_err(|reason| fail(&file, reason))?;
        let key = material.seal_key().map_err(|reason| fail(&file, reason))?;
        *self.key() = Some(key);
        Ok(Some(material))
    }

    /// Replaces the saved identity. The sealed snapshot is sealed with both keys before, so that it opens with whichever
    /// identity a crash leaves.
    ///
    /// # Errors
    /// The disk refuses; the identity that was saved before then stays, and the snapshot with it.
    pub fn save(&self, material: &Material) -> Result<(), StoreError> {
        let file = self.file(FILE);
        let new = material.seal_key().map_err(|reason| fail(&file, reason))?;
        let mut key = self.key();
        if let Some(old) = &*key {
            self.seal_again(old, &new)?;
        }
        self.replace(FILE, material.to_pem().as_bytes())?;
        *key = Some(new);
        Ok(())
    }

    fn seal_again(&self, old: &SealKey, new: &SealKey) -> Result<(), StoreError> {
        // What does not open now is no loss: the next start would refuse it, and the next write replaces it.
        let Ok(Some(file)) = read_private(&self.file(SNAPSHOT), MAX_FILE, "") else { return Ok(()) };
        match seal::open(&file, old) {
            Ok(content) => self.replace(SNAPSHOT, &seal::seal(content, &[old, new])),
            Err(_) => Ok(()),
        }
    }

    /// Replaces the sealed snapshot.
    ///
    /// # Errors
    /// There is no saved identity to seal it with, the content is too large, or the disk refuses; the snapshot before
    /// then stays.
    pub fn save_snapshot(&self, content: &[u8]) -> Result<usize, StoreError> {
        let file = self.file(SNAPSHOT);
        if content.len() > seal::MAX_CONTENT {
            let reason = format!("{} bytes, more than the limit of {}", content.len(), seal::MAX_CONTENT);
            return Err(fail(&file, reason));
        }
        let key = self.key();
        let Some(key) = &*key else {
            return Err(fail(&file, "there is no saved identity to seal it with"));
        };
        let sealed = seal::seal(content, &[key]);
        self.replace(SNAPSHOT, &sealed)?;
        Ok(sealed.len())
    }

    /// The content of the sealed snapshot; `None` where there is none. To be called after [`Store::load`].
    ///
    /// # Errors
    /// There is one, and it is not to be trusted.
    pub fn load_snapshot(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let file = self.file(SNAPSHOT);
        let remedy = "close it to them (chmod 0600), or remove it";
        let Some(mut sealed) = read_private(&file, MAX_FILE, remedy)? else { return Ok(None) };
        let key = self.key();
        let Some(key) = &*key else {
            return Err(fail(&file, "there is no saved identity to open it with"));
        };
        let length = seal::open(&sealed, key).map_err(|error| fail(&file, error))?.len();
        sealed.drain(..sealed.len() - length);
        Ok(Some(sealed))
    }

    /// A new file is written, flushed and renamed over the old one.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = self.file(&format!(".{name}.{}", std::process::id()));
        let write = || -> io::Result<()> {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            output.write_all(bytes)?;
            output.sync_all()?;
            fs::rename(&temporary, self.file(name))?;
            fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| {
            // Half a file would only take the room that is missing.
            let _ = fs::remove_file(&temporary);
            fail(&self.file(name), error)
        })
    }
}

/// A file of at most `limit` bytes that only its owner can read; `None` where there is none.
fn read_private(file: &Path, limit: usize, remedy: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let input = match fs::File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|error| fail(file, error))?,
    };
    let metadata = input.metadata().map_err(|error| fail(file, error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(fail(file, format!("other users can read it; {remedy}")));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    input.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| fail(file, error))?;
    if bytes.len() > limit {
        return Err(fail(file, format!("more than the limit of {limit} bytes")));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, Leaf};

    fn material() -> Material {
        let ca = Authority::new("root");
        let leaf = ca.issue(Leaf::new(&["spiffe://cluster.local/ns/a/sa/b"]));
        Material::from_pem(format!("{}{}{}", leaf.key_pem, leaf.leaf_pem, ca.pem).as_bytes()).unwrap()
    }

    #[test]
    fn keeps_an_identity_for_its_owner_only() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("deep/state");
        let store = Store::open(&directory).unwrap();
        assert!(store.load().unwrap().is_none());
        store.save(&material()).unwrap();
        store.save(&material()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
        let loaded = store.load().unwrap().unwrap();
        assert_eq!((loaded.chain.len(), loaded.roots.len()), (1, 1));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "a temporary file was left");
    }

    #[test]
    fn refuses_a_key_that_others_can_read_and_a_torn_file() {
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let store = Store::open(place.path()).unwrap();
        store.save(&material()).unwrap();
        let file = place.path().join(FILE);
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert!(store.load().err().unwrap().to_string().contains("other users"));
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let text = fs::read(&file).unwrap();
        fs::write(&file, &text[..text.len() / 2]).unwrap();
        let error = store.load().err().unwrap().to_string();
        assert!(error.contains(FILE) && !error.contains("PRIVATE"), "{error}");
    }

    #[test]
    fn a_snapshot_opens_with_the_identity_that_was_saved_with_it_and_no_other() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        assert!(store.save_snapshot(b"early").unwrap_err().to_string().contains("no saved identity"));
        store.save(&material()).unwrap();
        assert!(store.load_snapshot().unwrap().is_none());
        store.save_snapshot(b"content").unwrap();
        let again = Store::open(place.path()).unwrap();
        assert!(again.load_snapshot().is_err(), "the key is not known yet");
        again.load().unwrap().unwrap();
        assert_eq!(again.load_snapshot().unwrap().as_deref(), Some(&b"content"[..]));
        // A renewal changes the key, and the snapshot goes on.
        again.save(&material()).unwrap();
        let third = Store::open(place.path()).unwrap();
        third.load().unwrap().unwrap();
        assert_eq!(third.load_snapshot().unwrap().as_deref(), Some(&b"content"[..]));
        // Another workload's snapshot.
        let foreign = tempfile::tempdir().unwrap();
        let other = Store::open(foreign.path()).unwrap();
        other.save(&material()).unwrap();
        other.save_snapshot(b"foreign").unwrap();
        fs::copy(foreign.path().join(SNAPSHOT), place.path().join(SNAPSHOT)).unwrap();
        let error = third.load_snapshot().unwrap_err().to_string();
        assert!(error.contains("belongs to another workload") && error.contains(SNAPSHOT), "{error}");
        fs::set_permissions(place.path().join(SNAPSHOT), Permissions::from_mode(0o640)).unwrap();
        assert!(third.load_snapshot().unwrap_err().to_string().contains("other users"));
    }

    #[test]
    fn a_crash_between_the_seal_and_the_new_key_loses_nothing() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        store.save(&material()).unwrap();
        store.save_snapshot(b"content").unwrap();
        // The new identity cannot be written: something stands where its temporary file belongs.
        let blocked = place.path().join(format!(".{FILE}.{}", std::process::id()));
        fs::create_dir(&blocked).unwrap();
        assert!(store.save(&material()).is_err());
        let again = Store::open(place.path()).unwrap();
        again.load().unwrap().unwrap();
        assert_eq!(again.load_snapshot().unwrap().as_deref(), Some(&b"content"[..]));
        // And what is written meanwhile is sealed with the key that lies on the disk.
        store.save_snapshot(b"newer").unwrap();
        assert_eq!(again.load_snapshot().unwrap().as_deref(), Some(&b"newer"[..]));
    }

    #[test]
    fn a_disk_that_refuses_leaves_the_snapshot_before() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(place.path()).unwrap();
        store.save(&material()).unwrap();
        store.save_snapshot(b"content").unwrap();
        fs::create_dir(place.path().join(format!(".{SNAPSHOT}.{}", std::process::id()))).unwrap();
        assert!(store.save_snapshot(b"newer").unwrap_err().to_string().contains(SNAPSHOT));
        assert_eq!(store.load_snapshot().unwrap().as_deref(), Some(&b"content"[..]));
    }
}
