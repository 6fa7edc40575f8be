//! The folder of `--out`: `key.pem`, `cert-chain.pem`, `root-cert.pem`.
//!
//! The three change together: each is a link to `..data/…`, and `..data` is a link to one generation's folder that is
//! replaced by a rename. So a program that reads them while they are renewed finds one generation, never a mixture.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::identity::Identity;

/// Names of key, chain and trust bundle, as in Istio's `/etc/certs`.
pub const FILES: [&str; 3] = ["key.pem", "cert-chain.pem", "root-cert.pem"];
const LINK: &str = "..data";
/// The largest file that is read back, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// A folder of certificates.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens the folder; makes it (0700) where it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(path: &Path) -> Result<Folder, String> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Folder(path.to_owned()))
    }

    /// Key, chain and roots that were written last; `None` where there are none.
    ///
    /// # Errors
    /// Other users can read the key, or a file cannot be read.
    pub fn load(&self) -> Result<Option<(String, String, String)>, String> {
        let read = |name: &str| -> Result<Option<String>, String> {
            let path = self.0.join(name);
            let fail = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            match fs::metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(fail(&error)),
                Ok(found) if !found.is_file() || found.len() > MAX_FILE => Err(fail(&"not a file of PEM")),
                Ok(found) if name == FILES[0] && found.permissions().mode() & 0o077 != 0 => {
                    Err(fail(&"other users can read this private key; remove it, and a new one is made"))
                }
                Ok(_) => fs::read_to_string(&path).map(Some).map_err(|error| fail(&error)),
            }
        };
        let [key, chain, roots] = FILES;
        Ok(match (read(key)?, read(chain)?, read(roots)?) {
            (Some(key), Some(chain), Some(roots)) => Some((key, chain, roots)),
            _ => None,
        })
    }

    /// Replaces what is there.
    ///
    /// # Errors
    /// The disk refuses; the last generation stays.
    pub fn save(&self, identity: &Identity) -> Result<(), String> {
        self.replace(identity).map_err(|error| format!("{}: {error}", self.0.display()))
    }

    fn replace(&self, identity: &Identity) -> io::Result<()> {
        let before = fs::read_link(self.0.join(LINK)).ok();
        let generation = tempfile::Builder::new().prefix("..generation-").tempdir_in(&self.0)?.keep();
        let texts = [&identity.key_pem, &identity.chain_pem, &identity.roots_pem];
        for ((name, text), mode) in FILES.iter().zip(texts).zip([0o600, 0o644, 0o644]) {
            let path = generation.join(name);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
        }
        let folder = generation.file_name().unwrap_or_default();
        self.link(Path::new(folder), LINK)?;
        for name in FILES {
            let target = Path::new(LINK).join(name);
            if fs::read_link(self.0.join(name)).ok().as_deref() != Some(&target) {
                self.link(&target, name)?;
            }
        }
        fs::File::open(&self.0)?.sync_all()?;
        if let Some(before) = before.filter(|before| before.components().count() == 1) {
            // What stays behind is found by the next look at the folder, and harms nobody.
            let _ = fs::remove_dir_all(self.0.join(before));
        }
        Ok(())
    }

    /// A link put in place by a rename, so that the name is never missing.
    fn link(&self, target: &Path, name: &str) -> io::Result<()> {
        let fresh = self.0.join(format!("..new-{name}"));
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        symlink(target, &fresh)?;
        fs::rename(&fresh, self.0.join(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    fn identity(key: &str) -> Identity {
        Identity {
            key_pem: key.to_owned(),
            chain_pem: format!("chain of {key}"),
            roots_pem: "roots".to_owned(),
            spiffe: "spiffe://cluster.local/ns/a/sa/b".to_owned(),
            not_after: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_three_files_change_together_and_the_key_is_its_owners() {
        let place = tempfile::tempdir().unwrap();
        let folder = Folder::open(&place.path().join("out")).unwrap();
        assert_eq!(folder.load(), Ok(None));
        for key in ["one", "two", "three"] {
            folder.save(&identity(key)).unwrap();
            let found = folder.load().unwrap().unwrap();
            assert_eq!(found, (key.to_owned(), format!("chain of {key}"), "roots".to_owned()));
        }
        let names = fs::read_dir(&folder.0).unwrap().count();
        assert_eq!(names, 5, "three links, ..data and one generation");
        let key = folder.0.join("key.pem");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(folder.load().unwrap_err().contains("other users"));
    }
}
