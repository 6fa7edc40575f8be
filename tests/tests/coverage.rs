//! Coverage by meaning: `testdata/coverage.yaml` names, for every field that is claimed to act, what would fail without
//! it. A claimed field without an entry fails here, and so does an entry that names nothing. Worlds are not taken at
//! their word: with the field taken out of its YAML, a proxy of the world must be sent something else.
//!
//! `SUGGEST=1 cargo test -p tests --test coverage -- --nocapture` prints which worlds cover the fields without an entry.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use api::acting::State;
use api::{Kind, MeshConfig};
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;
use protos::json::Pool;
use serde::Deserialize;
use serde_json::Value;
use tests::root;
use translate::{Change, ProxyNode, Wanted, World, translate};

/// What would fail without a field.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Row {
    /// Folders of `testdata/worlds/`.
    worlds: Vec<String>,
    /// Test functions, `crate::…::function`; the crate `tests` has the end-to-end tests.
    tests: Vec<String>,
    /// Files of `tests/differential/cases/`, `area/name`.
    cases: Vec<String>,
    /// Why there is nothing to do for the field.
    because: Option<String>,
}

/// Kind (or `MeshConfig`), then field pattern.
type Coverage = BTreeMap<String, BTreeMap<String, Row>>;

fn coverage() -> Coverage {
    let text = fs::read_to_string(root().join("testdata/coverage.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// Every field that is claimed to act.
fn claimed() -> Vec<(String, String)> {
    let kinds = Kind::ALL.iter().map(|kind| (kind.to_string(), api::acting::patterns(*kind)));
    let all = kinds.chain([("MeshConfig".to_owned(), api::acting::mesh_patterns())]);
    let acting = |(_, state): &(String, State)| *state == State::Acts;
    all.flat_map(|(kind, patterns)| {
        patterns.into_iter().filter(acting).map(move |(pattern, _)| (kind.clone(), pattern))
    })
    .collect()
}

fn worlds() -> Vec<String> {
    let folders = fs::read_dir(root().join("testdata/worlds")).unwrap();
    let mut names: Vec<String> =
        folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A pattern as the steps to a node; what only says "all of its content" is cut off.
fn steps(pattern: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut rest = pattern;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]").unwrap();
            steps.push(key.to_owned());
            rest = after;
        } else if let Some(after) = rest.strip_prefix("[]") {
            steps.push("[]".to_owned());
            rest = after;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            steps.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
    }
    while steps.last().is_some_and(|step| ["[]", "*", "**"].contains(&step.as_str())) {
        steps.pop();
    }
    steps
}

/// Takes every node out that the steps lead to; how many there were.
fn take_out(value: &mut Value, steps: &[String]) -> usize {
    let Some((step, rest)) = steps.split_first() else { return 0 };
    match value {
        Value::Array(items) if step == "[]" => items.iter_mut().map(|item| take_out(item, rest)).sum(),
        Value::Object(fields) if step == "*" && !rest.is_empty() => {
            fields.values_mut().map(|field| take_out(field, rest)).sum()
        }
        Value::Object(fields) if rest.is_empty() => usize::from(fields.remove(step).is_some()),
        Value::Object(fields) => fields.get_mut(step).map_or(0, |field| take_out(field, rest)),
        _ => 0,
    }
}

/// The YAML of a world by file name, as data.
fn documents(world: &str) -> BTreeMap<String, Vec<Value>> {
    let folder = root().join("testdata/worlds").join(world);
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: PathBuf| {
        let values = serde_saphyr::from_multiple(&fs::read_to_string(&path).unwrap()).unwrap();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), values)
    };
    yaml.map(read).collect()
}

/// What the proxies of a world are sent: place to version. A resource that is not valid any more is left out.
fn sent(world: &str, documents: &BTreeMap<String, Vec<Value>>, pool: &Pool) -> BTreeMap<String, String> {
    let mut state = World::empty(MeshConfig::default());
    for later in [false, true] {
        for (file, values) in documents.iter().filter(|(file, _)| file.starts_with("then-") == later) {
            let text = values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
            let changes: Vec<Change> = if file == "mesh.yaml" {
                let (mesh, _) = api::parse_mesh_config(file, text.as_bytes());
                mesh.map(|mesh| Change::Mesh(mesh.into())).into_iter().collect()
            } else {
                let parsed = api::parse(file, text.as_bytes(), "production");
                parsed.objects.into_iter().map(Change::Apply).collect()
            };
            state = state.with(&changes);
        }
    }
    let proxies = root().join("testdata/worlds").join(world).join("proxies.json");
    let proxies: BTreeMap<String, Value> =
        serde_json::from_str(&fs::read_to_string(proxies).unwrap()).unwrap();
    let mut sent = BTreeMap::new();
    for (proxy, settings) in proxies {
        let node: Node = pool.from_json(&settings["node"].to_string()).unwrap();
        let node = ProxyNode::from_node(&node).unwrap();
        for type_url in [
            protos::any::type_url::<Listener>(),
            protos::any::type_url::<RouteConfiguration>(),
            protos::any::type_url::<Cluster>(),
            protos::any::type_url::<ClusterLoadAssignment>(),
        ] {
            for named in translate(&state, &node, &type_url, &Wanted::All).resources {
                sent.insert(format!("{proxy} {type_url} {}", named.name), named.version);
            }
        }
    }
    sent
}

/// Whether a world's proxies are sent something else when a field is taken out.
fn covers(world: &str, kind: &str, pattern: &str, pool: &Pool) -> bool {
    let before = documents(world);
    let mut after = before.clone();
    let mut taken = 0;
    for (file, values) in &mut after {
        for value in values {
            let own_kind =
                if file == "mesh.yaml" { "MeshConfig" } else { value["kind"].as_str().unwrap_or("") };
            if own_kind == kind {
                taken += take_out(value, &steps(pattern));
            }
        }
    }
    taken > 0 && sent(world, &before, pool) != sent(world, &after, pool)
}

#[test]
fn every_claimed_field_has_something_that_would_fail_without_it() {
    let coverage = coverage();
    let claimed = claimed();
    let row = |kind: &str, pattern: &str| coverage.get(kind).and_then(|rows| rows.get(pattern));
    let covered = |row: &Row| {
        !(row.worlds.is_empty() && row.tests.is_empty() && row.cases.is_empty() && row.because.is_none())
    };
    let missing: Vec<&(String, String)> =
        claimed.iter().filter(|(kind, pattern)| !row(kind, pattern).is_some_and(covered)).collect();
    if std::env::var_os("SUGGEST").is_some() {
        let pool = Pool::load().unwrap();
        for (kind, pattern) in &missing {
            let all = worlds();
            let names: Vec<&String> =
                all.iter().filter(|world| covers(world, kind, pattern, &pool)).collect();
            println!("SUGGEST {kind} {pattern} {names:?}");
        }
    }
    assert!(missing.is_empty(), "claimed without coverage: {missing:#?}");
    for (kind, rows) in &coverage {
        for pattern in rows.keys() {
            let known = claimed.iter().any(|(one, other)| one == kind && other == pattern);
            assert!(known, "{kind} {pattern} is not claimed (any more)");
        }
    }
}

/// Rust files below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Whether a crate has a test function of that name.
fn has_test(name: &str) -> bool {
    let (room, rest) = name.split_once("::").unwrap_or(("", name));
    let function = rest.rsplit("::").next().unwrap();
    let folder = if room == "tests" { root().join("tests/tests") } else { root().join("crates").join(room) };
    let mut files = Vec::new();
    sources(&folder, &mut files);
    files.iter().any(|file| {
        let text = fs::read_to_string(file).unwrap();
        text.match_indices(&format!("fn {function}(")).any(|(at, _)| {
            let before = text[..at].trim_end().trim_end_matches("async").trim_end();
            before.ends_with("#[test]") || before.ends_with("test]")
        })
    })
}

#[test]
fn every_entry_names_what_exists_and_covers() {
    let pool = Pool::load().unwrap();
    let known = worlds();
    let mut faults = Vec::new();
    for (kind, rows) in coverage() {
        for (pattern, row) in rows {
            for world in &row.worlds {
                if !known.contains(world) {
                    faults.push(format!("{kind} {pattern}: there is no world {world}"));
                } else if !covers(world, &kind, &pattern, &pool) {
                    faults.push(format!("{kind} {pattern}: without it nothing changes in the world {world}"));
                }
            }
            for test in row.tests.iter().filter(|test| !has_test(test)) {
                faults.push(format!("{kind} {pattern}: there is no test {test}"));
            }
            let case =
                |name: &&String| !root().join(format!("tests/differential/cases/{name}.yaml")).is_file();
            for case in row.cases.iter().filter(case) {
                faults.push(format!("{kind} {pattern}: there is no case {case}"));
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_field_that_a_world_does_not_have_is_not_covered() {
    let pool = Pool::load().unwrap();
    assert!(covers("strict", "PeerAuthentication", "spec.mtls.mode", &pool));
    assert!(!covers("strict", "VirtualService", "spec.hosts[]", &pool));
    assert!(
        !has_test("translate::there_is_no_such_test") && has_test("tests::every_claim_is_measured_and_holds")
    );
    assert_eq!(
        steps("metadata.annotations[\"istio.io/dry-run\"]"),
        ["metadata", "annotations", "istio.io/dry-run"]
    );
    assert_eq!(steps("spec.rules[].to[].operation.*[]"), ["spec", "rules", "[]", "to", "[]", "operation"]);
}
