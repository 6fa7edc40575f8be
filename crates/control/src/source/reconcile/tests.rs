use super::*;

const A: &str = "mesh/production/a.yaml";
const B: &str = "mesh/production/b.yaml";

fn service(name: &str, port: u16) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  ports: [{{name: http, port: {port}}}]\n"
    )
}

struct Mesh(Reconciler);

impl Mesh {
    fn new() -> Mesh {
        let mut reconciler = Reconciler::new("cluster.local");
        assert!(matches!(reconciler.settle()[..], [Change::Mesh(_)]));
        Mesh(reconciler)
    }

    fn file(&mut self, path: &str, text: &str) -> Vec<String> {
        self.0.parsed(Path::new(path), api::parse(path, text.as_bytes(), "production"));
        self.settle()
    }

    fn gone(&mut self, path: &str) -> Vec<String> {
        self.0.gone(Path::new(path));
        self.settle()
    }

    fn settle(&mut self) -> Vec<String> {
        let describe = |change: Change| match change {
            Change::Apply(object) => format!("apply {} of {}", object.key(), object.origin().place("")),
            Change::Delete(key) => format!("delete {key}"),
            Change::Mesh(mesh) => format!("mesh {}", mesh.access_log_file),
        };
        self.0.settle().into_iter().map(describe).collect()
    }

    fn said(&self) -> Vec<String> {
        self.0.problems().iter().map(ToString::to_string).collect()
    }
}

#[test]
fn resources_come_change_and_go_with_their_documents() {
    let mut mesh = Mesh::new();
    let both = service("one", 80) + &service("two", 80);
    assert_eq!(mesh.file(A, &both).len(), 2);
    assert!(mesh.file(A, &both).is_empty(), "nothing changed");
    let changed = service("one", 80) + &service("two", 81);
    assert_eq!(mesh.file(A, &changed).len(), 1);
    assert_eq!(mesh.file(A, &service("two", 81)).len(), 2, "one is deleted, the other has moved");
    assert_eq!(mesh.gone(A), ["delete Service/production/two"]);
    assert!(mesh.said().is_empty());
}

#[test]
fn a_broken_document_keeps_every_resource_of_its_file() {
    let mut mesh = Mesh::new();
    mesh.file(A, &(service("one", 80) + &service("two", 80)));
    assert!(mesh.file(A, &(service("one", 81) + "---\nkind: [\n")).is_empty());
    let said = mesh.said();
    assert!(
        said.len() == 1 && said[0].starts_with(A) && said[0].contains("the last good version keeps serving")
    );
    assert_eq!(mesh.file(A, &service("one", 81)).len(), 2, "the repaired file counts again");
    assert!(mesh.said().is_empty());
}

#[test]
fn what_lies_below_a_path_is_told_from_what_only_begins_like_it() {
    let mut reconciler = Reconciler::new("cluster.local");
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{name: http, port: 80}]}\n";
    let bad = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {prts: []}\n";
    for (path, text) in
        [("a/b/bad.yaml", bad), ("a/c.yaml", bad), ("a/c/d/good.yaml", service), ("a-b/x.yaml", bad)]
    {
        reconciler.parsed(Path::new(path), api::parse(path, text.as_bytes(), "production"));
    }
    let good = ["", "a", "a/c", "a/c/d", "a/c/d/good.yaml"];
    let none = ["a/b", "a/c.yaml", "a-b", "a/c/d/good.yaml/x", "a/c/e", "b"];
    assert!(good.iter().all(|path| reconciler.has_good_below(Path::new(path))));
    assert!(!none.iter().any(|path| reconciler.has_good_below(Path::new(path))));
}

#[test]
fn a_refused_resource_keeps_its_last_good_version_and_the_others_go_on() {
    let mut mesh = Mesh::new();
    mesh.file(A, &(service("one", 80) + &service("two", 80) + &service("three", 80)));
    let wrong = service("one", 80).replace("port:", "prt:");
    let changes = mesh.file(A, &(wrong + &service("two", 82)));
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes[0].starts_with("delete Service/production/three"), "{changes:?}");
    assert!(changes[1].starts_with("apply Service/production/two"), "{changes:?}");
    let said = mesh.said();
    assert!(
        said[0].contains(":6:") && said[0].contains("prt") && said[0].contains("the last good version"),
        "{said:?}"
    );
    assert_eq!(mesh.gone(A).len(), 2);
}

#[test]
fn what_never_was_good_does_not_serve_and_says_so() {
    let mut mesh = Mesh::new();
    let changes = mesh.file(A, &(service("one", 80).replace("port:", "prt:") + &service("two", 80)));
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert!(mesh.said()[0].contains("there is no good version yet"), "{:?}", mesh.said());
    // At the start, what can be read of a broken file serves.
    let changes = mesh.file(B, &(service("three", 80) + "---\nkind: [\n"));
    assert_eq!(changes.len(), 1, "{changes:?}");
}

#[test]
fn a_document_that_lost_its_name_or_misspells_its_kind_deletes_nothing() {
    for (from, to) in [("{name: one}", "{}"), ("kind: Service", "kind: Servise")] {
        let mut mesh = Mesh::new();
        mesh.file(A, &(service("one", 80) + &service("two", 80)));
        let changes = mesh.file(A, &(service("one", 80).replace(from, to) + &service("two", 80)));
        assert!(changes.is_empty(), "{to}: {changes:?}");
        assert_eq!(mesh.said().len(), 1, "{to}");
    }
}

#[test]
fn of_two_files_with_one_resource_the_one_that_was_there_keeps_it() {
    let mut mesh = Mesh::new();
    mesh.file(B, &service("one", 80));
    assert!(mesh.file(A, &service("one", 81)).is_empty(), "a later file took the name");
    let said = mesh.said();
    assert!(said.len() == 1 && said[0].starts_with(A) && said[0].contains(&format!("{B}:4")), "{said:?}");
    assert!(said[0].contains("the other one keeps serving"), "{said:?}");
    let changes = mesh.gone(B);
    assert!(changes.len() == 1 && changes[0].contains(A), "{changes:?}");
    assert!(mesh.said().is_empty());
    // At the start, the first by path.
    let mut mesh = Mesh::new();
    for path in [B, A] {
        mesh.0.parsed(Path::new(path), api::parse(path, service("one", 80).as_bytes(), "production"));
    }
    let changes = mesh.settle();
    assert!(changes.len() == 1 && changes[0].contains(A), "{changes:?}");
}

#[test]
fn a_file_that_is_renamed_is_no_deletion() {
    let mut mesh = Mesh::new();
    mesh.file(A, &service("one", 80));
    mesh.0.gone(Path::new(A));
    let changes = mesh.file(B, &service("one", 80));
    assert!(changes.len() == 1 && changes[0].starts_with("apply"), "{changes:?}");
}

#[test]
fn the_meshs_settings_keep_their_last_good_version_and_their_trust_domain() {
    let mut mesh = Mesh::new();
    let read = |mesh: &mut Mesh, text: &str| {
        let (config, problems) = api::parse_mesh_config("mesh/mesh.yaml", text.as_bytes());
        mesh.0.mesh(config, problems);
        mesh.settle()
    };
    assert_eq!(read(&mut mesh, "accessLogFile: /dev/stdout\n"), ["mesh /dev/stdout"]);
    assert!(read(&mut mesh, "accessLogFile: /dev/stdout\n").is_empty());
    assert!(read(&mut mesh, "accessLogFil: /dev/null\n").is_empty());
    assert!(
        mesh.said()[0].contains("accessLogFil") && mesh.said()[0].contains("last good"),
        "{:?}",
        mesh.said()
    );
    assert!(read(&mut mesh, "trustDomain: other.example\n").is_empty());
    assert!(mesh.said()[0].contains("other.example") && mesh.said()[0].contains("cluster.local"));
    mesh.0.mesh_gone();
    assert_eq!(mesh.settle(), ["mesh "]);
    assert!(mesh.said().is_empty());
}
