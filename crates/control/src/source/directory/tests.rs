use super::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::Mutex;
use translate::Change;

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
    )
}

struct Fixture {
    base: tempfile::TempDir,
    directory: Directory,
    now: SystemTime,
}

fn fixture() -> Fixture {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir_all(base.path().join("mesh/production")).unwrap();
    let settings = Settings::new(base.path().join("mesh"), "default".to_owned(), "cluster.local".to_owned());
    // Far enough from the files' times that none of them is fresh.
    let now = SystemTime::now() + Duration::from_secs(3600);
    Fixture { base, directory: Directory::new(settings), now }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.base.path().join("mesh").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        // As editors do: a new file over the old one.
        let temporary = self.base.path().join("temporary");
        fs::write(&temporary, text).unwrap();
        fs::rename(temporary, self.path(name)).unwrap();
    }

    /// Looks until nothing is in motion; the changes and the last word.
    fn look(&mut self) -> (Vec<String>, Vec<String>) {
        let mut changes = Vec::new();
        loop {
            let look = self.directory.look(self.now);
            for change in look.update.into_iter().flat_map(|update| update.changes) {
                match change {
                    Change::Apply(object) => changes.push(format!("apply {}", object.key())),
                    Change::Delete(key) => changes.push(format!("delete {key}")),
                    Change::Mesh(_) => {}
                }
            }
            if !look.again {
                return (changes, self.directory.said.iter().map(ToString::to_string).collect());
            }
        }
    }
}

#[test]
fn folders_are_namespaces() {
    let mut f = fixture();
    f.write("top.yaml", &service("a", 80));
    f.write("production/b.yaml", &service("b", 80));
    f.write("production/c.json", "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"c\"},\"spec\":{\"ports\":[{\"port\":80}]}}");
    f.write("production/d.yaml", &service("d", 80).replace("{name: d}", "{name: d, namespace: other}"));
    let (changes, said) = f.look();
    assert_eq!(
        changes,
        [
            "apply Service/default/a",
            "apply Service/other/d",
            "apply Service/production/b",
            "apply Service/production/c"
        ]
    );
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(f.look(), (vec![], vec![]));
}

#[test]
fn a_broken_edit_changes_nothing_and_is_named_with_its_place() {
    let mut f = fixture();
    f.write("production/a.yaml", &service("a", 80));
    f.look();
    f.write("production/a.yaml", &service("a", 81).replace("port:", "prt:"));
    let (changes, said) = f.look();
    assert!(changes.is_empty(), "{changes:?}");
    let name = f.path("production/a.yaml").display().to_string();
    assert!(said.len() == 1 && said[0].starts_with(&format!("{name}:5:")), "{said:?}");
    assert!(
        said[0].contains("did you mean \"port\"?")
            && said[0].ends_with("(the last good version keeps serving)")
    );
    f.write("production/a.yaml", &service("a", 81));
    assert_eq!(f.look(), (vec!["apply Service/production/a".to_owned()], vec![]));
}

#[test]
fn files_that_cannot_be_read_keep_what_they_gave() {
    let mut f = fixture();
    f.write("production/a.yaml", &service("a", 80));
    f.look();
    let path = f.path("production/a.yaml");
    fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty() && said.len() == 1 && said[0].contains("104857600"), "{changes:?} {said:?}");
    fs::write(&path, b"kind: \xff\xfe").unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty() && said[0].contains("not UTF-8"), "{changes:?} {said:?}");
    fs::write(&path, format!("a: {}", "[".repeat(100_000))).unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty() && said.len() == 1, "{changes:?} {said:?}");
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [*a{}, *a{}, *a{}]\n", n - 1, n - 1, n - 1)
    });
    fs::write(&path, bomb).unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty() && said.len() == 1, "{changes:?} {said:?}");
    fs::remove_file(&path).unwrap();
    assert_eq!(f.look(), (vec!["delete Service/production/a".to_owned()], vec![]));
}

#[test]
fn a_directory_that_vanishes_and_returns_loses_nothing() {
    let mut f = fixture();
    f.write("production/a.yaml", &service("a", 80));
    f.write("production/b.yaml", &service("b", 80));
    f.look();
    let (mesh, away) = (f.base.path().join("mesh"), f.base.path().join("away"));
    fs::rename(&mesh, &away).unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty(), "{changes:?}");
    assert!(said.len() == 1 && said[0].contains("the last good version keeps serving"), "{said:?}");
    // Back as another directory, at first empty, then half copied, then whole but for b.
    fs::create_dir_all(mesh.join("production")).unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty() && said[0].contains("empty directory"), "{changes:?} {said:?}");
    f.write("production/a.yaml", &service("a", 81));
    let half = f.directory.look(f.now);
    assert!(half.again && half.update.is_none_or(|update| update.changes.is_empty()));
    f.write("production/c.yaml", &service("c", 80));
    let (changes, said) = f.look();
    assert_eq!(
        changes,
        ["apply Service/production/a", "delete Service/production/b", "apply Service/production/c"]
    );
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_swapped_symbolic_link_is_one_step() {
    let base = tempfile::tempdir().unwrap();
    for (release, port) in [("one", 80), ("two", 81)] {
        fs::create_dir_all(base.path().join(release).join("production")).unwrap();
        fs::write(base.path().join(release).join("production/a.yaml"), service("a", port)).unwrap();
    }
    symlink("one", base.path().join("mesh")).unwrap();
    let settings = Settings::new(base.path().join("mesh"), "default".into(), "cluster.local".into());
    let now = SystemTime::now() + Duration::from_secs(3600);
    let mut f = Fixture { base, directory: Directory::new(settings), now };
    assert_eq!(f.look().0, ["apply Service/production/a"]);
    symlink("two", f.base.path().join("next")).unwrap();
    fs::rename(f.base.path().join("next"), f.base.path().join("mesh")).unwrap();
    assert_eq!(f.look().0, ["apply Service/production/a"]);
    assert!(f.look().0.is_empty());
}

#[test]
fn a_folder_that_cannot_be_looked_into_keeps_what_it_gave() {
    let mut f = fixture();
    f.write("production/a.yaml", &service("a", 80));
    f.look();
    fs::set_permissions(f.path("production"), fs::Permissions::from_mode(0o000)).unwrap();
    let (changes, said) = f.look();
    let readable = fs::read_dir(f.path("production")).is_ok();
    fs::set_permissions(f.path("production"), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    // The superuser can look into everything.
    assert!(readable || said[0].contains("production"), "{said:?}");
    fs::remove_dir_all(f.path("production")).unwrap();
    symlink(".", f.path("production")).unwrap();
    let (changes, said) = f.look();
    assert!(changes.is_empty() && said[0].contains("above it"), "{changes:?} {said:?}");
}

#[test]
fn a_file_that_is_being_written_is_not_taken_for_an_empty_one() {
    let mut f = fixture();
    f.write("production/a.yaml", &service("a", 80));
    f.look();
    fs::write(f.path("production/a.yaml"), "").unwrap();
    let look = f.directory.look(SystemTime::now());
    assert!(look.again && look.update.is_none());
    // It stays empty.
    assert_eq!(f.look().0, ["delete Service/production/a"]);
}

#[test]
fn two_files_with_one_resource_are_both_named() {
    let mut f = fixture();
    f.write("production/b.yaml", &service("a", 80));
    f.write("production/a.yaml", &service("a", 81));
    let (changes, said) = f.look();
    assert_eq!(changes.len(), 1);
    assert!(said.len() == 1 && said[0].contains("a.yaml:3") && said[0].contains("b.yaml:3"), "{said:?}");
}

#[test]
fn settings_are_read_before_the_start() {
    let f = fixture();
    let root = f.base.path().join("mesh");
    assert_eq!(read_mesh(&root).unwrap().trust_domain(), "cluster.local");
    f.write(MESH_FILE, "trustDomain: example.org\n");
    assert_eq!(read_mesh(&root).unwrap().trust_domain(), "example.org");
    f.write(MESH_FILE, "trustDomian: example.org\n");
    assert!(read_mesh(&root).unwrap_err().contains("mesh.yaml:1:1"));
}

#[test]
fn a_restart_remembers_what_a_broken_file_gave() {
    let mut f = fixture();
    f.directory.settings.memory = Some(f.base.path().join("last-good"));
    let restart = |f: &mut Fixture| f.directory = Directory::new(f.directory.settings.clone());
    restart(&mut f);
    let both = service("a", 80) + "---\n" + &service("b", 80);
    f.write("production/a.yaml", &both);
    f.write("production/gone.yaml", &service("c", 80));
    assert_eq!(f.look().0.len(), 3);
    f.write("production/a.yaml", &(service("a", 80).replace("port:", "prt:") + "---\n" + &service("b", 81)));
    fs::remove_file(f.path("production/gone.yaml")).unwrap();
    restart(&mut f);
    let (changes, said) = f.look();
    assert_eq!(changes, ["apply Service/production/a", "apply Service/production/b"]);
    assert!(said.len() == 1 && said[0].ends_with("(the last good version keeps serving)"), "{said:?}");
    assert!(!f.base.path().join("last-good/production/gone.yaml").exists());
    // Without a memory the broken one does not serve: the twin that shows what the memory is for.
    f.directory.settings.memory = None;
    restart(&mut f);
    assert_eq!(f.look().0, ["apply Service/production/b"]);
}

#[test]
fn what_could_not_be_read_is_tried_again() {
    let mut f = fixture();
    // A regular file whose reading fails.
    symlink("/proc/self/mem", f.path("production/a.yaml")).unwrap();
    let (_, said) = f.look();
    assert!(said.len() == 1 && said[0].contains("cannot be read"), "{said:?}");
    // Its fingerprint alone does not tell that it can be read now: the error may have been "too many open files".
    assert!(f.directory.seen.values().all(|seen| seen.fresh), "{:?}", f.directory.seen);
}

#[test]
fn what_was_deleted_while_nobody_looked_is_forgotten_although_something_is_in_the_way() {
    let mut f = fixture();
    f.directory.settings.memory = Some(f.base.path().join("last-good"));
    let restart = |f: &mut Fixture| f.directory = Directory::new(f.directory.settings.clone());
    restart(&mut f);
    f.write("production/a.yaml", &service("a", 80));
    f.write("production/b.yaml", &service("b", 80));
    f.look();
    fs::remove_file(f.path("production/a.yaml")).unwrap();
    symlink("nowhere", f.path("production/c.yaml")).unwrap();
    restart(&mut f);
    f.look();
    fs::remove_file(f.path("production/c.yaml")).unwrap();
    f.look();
    f.write("production/a.yaml", &service("a", 80).replace("port:", "prt:"));
    let (changes, said) = f.look();
    assert!(changes.is_empty(), "a deleted version serves again: {changes:?}");
    assert!(said.len() == 1 && said[0].contains("there is no good version yet"), "{said:?}");
}

#[derive(Default)]
struct Recorder {
    updates: Mutex<Vec<Update>>,
    synced: Mutex<u32>,
    changed: tokio::sync::Notify,
}

impl Sink for Recorder {
    fn apply(&self, update: Update) {
        assert!(*self.synced.lock().unwrap() > 0 || self.updates.lock().unwrap().is_empty());
        self.updates.lock().unwrap().push(update);
        self.changed.notify_one();
    }

    fn synced(&self) {
        *self.synced.lock().unwrap() += 1;
        self.changed.notify_one();
    }
}

#[test]
fn the_start_ends_once_with_the_first_look_that_is_whole() {
    let look = |whole, again| Look { whole, again, ..Look::default() };
    let mut start = Start::default();
    let ends: Vec<_> = [look(false, false), look(true, true), look(true, false), look(true, false)]
        .iter()
        .map(|look| start.ends_with(look))
        .collect();
    assert_eq!(ends, [false, false, true, false]);
}

#[tokio::test]
async fn the_thread_tells_the_start_then_every_change_until_the_drain() {
    let f = fixture();
    f.write("production/a.yaml", &service("a", 80));
    let (drain, watch) = runtime::Drain::new();
    let supervisor = runtime::Supervisor::new(watch);
    let recorder = Arc::new(Recorder::default());
    start(f.directory.settings.clone(), recorder.clone(), &supervisor.tasks()).unwrap();
    while *recorder.synced.lock().unwrap() == 0 {
        recorder.changed.notified().await;
    }
    assert_eq!(recorder.updates.lock().unwrap().len(), 1);
    f.write("production/a.yaml", &service("a", 81));
    while recorder.updates.lock().unwrap().len() < 2 {
        recorder.changed.notified().await;
    }
    drain.start();
    supervisor.run(Duration::from_secs(5)).await.unwrap();
    assert_eq!(*recorder.synced.lock().unwrap(), 1, "told once");
}
