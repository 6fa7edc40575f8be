//! Being told that something in a directory has changed. Only a hint: the directory is looked at anyway every few seconds.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

use super::directory::Wake;

/// A watch on a directory tree and on its name in the directory above.
#[derive(Debug)]
pub struct TreeWatch {
    watcher: RecommendedWatcher,
    root: PathBuf,
}

impl TreeWatch {
    /// Watches `root`; each change sends [`Wake::Changed`].
    ///
    /// # Errors
    /// The system's watches are used up, or the directory is not there. The text says which.
    pub fn new(root: &Path, wake: Sender<Wake>) -> Result<TreeWatch, String> {
        // Events carry absolute paths.
        let root = std::path::absolute(root).map_err(|error| error.to_string())?;
        let name = root.clone();
        let handler = move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, |event| concerns(event, &name)) {
                // The receiver is gone only when the source has stopped.
                let _ = wake.send(Wake::Changed);
            }
        };
        let watcher = notify::recommended_watcher(handler).map_err(|error| error.to_string())?;
        let mut watch = TreeWatch { watcher, root };
        watch.renew()?;
        Ok(watch)
    }

    /// Watches again, after the directory was replaced by another one of the same name.
    ///
    /// # Errors
    /// As [`TreeWatch::new`].
    pub fn renew(&mut self) -> Result<(), String> {
        // Not watching it any more is what an error here means, which is what is wanted.
        let _ = self.watcher.unwatch(&self.root);
        if let Some(above) = self.root.parent().filter(|above| !above.as_os_str().is_empty()) {
            // Only so that a replaced root is noticed at once; without it the next look notices.
            let _ = self.watcher.watch(above, RecursiveMode::NonRecursive);
        }
        self.watcher.watch(&self.root, RecursiveMode::Recursive).map_err(|error| error.to_string())
    }
}

/// Reading is no change, and what happens beside the root is none of ours.
fn concerns(event: &Event, root: &Path) -> bool {
    let reads = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    !reads && (event.paths.is_empty() || event.paths.iter().any(|path| path.starts_with(root)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, ModifyKind};
    use std::sync::mpsc::channel;

    #[test]
    fn reads_and_neighbours_do_not_count() {
        let root = Path::new("/etc/mesh");
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        assert!(concerns(&event(EventKind::Create(CreateKind::File), "/etc/mesh/a.yaml"), root));
        assert!(concerns(&event(EventKind::Modify(ModifyKind::Any), "/etc/mesh"), root));
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        assert!(concerns(&event(written, "/etc/mesh/a.yaml"), root));
        assert!(!concerns(&event(EventKind::Access(AccessKind::Read), "/etc/mesh/a.yaml"), root));
        assert!(!concerns(&event(EventKind::Create(CreateKind::File), "/etc/other"), root));
    }

    #[test]
    fn a_written_file_wakes() {
        let root = tempfile::tempdir().unwrap();
        let (sender, receiver) = channel();
        let _watch = TreeWatch::new(root.path(), sender).unwrap();
        std::fs::create_dir(root.path().join("production")).unwrap();
        std::fs::write(root.path().join("production/a.yaml"), "x").unwrap();
        assert!(matches!(receiver.recv(), Ok(Wake::Changed)));
    }
}
