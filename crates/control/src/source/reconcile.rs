//! What the files of a directory amount to: which version of which resource serves, and what must be said about it.
//!
//! Pure. Three rules. What a file says wins when the file parses; a resource that is refused keeps its last good
//! version; a resource is deleted only by a file that parsed whole (or is gone). Of two files with the same resource,
//! the one that was there first keeps it; at the start, the first by path.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::{Key, Kind, Level, MeshConfig, Object, Parsed, Problem};
use translate::Change;

use super::{Effect, Reported};

/// The files that are known and what serves because of them.
#[derive(Debug)]
pub struct Reconciler {
    files: BTreeMap<PathBuf, FileState>,
    /// Files that have a resource, good or last good.
    claims: BTreeMap<Key, BTreeSet<PathBuf>>,
    serving: BTreeMap<Key, Served>,
    /// Resources that more than one file has.
    duplicates: BTreeMap<Key, Vec<Reported>>,
    touched: BTreeSet<Key>,
    mesh: MeshState,
    /// Something was read or is gone since [`Reconciler::take_news`].
    news: bool,
}

#[derive(Debug, Default)]
struct FileState {
    good: BTreeMap<Key, Object>,
    problems: Vec<Reported>,
}

#[derive(Debug)]
struct Served {
    file: PathBuf,
    object: Object,
}

#[derive(Debug)]
struct MeshState {
    trust_domain: String,
    current: Arc<MeshConfig>,
    changed: bool,
    given: bool,
    problems: Vec<Reported>,
}

impl Reconciler {
    /// Nothing known yet. `trust_domain` is the root certificate's; the mesh's settings cannot change it.
    pub fn new(trust_domain: &str) -> Reconciler {
        let current = default_mesh(trust_domain);
        let trust_domain = trust_domain.to_owned();
        let mesh = MeshState { trust_domain, current, changed: true, given: false, problems: Vec::new() };
        Reconciler {
            files: BTreeMap::new(),
            claims: BTreeMap::new(),
            serving: BTreeMap::new(),
            duplicates: BTreeMap::new(),
            touched: BTreeSet::new(),
            mesh,
            news: true,
        }
    }

    /// A file was read.
    pub fn parsed(&mut self, path: &Path, parsed: Parsed) {
        let old = self.files.remove(path).map(|state| state.good).unwrap_or_default();
        let whole_file = parsed.problems.iter().any(|problem| problem.is_error() && problem.kind.is_empty());
        let deletes = !whole_file && !parsed.problems.iter().any(unattributable);
        let read: BTreeMap<Key, Object> =
            parsed.objects.into_iter().map(|object| (object.key(), object)).collect();
        let refused: BTreeSet<Key> = parsed.problems.iter().filter_map(refused_key).collect();
        let mut good = BTreeMap::new();
        // Of a file that was never whole, what can be read serves: a broken neighbour must not switch a policy off.
        let keep_old = whole_file && !old.is_empty();
        if keep_old {
            good = old.clone();
        } else {
            let kept = old.iter().filter(|(key, _)| !deletes || refused.contains(key));
            good.extend(kept.map(|(key, object)| (key.clone(), object.clone())));
            good.extend(read.iter().map(|(key, object)| (key.clone(), object.clone())));
        }
        let effect = |problem: &Problem| match refused_key(problem) {
            _ if !problem.is_error() => None,
            Some(key) if read.contains_key(&key) && !keep_old => Some(Effect::Other),
            Some(key) if good.contains_key(&key) => Some(Effect::LastGood),
            None if problem.kind.is_empty() && keep_old => Some(Effect::LastGood),
            _ => Some(Effect::Nothing),
        };
        let problems = parsed.problems.iter();
        let problems =
            problems.map(|problem| Reported { effect: effect(problem), problem: problem.clone() }).collect();
        self.replace(path, old, FileState { good, problems });
    }

    /// A file is there and could not be read at all.
    pub fn refused(&mut self, path: &Path, problem: Problem) {
        let parsed = Parsed { objects: Vec::new(), problems: vec![problem] };
        self.parsed(path, parsed);
    }

    /// A file is gone, and its resources with it.
    pub fn gone(&mut self, path: &Path) {
        self.news = true;
        if let Some(state) = self.files.remove(path) {
            for key in state.good.keys() {
                self.release(key, path);
            }
            self.touched.extend(state.good.into_keys());
        }
    }

    fn replace(&mut self, path: &Path, old: BTreeMap<Key, Object>, state: FileState) {
        self.news = true;
        for key in old.keys().filter(|key| !state.good.contains_key(*key)) {
            self.release(key, path);
        }
        for key in state.good.keys() {
            self.claims.entry(key.clone()).or_default().insert(path.to_owned());
        }
        self.touched.extend(old.into_keys());
        self.touched.extend(state.good.keys().cloned());
        self.files.insert(path.to_owned(), state);
    }

    fn release(&mut self, key: &Key, path: &Path) {
        if let Some(files) = self.claims.get_mut(key) {
            files.remove(path);
            if files.is_empty() {
                self.claims.remove(key);
            }
        }
    }

    /// The mesh's settings were read; `None`: they are refused.
    pub fn mesh(&mut self, read: Option<MeshConfig>, problems: Vec<Problem>) {
        self.news = true;
        let kept = if self.mesh.given { Effect::LastGood } else { Effect::Nothing };
        let report = |problem: Problem| Reported { effect: problem.is_error().then_some(kept), problem };
        let file = problems.first().map(|problem| problem.file.clone());
        self.mesh.problems = problems.into_iter().map(report).collect();
        let Some(read) = read else {
            return;
        };
        if read.trust_domain() != self.mesh.trust_domain {
            let message = format!(
                "trustDomain is \"{}\", but the root certificate of this mesh is for \"{}\"",
                read.trust_domain(),
                self.mesh.trust_domain
            );
            let problem = Problem {
                kind: "MeshConfig".to_owned(),
                field: "trustDomain".to_owned(),
                suggestion: Some("set it back; a new trust domain needs a new --data directory".to_owned()),
                ..file_problem(file.unwrap_or_else(|| super::directory::MESH_FILE.to_owned()), message)
            };
            self.mesh.problems.push(report(problem));
            return;
        }
        self.mesh.given = true;
        self.set_mesh(Arc::new(read));
    }

    /// The file of the mesh's settings is gone: the defaults hold.
    pub fn mesh_gone(&mut self) {
        self.news = true;
        self.mesh.problems.clear();
        self.mesh.given = false;
        self.set_mesh(default_mesh(&self.mesh.trust_domain));
    }

    fn set_mesh(&mut self, mesh: Arc<MeshConfig>) {
        self.mesh.changed |= self.mesh.current != mesh;
        self.mesh.current = mesh;
    }

    /// The changes since the last call.
    pub fn settle(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if std::mem::take(&mut self.mesh.changed) {
            changes.push(Change::Mesh(self.mesh.current.clone()));
        }
        for key in std::mem::take(&mut self.touched) {
            changes.extend(self.settle_key(&key));
            self.find_duplicates(&key);
        }
        changes
    }

    fn settle_key(&mut self, key: &Key) -> Option<Change> {
        let Some(files) = self.claims.get(key) else {
            return self.serving.remove(key).map(|_| Change::Delete(key.clone()));
        };
        let owner = self.serving.get(key).map(|served| &served.file).filter(|file| files.contains(*file));
        let file = owner.or_else(|| files.first())?.clone();
        let object = self.files.get(&file)?.good.get(key)?.clone();
        let same = self.serving.get(key).is_some_and(|served| unchanged(&served.object, &object));
        self.serving.insert(key.clone(), Served { file, object: object.clone() });
        (!same).then_some(Change::Apply(object))
    }

    fn find_duplicates(&mut self, key: &Key) {
        self.duplicates.remove(key);
        let (Some(files), Some(served)) = (self.claims.get(key), self.serving.get(key)) else {
            return;
        };
        let others = files.iter().filter(|file| **file != served.file);
        let problems: Vec<Reported> = others
            .filter_map(|file| self.files.get(file)?.good.get(key))
            .map(|object| Reported {
                problem: api::duplicate(served.object.origin(), key, object.origin()),
                effect: Some(Effect::Other),
            })
            .collect();
        if !problems.is_empty() {
            self.duplicates.insert(key.clone(), problems);
        }
    }

    /// Whether anything was read or is gone since the last call, so that [`Reconciler::problems`] may differ.
    pub fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Everything there is to say now, by file.
    pub fn problems(&self) -> Vec<Reported> {
        let of_files = self.files.values().flat_map(|state| &state.problems);
        self.mesh.problems.iter().chain(of_files).chain(self.duplicates.values().flatten()).cloned().collect()
    }

    /// Whether any file below (or at) `path` gave something that serves.
    pub fn has_good_below(&self, path: &Path) -> bool {
        // Paths are ordered by component, so what lies below one follows it without a gap.
        let from = self.files.range::<Path, _>((Bound::Included(path), Bound::Unbounded));
        from.take_while(|(file, _)| file.starts_with(path)).any(|(_, state)| !state.good.is_empty())
    }

    /// The files that are known, the mesh's settings apart.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(PathBuf::as_path)
    }
}

fn default_mesh(trust_domain: &str) -> Arc<MeshConfig> {
    Arc::new(MeshConfig { trust_domain: trust_domain.to_owned(), ..MeshConfig::default() })
}

/// Same content at the same place: nothing to tell anybody, not even where it stands.
fn unchanged(old: &Object, new: &Object) -> bool {
    old.same_content(new)
        && old.origin().file() == new.origin().file()
        && old.origin().line() == new.origin().line()
}

/// The resource that a problem refuses, when its head could be read.
fn refused_key(problem: &Problem) -> Option<Key> {
    if !problem.is_error() || problem.name.is_empty() {
        return None;
    }
    let kind = Kind::parse(&problem.kind)?;
    Some(Key { kind, namespace: problem.namespace.clone(), name: problem.name.clone() })
}

/// A document is not accepted and it is not known which resource it was: none may be deleted because of it. A kind that is
/// misspelt is such a case, although it is only a warning.
fn unattributable(problem: &Problem) -> bool {
    let misspelt = problem.level == Level::Warning && problem.field == "kind";
    misspelt || (problem.is_error() && refused_key(problem).is_none())
}

/// An error about a file as a whole.
pub fn file_problem(file: String, message: String) -> Problem {
    Problem {
        level: Level::Error,
        kind: String::new(),
        namespace: String::new(),
        name: String::new(),
        file,
        line: 0,
        column: 0,
        field: String::new(),
        message,
        suggestion: None,
    }
}

#[cfg(test)]
mod tests;
