//! A directory of YAML and JSON files as the source of the mesh: `DIR/<namespace>/**`, and `DIR/mesh.yaml`.
//!
//! One thread looks at it: at once after a hint from the file system, and every two seconds anyway. What cannot be
//! looked at stays as it was last.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use api::{MeshConfig, Parsed, Problem};
use runtime::{TaskError, Tasks};

use super::memory::Memory;
use super::reconcile::{Reconciler, file_problem};
use super::scan::{self, Content, Fingerprint, Identity, Obstacle, Scan};
use super::watch::TreeWatch;
use super::{Effect, Reported, Sink, Update};
use crate::ca::authority::sha256;

/// The file of the mesh's settings, at the top of the directory.
pub const MESH_FILE: &str = "mesh.yaml";
const FILE_BYTES: u64 = api::limits::FILE_BYTES as u64;
/// A file written so recently may change again within the file system's clock tick: it is read again later.
const FRESH_SECONDS: i64 = 2;

/// What a directory source needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory, as its user wrote it; messages name files below it in that form.
    pub root: PathBuf,
    /// Namespace of resources in files at the top that name none.
    pub default_namespace: String,
    /// Trust domain of the root certificate.
    pub trust_domain: String,
    /// Bounds of the tree.
    pub limits: scan::Limits,
    /// After a hint, the time to wait for more of them: 50 ms.
    pub debounce: Duration,
    /// How often the directory is looked at without a hint: 2 s.
    pub rescan: Duration,
    /// Folder for the last good version of every file; `None`: a restart forgets them.
    pub memory: Option<PathBuf>,
}

impl Settings {
    /// The usual times and bounds.
    pub fn new(root: PathBuf, default_namespace: String, trust_domain: String) -> Settings {
        Settings {
            root,
            default_namespace,
            trust_domain,
            limits: scan::Limits::default(),
            debounce: Duration::from_millis(50),
            rescan: Duration::from_secs(2),
            memory: None,
        }
    }
}

/// Why the thread of a source wakes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something in the directory may have changed.
    Changed,
    /// The process stops.
    Stop,
}

/// What one look came to.
#[derive(Debug, Default)]
pub struct Look {
    /// What is new; `None`: nothing.
    pub update: Option<Update>,
    /// Something was in motion: look again soon.
    pub again: bool,
    /// The directory is another one than before: watch it anew.
    pub replaced: bool,
    /// All of it was seen and counts: what is not in it does not exist.
    pub whole: bool,
}

/// What is known of a directory.
#[derive(Debug)]
pub struct Directory {
    settings: Settings,
    reconciler: Reconciler,
    memory: Memory,
    seen: BTreeMap<PathBuf, Seen>,
    root: Root,
    said: Vec<Reported>,
    /// What was in the way at the last look.
    obstacles: Vec<Obstacle>,
    /// What was deleted while nobody looked has been forgotten.
    tidied: bool,
}

#[derive(Debug)]
struct Seen {
    fingerprint: Fingerprint,
    /// `None`: it was not read.
    hash: Option<[u8; 32]>,
    fresh: bool,
}

/// The directory itself, which may vanish and return.
#[derive(Debug)]
enum Root {
    /// Never looked at.
    New,
    /// As last time.
    Same(Identity),
    /// It was gone or is another one. It counts once two looks in a row find the same files in it, so that a copy in
    /// progress deletes nothing.
    Returning(BTreeMap<PathBuf, Fingerprint>),
}

/// Reads the mesh's settings as they are now, before anything runs.
///
/// # Errors
/// The file is there and cannot be read, or something in it is wrong: every problem, one a line.
pub fn read_mesh(root: &Path) -> Result<MeshConfig, String> {
    let path = root.join(MESH_FILE);
    let name = path.display().to_string();
    match scan::read(&path, FILE_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(MeshConfig::default()),
        Err(error) => Err(format!("{name}: {error}")),
        Ok(Content::Changing) => Err(format!("{name}: it changed while it was read; start again")),
        Ok(Content::TooLarge(size)) => Err(too_large(&name, size).to_string()),
        Ok(Content::Bytes(bytes, _)) => {
            let (config, problems) = api::parse_mesh_config(&name, &bytes);
            let lines = || problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
            config.ok_or_else(lines)
        }
    }
}

impl Directory {
    /// A directory that has not been looked at.
    pub fn new(settings: Settings) -> Directory {
        let reconciler = Reconciler::new(&settings.trust_domain);
        let memory = Memory::new(settings.memory.clone());
        Directory {
            settings,
            reconciler,
            memory,
            seen: BTreeMap::new(),
            root: Root::New,
            said: Vec::new(),
            obstacles: Vec::new(),
            tidied: false,
        }
    }

    /// Looks at the directory once. `now` tells fresh files from settled ones.
    pub fn look(&mut self, now: SystemTime) -> Look {
        let mut scan = scan::scan(&self.settings.root, self.settings.limits);
        let mut look = Look::default();
        if self.accept_root(&mut scan, &mut look) {
            look.whole = true;
            if !self.tidied && scan.obstacles.is_empty() {
                self.memory.retain(|path| scan.files.contains_key(path));
                self.tidied = true;
            }
            self.take(&scan, now, &mut look);
        }
        let changes = self.reconciler.settle();
        if !self.reconciler.take_news() && scan.obstacles == self.obstacles {
            return look;
        }
        let mut problems: Vec<Reported> =
            scan.obstacles.iter().map(|obstacle| self.report(obstacle)).collect();
        problems.extend(self.reconciler.problems());
        self.obstacles = scan.obstacles;
        if !changes.is_empty() || problems != self.said {
            self.said.clone_from(&problems);
            look.update = Some(Update { changes, problems });
        }
        look
    }

    /// Whether what lies in the root counts now.
    fn accept_root(&mut self, scan: &mut Scan, look: &mut Look) -> bool {
        let Some(identity) = scan.root else {
            self.root = Root::Returning(BTreeMap::new());
            return false;
        };
        if scan.obstacles.iter().any(|obstacle| obstacle.path.as_os_str().is_empty()) {
            // Not all of it was seen, so nothing can be said to be gone.
            return false;
        }
        match &self.root {
            Root::Same(known) if *known == identity => return true,
            Root::Same(_) | Root::New => look.replaced = true,
            Root::Returning(_) => {}
        }
        let nothing_to_lose = self.seen.is_empty();
        if scan.files.is_empty() && !nothing_to_lose {
            let reason =
                "was replaced by an empty directory; put the files back, or restart tulled".to_owned();
            scan.obstacles.push(Obstacle { path: PathBuf::new(), reason });
            self.root = Root::Returning(BTreeMap::new());
            return false;
        }
        let settled = matches!(&self.root, Root::Returning(files) if *files == scan.files);
        if nothing_to_lose || settled {
            look.replaced = true;
            self.root = Root::Same(identity);
            return true;
        }
        self.root = Root::Returning(scan.files.clone());
        look.again = true;
        false
    }

    fn take(&mut self, scan: &Scan, now: SystemTime, look: &mut Look) {
        let obstacles: BTreeSet<&Path> = scan.obstacles.iter().map(|obstacle| &*obstacle.path).collect();
        let hidden = |path: &Path| path.ancestors().any(|above| obstacles.contains(above));
        let gone: Vec<PathBuf> = self
            .seen
            .keys()
            .filter(|path| !scan.files.contains_key(*path) && !hidden(path))
            .cloned()
            .collect();
        for path in gone {
            self.seen.remove(&path);
            self.memory.forget(&path);
            if path == Path::new(MESH_FILE) {
                self.reconciler.mesh_gone();
            } else {
                self.reconciler.gone(&path);
            }
        }
        for (path, fingerprint) in &scan.files {
            let known =
                self.seen.get(path).is_some_and(|seen| !seen.fresh && seen.fingerprint == *fingerprint);
            if !known {
                self.file(path, *fingerprint, now, look);
            }
        }
    }

    fn file(&mut self, path: &Path, fingerprint: Fingerprint, now: SystemTime, look: &mut Look) {
        let name = self.settings.root.join(path).display().to_string();
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let age = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_sub(fingerprint.modified_seconds());
        let fresh = age.abs() < FRESH_SECONDS;
        match scan::read(&self.settings.root.join(path), FILE_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => look.again = true,
            Ok(Content::Changing) => look.again = true,
            Err(error) => {
                self.refuse(path, fingerprint, file_problem(name, format!("cannot be read: {error}")))
            }
            Ok(Content::TooLarge(size)) => self.refuse(path, fingerprint, too_large(&name, size)),
            Ok(Content::Bytes(bytes, fingerprint)) => {
                if bytes.is_empty() && fresh && self.reconciler.has_good_below(path) {
                    // Many editors empty a file before they write it. An empty file that stays empty counts.
                    look.again = true;
                    return;
                }
                let hash = Some(sha256(&bytes));
                let before = self.seen.insert(path.to_owned(), Seen { fingerprint, hash, fresh });
                if before.as_ref().is_none_or(|seen| seen.hash != hash) {
                    self.read(path, &name, &bytes, before.is_none());
                }
            }
        }
    }

    fn refuse(&mut self, path: &Path, fingerprint: Fingerprint, problem: Problem) {
        // Fresh, so that it is tried again at the next look: what was in the way (no file descriptor left, a disk that
        // stalls) may be gone although the file is the same.
        let new = self.seen.insert(path.to_owned(), Seen { fingerprint, hash: None, fresh: true }).is_none();
        if new {
            self.recall(path, &problem.file.clone());
        }
        if path == Path::new(MESH_FILE) {
            self.reconciler.mesh(None, vec![problem]);
        } else {
            self.reconciler.refused(path, problem);
        }
    }

    /// Takes a file that was read; `new`: for the first time since the start.
    fn read(&mut self, path: &Path, name: &str, bytes: &[u8], new: bool) {
        let parsed = self.parse(path, name, bytes);
        if !parsed.has_errors() {
            self.memory.keep(path, bytes);
        } else if new {
            self.recall(path, name);
        }
        self.reconcile(path, parsed);
    }

    /// Puts the last good version of an earlier run in place of nothing.
    fn recall(&mut self, path: &Path, name: &str) {
        if let Some(bytes) = self.memory.recall(path) {
            let parsed = self.parse(path, name, &bytes);
            self.reconcile(path, parsed);
        }
    }

    fn parse(&self, path: &Path, name: &str, bytes: &[u8]) -> FileContent {
        if path == Path::new(MESH_FILE) {
            let (config, problems) = api::parse_mesh_config(name, bytes);
            return FileContent::Mesh(Box::new(config), problems);
        }
        let mut parts = path.components();
        let first = parts.next().and_then(|part| part.as_os_str().to_str());
        let namespace = match (first, parts.next()) {
            (Some(folder), Some(_)) => folder,
            _ => &self.settings.default_namespace,
        };
        let mut parsed = api::parse(name, bytes, namespace);
        parsed.problems.extend(parsed.objects.iter().flat_map(api::acting::not_acting));
        FileContent::Resources(parsed)
    }

    fn reconcile(&mut self, path: &Path, content: FileContent) {
        match content {
            FileContent::Mesh(config, problems) => self.reconciler.mesh(*config, problems),
            FileContent::Resources(parsed) => self.reconciler.parsed(path, parsed),
        }
    }

    fn report(&self, obstacle: &Obstacle) -> Reported {
        let name = self.settings.root.join(&obstacle.path).display().to_string();
        let name = name.trim_end_matches('/').to_owned();
        let has_good = self.reconciler.has_good_below(&obstacle.path);
        let effect = Some(if has_good { Effect::LastGood } else { Effect::Nothing });
        Reported { problem: file_problem(name, obstacle.reason.clone()), effect }
    }
}

/// What a file says.
enum FileContent {
    Mesh(Box<Option<MeshConfig>>, Vec<Problem>),
    Resources(Parsed),
}

impl FileContent {
    fn has_errors(&self) -> bool {
        match self {
            FileContent::Mesh(config, _) => config.is_none(),
            FileContent::Resources(parsed) => parsed.has_errors(),
        }
    }
}

fn too_large(name: &str, size: u64) -> Problem {
    let other = || file_problem(name.to_owned(), format!("the file has {size} bytes, which is too many"));
    api::too_large(name, size).unwrap_or_else(other)
}

/// Starts to watch a directory for a sink; the task fails when the thread does.
///
/// # Errors
/// No thread can be started.
pub fn start(settings: Settings, sink: Arc<dyn Sink>, tasks: &Tasks) -> Result<(), TaskError> {
    let (wake, woken) = channel();
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let hints = wake.clone();
    runtime::thread::spawn("directory source", move || {
        // Dropped when the thread ends, by a panic as well.
        let _ended = ended;
        follow(settings, &*sink, hints, &woken);
    })?;
    let drain = tasks.drain();
    tasks.spawn("directory source", async move {
        tokio::select! {
            () = drain.started() => {
                // An error means that the thread is gone, which is what is asked for.
                let _ = wake.send(Wake::Stop);
                Ok(())
            }
            _ = end => Err("its thread ended; the log says why".into()),
        }
    });
    Ok(())
}

/// Looks at the directory until it is told to stop.
fn follow(settings: Settings, sink: &dyn Sink, hints: Sender<Wake>, woken: &Receiver<Wake>) {
    let (debounce, rescan, root) = (settings.debounce, settings.rescan, settings.root.clone());
    let mut directory = Directory::new(settings);
    let mut watch: Option<TreeWatch> = None;
    let mut start = Start::default();
    loop {
        if watch.is_none() {
            watch = start_watch(&root, &hints, start.over);
        }
        let look = directory.look(SystemTime::now());
        if look.replaced && start.over {
            watch = watch.and_then(|mut watch| watch.renew().is_ok().then_some(watch));
        }
        let starts = start.ends_with(&look);
        if let Some(update) = look.update {
            sink.apply(update);
        }
        if starts {
            sink.synced();
        }
        let pause = if look.again { debounce } else { rescan };
        if wait(woken, pause, debounce) == Wake::Stop {
            return;
        }
    }
}

/// Whether all that was there at the beginning has been read.
#[derive(Debug, Default)]
struct Start {
    over: bool,
}

impl Start {
    /// Whether that look was the one that ends it.
    fn ends_with(&mut self, look: &Look) -> bool {
        let ends = !self.over && look.whole && !look.again;
        self.over |= ends;
        ends
    }
}

fn start_watch(root: &Path, hints: &Sender<Wake>, again: bool) -> Option<TreeWatch> {
    match TreeWatch::new(root, hints.clone()) {
        Ok(watch) => Some(watch),
        Err(error) => {
            // Said once: the directory is looked at every two seconds all the same.
            if !again {
                tracing::warn!("{}: changes are noticed within 2 s only: {error}", root.display());
            }
            None
        }
    }
}

/// Waits for a hint or for `pause`, then for the hints that follow it, at most ten times `debounce`.
fn wait(woken: &Receiver<Wake>, pause: Duration, debounce: Duration) -> Wake {
    match woken.recv_timeout(pause) {
        Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
        Err(RecvTimeoutError::Timeout) => return Wake::Changed,
        Ok(Wake::Changed) => {}
    }
    let latest = Instant::now() + debounce * 10;
    loop {
        match woken.recv_timeout(debounce.min(latest.saturating_duration_since(Instant::now()))) {
            Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return Wake::Stop,
            Err(RecvTimeoutError::Timeout) => return Wake::Changed,
            Ok(Wake::Changed) => {}
        }
    }
}

#[cfg(test)]
mod tests;
