//! What serves now: the World, its revision, and what must be said about it.

pub mod verdicts;

use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use api::{Key, Level, MeshConfig};
use arc_swap::ArcSwap;
use tokio::sync::watch;
use translate::{Change, Note, Severity, World};

use crate::encoding::one_line;
use crate::source::{Reported, Sink, Update};
use verdicts::Verdicts;

/// The current World. One source writes; everybody reads without waiting.
#[derive(Debug)]
pub struct Store {
    state: ArcSwap<State>,
    revision: watch::Sender<u64>,
    synced: AtomicBool,
    writing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    world: Arc<World>,
    problems: Vec<Reported>,
    notes: Vec<Note>,
}

impl Store {
    /// A store of an empty mesh.
    pub fn new() -> Arc<Store> {
        let world = Arc::new(World::empty(MeshConfig::default()));
        let (revision, _) = watch::channel(0);
        Arc::new(Store {
            state: ArcSwap::from_pointee(State { world, problems: Vec::new(), notes: Vec::new() }),
            revision,
            synced: AtomicBool::new(false),
            writing: Mutex::new(()),
        })
    }

    /// The World that serves.
    pub fn world(&self) -> Arc<World> {
        self.state.load().world.clone()
    }

    /// A number that grows with every change of the World, and when the source is synced.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The number now.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Whether the source has told everything it had at its start. Before that nothing is known to be absent.
    pub fn is_synced(&self) -> bool {
        self.synced.load(Ordering::Acquire)
    }

    /// The verdict on every resource, computed anew.
    pub fn verdicts(&self) -> Verdicts {
        let state = self.state.load();
        verdicts::verdicts(&state.world, &state.problems, &state.notes)
    }

    fn advance(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }
}

impl Sink for Store {
    fn apply(&self, update: Update) {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.state.load_full();
        let changed = !update.changes.is_empty();
        let (world, notes) = if changed {
            let world = old.world.with(&update.changes);
            let mut notes = world.notes();
            drop_known(&mut notes, &update.problems);
            (Arc::new(world), notes)
        } else {
            (old.world.clone(), old.notes.clone())
        };
        let new = State { world, problems: update.problems, notes };
        log_problems(&old.problems, &new.problems);
        log_notes(&old.notes, &new, &update.changes);
        self.state.store(Arc::new(new));
        if changed {
            tracing::info!(
                revision = self.revision() + 1,
                changes = update.changes.len(),
                "configuration changed"
            );
            self.advance();
        }
    }

    fn synced(&self) {
        self.synced.store(true, Ordering::Release);
        tracing::info!("the configuration has been read");
        self.advance();
    }
}

/// Drops the remarks on fields of which the source has said already that they do not act.
fn drop_known(notes: &mut Vec<Note>, problems: &[Reported]) {
    let known: BTreeSet<_> = problems
        .iter()
        .map(|Reported { problem, .. }| {
            (&*problem.kind, &*problem.namespace, &*problem.name, &*problem.field)
        })
        .collect();
    notes.retain(|note| {
        let at = (note.kind, &*note.namespace, &*note.name, &*note.field);
        note.severity != Severity::Info || !known.contains(&at)
    });
}

/// One line for each problem that is new, and one for each that is gone.
fn log_problems(old: &[Reported], new: &[Reported]) {
    let known: HashSet<&Reported> = old.iter().collect();
    for reported in new.iter().filter(|reported| !known.contains(reported)) {
        let line = one_line(&reported.to_string());
        match reported.problem.level {
            Level::Error => tracing::error!("{line}"),
            Level::Warning => tracing::warn!("{line}"),
            Level::Info => tracing::info!("{line}"),
        }
    }
    let place = |reported: &Reported| (reported.problem.file.clone(), reported.problem.name.clone());
    let still: BTreeSet<_> = new.iter().map(place).collect();
    let mut gone: BTreeSet<_> = old.iter().filter(|one| one.problem.is_error()).map(place).collect();
    gone.retain(|one| !still.contains(one));
    for (file, _) in gone {
        tracing::info!("{file}: a problem is solved");
    }
}

/// One line for each note that is new, or whose resource has a new version. `old` is sorted, as a World gives them.
fn log_notes(old: &[Note], new: &State, changes: &[Change]) {
    let changed: BTreeSet<Key> = changes
        .iter()
        .filter_map(|change| if let Change::Apply(object) = change { Some(object.key()) } else { None })
        .collect();
    for note in &new.notes {
        let key = verdicts::key_of(note);
        let known = old.binary_search(note).is_ok() && !key.as_ref().is_some_and(|key| changed.contains(key));
        if known {
            continue;
        }
        let place =
            key.and_then(|key| verdicts::origin(&new.world, &key).map(|origin| origin.place(&note.field)));
        let line = one_line(&match place {
            Some(place) if !place.is_empty() => format!("{place}: {note}"),
            _ => note.to_string(),
        });
        match note.severity {
            Severity::Warning => tracing::warn!("{line}"),
            Severity::Info => tracing::info!("{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Effect;

    const FILE: &str = "mesh/production/a.yaml";

    fn update(text: &str) -> Update {
        let parsed = api::parse(FILE, text.as_bytes(), "production");
        let report = |problem: api::Problem| Reported {
            effect: problem.is_error().then_some(Effect::LastGood),
            problem,
        };
        Update {
            changes: parsed.objects.into_iter().map(Change::Apply).collect(),
            problems: parsed.problems.into_iter().map(report).collect(),
        }
    }

    #[test]
    fn a_change_makes_a_new_world_and_wakes_who_watches() {
        let store = Store::new();
        let (before, watch) = (store.world(), store.watch());
        assert!(!store.is_synced() && !watch.has_changed().unwrap());
        store.apply(update(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.10.1, selector: {app: a}, ports: [{name: http, port: 80}]}\n",
        ));
        assert!(watch.has_changed().unwrap());
        assert_eq!(store.world().services().count(), 1);
        assert_eq!(before.services().count(), 0, "a World never changes");
        let revision = store.revision();
        store.apply(Update::default());
        assert_eq!(store.revision(), revision, "nothing changed");
        store.synced();
        assert!(store.is_synced() && store.revision() > revision);
    }

    #[test]
    fn a_note_keeps_its_level() {
        let store = Store::new();
        store.apply(update(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.10.1, ports: [{name: http, port: 80}]}\n",
        ));
        let note = |severity, reason: &str| Note {
            severity,
            kind: "Service",
            namespace: "production".to_owned(),
            name: "a".to_owned(),
            field: "spec.ports[0]".to_owned(),
            reason: reason.to_owned(),
        };
        let notes = [note(Severity::Warning, "it matters"), note(Severity::Info, "it is good to know")];
        let told = verdicts::verdicts(&store.world(), &[], &notes);
        let levels: Vec<_> = told.resources[0].messages.iter().map(|it| (it.level, &*it.message)).collect();
        assert_eq!(levels, [("warning", "it matters"), ("info", "it is good to know")]);
    }

    #[test]
    fn every_resource_has_a_verdict_with_its_place() {
        let store = Store::new();
        store.apply(update(
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.10.1, selector: {app: a}, ports: [{name: http, port: 80}]}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {ports: [{name: http, prt: 80}]}\n",
        ));
        let verdicts = serde_json::to_value(store.verdicts()).unwrap();
        let resources = verdicts["resources"].as_array().unwrap();
        assert_eq!(resources.len(), 2, "{verdicts}");
        assert_eq!(resources[0]["name"], "a");
        assert_eq!((&resources[0]["verdict"], &resources[0]["line"]), (&"accepted".into(), &1.into()));
        assert_eq!(resources[1]["name"], "b");
        assert_eq!((&resources[1]["verdict"], &resources[1]["file"]), (&"refused".into(), &FILE.into()));
        let message = &resources[1]["messages"][0];
        assert_eq!((&message["level"], &message["line"]), (&"error".into(), &9.into()), "{message}");
    }
}
