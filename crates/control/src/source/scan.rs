//! Looking at a directory tree: which files are there, bounded, without opening what has not changed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bounds of a directory tree.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Levels below the root.
    pub depth: usize,
    /// Files and directories, of any kind.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { depth: 16, entries: 100_000 }
    }
}

/// Tells one version of a file from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// Of a file.
    pub fn of(metadata: &Metadata) -> Fingerprint {
        Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// When the content was written, in seconds since the Unix epoch.
    pub fn modified_seconds(&self) -> i64 {
        self.modified.0
    }
}

/// What makes a directory another one although its name is the same.
pub type Identity = (u64, u64);

/// A file or directory that cannot be looked at. What was known below it stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Path from the root; empty for the root itself.
    pub path: PathBuf,
    /// What is wrong and what to do.
    pub reason: String,
}

/// The files of a tree.
#[derive(Debug, Default)]
pub struct Scan {
    /// Identity of the root; `None` when it is not there.
    pub root: Option<Identity>,
    /// Configuration files by path from the root.
    pub files: BTreeMap<PathBuf, Fingerprint>,
    /// What could not be looked at.
    pub obstacles: Vec<Obstacle>,
}

/// Lists the configuration files below `root`: `*.yaml`, `*.yml` and `*.json`, not hidden. Symbolic links are followed.
pub fn scan(root: &Path, limits: Limits) -> Scan {
    let mut walk = Walk { root, limits, entries: 0, scan: Scan::default(), above: Vec::new() };
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {
            walk.scan.root = Some((metadata.dev(), metadata.ino()));
            walk.directory(Path::new(""), &metadata);
        }
        Ok(_) => walk.obstacle(Path::new(""), "is not a directory".to_owned()),
        Err(error) => walk.obstacle(Path::new(""), error.to_string()),
    }
    walk.scan
}

struct Walk<'a> {
    root: &'a Path,
    limits: Limits,
    entries: usize,
    scan: Scan,
    /// The directories above the current one, to notice a link that leads back up.
    above: Vec<Identity>,
}

impl Walk<'_> {
    fn obstacle(&mut self, path: &Path, reason: String) {
        self.scan.obstacles.push(Obstacle { path: path.to_owned(), reason });
    }

    fn directory(&mut self, path: &Path, metadata: &Metadata) {
        let identity = (metadata.dev(), metadata.ino());
        if self.above.contains(&identity) {
            let reason = "is a symbolic link to a directory above it; remove the link".to_owned();
            return self.obstacle(path, reason);
        }
        if self.above.len() > self.limits.depth {
            let reason = format!("lies more than {} directories deep; move it up", self.limits.depth);
            return self.obstacle(path, reason);
        }
        let mut entries: Vec<PathBuf> = Vec::new();
        match fs::read_dir(self.root.join(path)) {
            Err(error) => return self.obstacle(path, error.to_string()),
            Ok(listing) => {
                for entry in listing {
                    match entry {
                        Ok(entry) => entries.push(path.join(entry.file_name())),
                        Err(error) => return self.obstacle(path, error.to_string()),
                    }
                    self.entries += 1;
                    if self.entries > self.limits.entries {
                        let most = self.limits.entries;
                        return self.obstacle(
                            Path::new(""),
                            format!("more than {most} files and directories lie in the configuration directory; split it"),
                        );
                    }
                }
            }
        }
        entries.sort();
        self.above.push(identity);
        for entry in entries {
            self.entry(&entry);
        }
        self.above.pop();
    }

    fn entry(&mut self, path: &Path) {
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            return;
        }
        let metadata = match fs::metadata(self.root.join(path)) {
            Ok(metadata) => metadata,
            // Gone since it was listed, or a link to nothing: the former is a deletion, the latter is worth a word.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if is_configuration(path) && fs::symlink_metadata(self.root.join(path)).is_ok() {
                    self.obstacle(path, "is a symbolic link to a file that does not exist".to_owned());
                }
                return;
            }
            Err(error) => return self.obstacle(path, error.to_string()),
        };
        if metadata.is_dir() {
            return self.directory(path, &metadata);
        }
        if !is_configuration(path) {
            return;
        }
        if path.to_str().is_none() {
            return self.obstacle(path, "has a name that is not UTF-8; rename it".to_owned());
        }
        if !metadata.is_file() {
            return self.obstacle(path, "is not a regular file".to_owned());
        }
        self.scan.files.insert(path.to_owned(), Fingerprint::of(&metadata));
    }
}

fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
}

/// What reading a file came to.
#[derive(Debug)]
pub enum Content {
    /// Its bytes, and the version that they belong to.
    Bytes(Vec<u8>, Fingerprint),
    /// It changed while it was read: look again.
    Changing,
    /// It has this many bytes, more than are read.
    TooLarge(u64),
}

/// Reads a file of at most `most` bytes; a larger one is not read at all.
///
/// # Errors
/// It cannot be opened or read.
pub fn read(path: &Path, most: u64) -> io::Result<Content> {
    // A pipe would block the open; the scan has seen a regular file here, and a swap in between is not worth more.
    let file = File::open(path)?;
    let before = file.metadata()?;
    if !before.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    if before.len() > most {
        return Ok(Content::TooLarge(before.len()));
    }
    let mut bytes = Vec::new();
    (&file).take(most + 1).read_to_end(&mut bytes)?;
    let (before, after) = (Fingerprint::of(&before), Fingerprint::of(&file.metadata()?));
    if before != after || bytes.len() as u64 != after.length() {
        return Ok(Content::Changing);
    }
    Ok(Content::Bytes(bytes, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn names(scan: &Scan) -> Vec<String> {
        scan.files.keys().map(|path| path.display().to_string()).collect()
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        root
    }

    #[test]
    fn finds_configuration_and_nothing_else() {
        let root =
            tree(&["mesh.yaml", "a/b/c.yml", "a/d.json", "a/e.txt", "a/.f.yaml", "a/g.yaml~", ".git/h.yaml"]);
        let scan = scan(root.path(), Limits::default());
        assert_eq!(names(&scan), ["a/b/c.yml", "a/d.json", "mesh.yaml"]);
        assert!(scan.obstacles.is_empty() && scan.root.is_some());
    }

    #[test]
    fn links_are_followed_but_not_in_circles() {
        let root = tree(&[".data/a.yaml"]);
        symlink(".data/a.yaml", root.path().join("a.yaml")).unwrap();
        symlink("missing.yaml", root.path().join("b.yaml")).unwrap();
        fs::create_dir(root.path().join("deep")).unwrap();
        symlink("..", root.path().join("deep/up")).unwrap();
        let scan = scan(root.path(), Limits::default());
        assert_eq!(names(&scan), ["a.yaml"]);
        let said: Vec<String> =
            scan.obstacles.iter().map(|one| format!("{} {}", one.path.display(), one.reason)).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].starts_with("b.yaml") && said[0].contains("does not exist"), "{said:?}");
        assert!(said[1].starts_with("deep/up") && said[1].contains("above it"), "{said:?}");
    }

    #[test]
    fn bounds_are_kept_and_named() {
        let root = tree(&["a/b/c/d.yaml", "e.yaml"]);
        let shallow = scan(root.path(), Limits { depth: 2, entries: 100 });
        assert_eq!(names(&shallow), ["e.yaml"]);
        assert_eq!(shallow.obstacles[0].path, Path::new("a/b/c"));
        let few = scan(root.path(), Limits { depth: 9, entries: 3 });
        assert_eq!(few.obstacles[0].path, Path::new(""));
        assert!(few.obstacles[0].reason.contains("more than 3"));
        let missing = scan(&root.path().join("nothing"), Limits::default());
        assert!(missing.root.is_none() && missing.obstacles.len() == 1);
    }

    #[test]
    fn a_large_file_is_measured_and_not_read() {
        let root = tree(&["a.yaml"]);
        let path = root.path().join("a.yaml");
        File::options().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
        assert!(matches!(read(&path, 8 << 20).unwrap(), Content::TooLarge(length) if length == 100 << 20));
        fs::write(&path, "abc").unwrap();
        assert!(matches!(read(&path, 3).unwrap(), Content::Bytes(bytes, _) if bytes == b"abc"));
    }
}
