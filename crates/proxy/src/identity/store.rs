//! The state directory: one file with key, chain and roots, readable by its owner only, replaced whole.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::material::Material;
use crate::tls::pem;

const FILE: &str = "identity.pem";

/// The directory that keeps a workload's identity between starts.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
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
        Ok(Store { directory: directory.to_owned() })
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// What was saved last; `None` where nothing was.
    ///
    /// # Errors
    /// There is a file, and it cannot be used: other users can read it, or it is damaged.
    pub fn load(&self) -> Result<Option<Material>, StoreError> {
        let file = self.file();
        let metadata = match fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| fail(&file, error))?,
        };
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(fail(
                &file,
                "other users can read the private key; remove the file, and the workload asks for a new one",
            ));
        }
        let text = pem::read_file(&file).map_err(|error| fail(&file, error.reason))?;
        Material::from_pem(&text).map(Some).map_err(|reason| fail(&file, reason))
    }

    /// Replaces what is saved: a new file is written, flushed and renamed over the old one.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn save(&self, material: &Material) -> Result<(), StoreError> {
        let file = self.file();
        let temporary = self.directory.join(format!(".{FILE}.{}", std::process::id()));
        let write = || -> io::Result<()> {
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut output = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            output.write_all(material.to_pem().as_bytes())?;
            output.sync_all()?;
            fs::rename(&temporary, &file)?;
            fs::File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| fail(&file, error))
    }
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
}
