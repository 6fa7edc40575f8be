//! Golden worlds: `testdata/worlds/<name>/*.yaml` in, `expected/*.json` out. The expected files are what a proxy is
//! sent, so the reader of the data plane is tested against the same files.
//!
//! * `mesh.yaml` is the MeshConfig; files named `then-….yaml` are applied after the others, one step each; what stands
//!   in `then-…-deleted.yaml` is deleted.
//! * `proxies.json` holds the proxies that ask, by a short name: the xDS `node`, and the `types` worth keeping.
//! * `WORLD=<part of a name>` looks at some worlds only.
//! * `UPDATE=1 cargo test -p translate` writes the expected files anew; look at the diff before you commit it.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking, its helpers too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use api::MeshConfig;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;
use protos::json::Pool;
use serde_json::{Value, json};
use translate::{Change, ProxyNode, Wanted, World, translate};

fn worlds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/worlds")
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn changes(path: &Path) -> Vec<Change> {
    let parsed = api::parse(&name(path), &fs::read(path).unwrap(), "production");
    let errors: Vec<String> =
        parsed.problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
    let gone = name(path).ends_with("-deleted.yaml");
    let change = |object: api::Object| {
        if gone { Change::Delete(object.key()) } else { Change::Apply(object) }
    };
    parsed.objects.into_iter().map(change).collect()
}

fn read_world(folder: &Path) -> World {
    let mut world = World::empty(MeshConfig::default());
    let yaml = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "yaml");
    let (later, first): (Vec<PathBuf>, Vec<PathBuf>) =
        sorted(folder).into_iter().filter(yaml).partition(|path| name(path).starts_with("then-"));
    let mut start = Vec::new();
    for path in first {
        if name(&path) == "mesh.yaml" {
            let (mesh, problems) = api::parse_mesh_config("mesh.yaml", &fs::read(&path).unwrap());
            assert!(problems.iter().all(|problem| !problem.is_error()), "{}: {problems:#?}", path.display());
            start.push(Change::Mesh(mesh.unwrap().into()));
        } else {
            start.extend(changes(&path));
        }
    }
    world = world.with(&start);
    for path in later {
        world = world.with(&changes(&path));
    }
    world
}

/// A proxy of a world: its node, and the types of which its resources are compared.
struct Proxy {
    node: ProxyNode,
    types: Vec<String>,
}

fn read_proxies(folder: &Path, pool: &Pool) -> BTreeMap<String, Proxy> {
    let text = fs::read_to_string(folder.join("proxies.json")).expect("every world has a proxies.json");
    let proxies: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap();
    let read = |(name, proxy): (String, Value)| {
        let node: Node = pool.from_json(&proxy["node"].to_string()).unwrap();
        let types =
            proxy["types"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect();
        (name, Proxy { node: ProxyNode::from_node(&node).unwrap(), types })
    };
    proxies.into_iter().map(read).collect()
}

/// The files that a world stands for, by name.
fn actual(folder: &Path, pool: &Pool) -> BTreeMap<String, Value> {
    let world = read_world(folder);
    let mut files = BTreeMap::new();
    let mut versions = BTreeMap::new();
    for (name, Proxy { node, types }) in read_proxies(folder, pool) {
        let mut told: Vec<String> = Vec::new();
        for (kind, type_url) in [
            ("listeners", protos::any::type_url::<Listener>()),
            ("routes", protos::any::type_url::<RouteConfiguration>()),
            ("clusters", protos::any::type_url::<Cluster>()),
            ("endpoints", protos::any::type_url::<ClusterLoadAssignment>()),
        ] {
            let translated = translate(&world, &node, &type_url, &Wanted::All);
            let json = |named: &translate::Named| sort_keys(pool.any_to_json(&named.any).unwrap());
            let resources: Vec<Value> = translated.resources.iter().map(json).collect();
            if types.iter().any(|it| it == kind) {
                files.insert(format!("{name}.{kind}.json"), Value::Array(resources));
            }
            told.extend(translated.notes.iter().map(ToString::to_string));
            for named in translated.resources {
                versions.insert(format!("{name}/{kind}/{}", named.name), named.version);
            }
        }
        files.insert(format!("{name}.notes.json"), json!(told));
    }
    let notes: Vec<String> = world.notes().iter().map(ToString::to_string).collect();
    files.insert("notes.json".to_owned(), json!(notes));
    if folder.join("expected/versions.json").exists() {
        files.insert("versions.json".to_owned(), json!(versions));
    }
    files
}

/// Protobuf maps come in any order; a file has one.
fn sort_keys(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let sorted: BTreeMap<String, Value> =
                fields.into_iter().map(|(key, value)| (key, sort_keys(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(sort_keys).collect()),
        other => other,
    }
}

fn pretty(value: &Value) -> String {
    format!("{}\n", serde_json::to_string_pretty(value).unwrap())
}

/// The first place where two texts differ, with the lines around it.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), actual.lines().collect());
    let first = expected.iter().zip(&actual).take_while(|(one, two)| one == two).count();
    let same_end = expected[first..].iter().rev().zip(actual[first..].iter().rev());
    let end = same_end.take_while(|(one, two)| one == two).count();
    let mut lines = vec![format!("  first difference in line {}:", first + 1)];
    lines.extend(expected[first.saturating_sub(3)..first].iter().map(|line| format!("      {line}")));
    lines.extend(expected[first..expected.len() - end].iter().take(12).map(|line| format!("    - {line}")));
    lines.extend(actual[first..actual.len() - end].iter().take(12).map(|line| format!("    + {line}")));
    lines.join("\n")
}

#[test]
fn every_world_is_translated_as_expected() {
    let pool = Pool::load().unwrap();
    let update = std::env::var_os("UPDATE").is_some();
    let mut failures = Vec::new();
    let folders: Vec<PathBuf> = sorted(&worlds()).into_iter().filter(|path| path.is_dir()).collect();
    assert!(folders.len() >= 27, "the golden worlds are gone");
    let only = std::env::var("WORLD").unwrap_or_default();
    for folder in folders.into_iter().filter(|folder| name(folder).contains(&only)) {
        let expected = folder.join("expected");
        let actual = actual(&folder, &pool);
        if update {
            fs::create_dir_all(&expected).unwrap();
        }
        let known: BTreeSet<String> = sorted(&expected).iter().map(|path| name(path)).collect();
        for stale in known.iter().filter(|file| !actual.contains_key(*file)) {
            if update {
                fs::remove_file(expected.join(stale)).unwrap();
            } else {
                failures.push(format!("{}: nothing makes {stale} any more", name(&folder)));
            }
        }
        for (file, value) in &actual {
            let path = expected.join(file);
            let text = pretty(value);
            if update {
                fs::write(&path, &text).unwrap();
            } else {
                let before = fs::read_to_string(&path).unwrap_or_default();
                if before != text {
                    failures.push(format!(
                        "{}/expected/{file}\n{}",
                        name(&folder),
                        difference(&before, &text)
                    ));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} files differ; if that is right, run UPDATE=1 cargo test -p translate\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
fn a_difference_is_shown_with_its_place() {
    let shown = difference("a\nb\nc\nd\n", "a\nb\nX\nd\n");
    assert_eq!(shown, "  first difference in line 3:\n      a\n      b\n    - c\n    + X");
}
