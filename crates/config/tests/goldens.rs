//! What `translate` emits is what `config` reads: every golden resource for a proxy of ours is accepted.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use protos::Message;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;
use protos::json::Pool;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Fields that stand in goldens and are known to do nothing yet; a further one has to be looked at.
const KNOWN_NOT_ACTING: [&str; 3] = ["hash_policy", "priority", "policy"];

fn goldens() -> Vec<PathBuf> {
    let worlds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/worlds");
    let folders = std::fs::read_dir(&worlds).expect("testdata/worlds is there");
    let mut files = Vec::new();
    for folder in folders {
        let expected = folder.expect("a folder").path().join("expected");
        let Ok(entries) = std::fs::read_dir(&expected) else { continue };
        files.extend(entries.map(|entry| entry.expect("a file").path()));
    }
    files.sort();
    files
}

fn read<M: Message + prost::Name + Default, T>(
    pool: &Pool,
    place: &str,
    value: &Value,
    reader: impl Fn(&M) -> Result<config::Read<T>, config::Refused>,
    problems: &mut Vec<String>,
) {
    let mut value = value.clone();
    value.as_object_mut().expect("a resource is an object").remove("@type");
    let message: M = match pool.from_json(&value.to_string()) {
        Ok(message) => message,
        Err(error) => return problems.push(format!("{place}: {error}")),
    };
    match reader(&message) {
        Err(refused) => problems.push(format!("{place}: refused: {refused}")),
        Ok(read) => {
            for note in read.notes {
                let known = |field: &&str| note.path.split(['.', '[']).any(|segment| segment == *field);
                if !KNOWN_NOT_ACTING.iter().any(known) {
                    problems.push(format!("{place}: not acting: {}: {}", note.path, note.reason));
                }
            }
        }
    }
}

#[test]
fn every_golden_resource_is_accepted() {
    let pool = Pool::load().expect("descriptors");
    let mut problems = Vec::new();
    let mut counts = std::collections::BTreeMap::new();
    for file in goldens() {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        // What is for Envoy or gRPC alone is judged by them; notes and versions are no resources.
        let kind = name.trim_end_matches(".json").rsplit('.').next().unwrap_or_default().to_owned();
        if name.split('.').next().is_some_and(|proxy| proxy.ends_with("-envoy") || proxy.ends_with("-grpc"))
            || !["listeners", "routes", "clusters", "endpoints"].contains(&&*kind)
        {
            continue;
        }
        let text = std::fs::read_to_string(&file).expect("a golden is readable");
        let resources: Vec<Value> = serde_json::from_str(&text).expect("a golden is a JSON list");
        for (index, resource) in resources.iter().enumerate() {
            let place = format!("{}#{index}", file.display());
            match kind.as_str() {
                "listeners" => {
                    read::<Listener, _>(&pool, &place, resource, config::read_listener, &mut problems)
                }
                "routes" => {
                    read::<RouteConfiguration, _>(
                        &pool,
                        &place,
                        resource,
                        config::read_route_configuration,
                        &mut problems,
                    );
                }
                "clusters" => {
                    read::<Cluster, _>(&pool, &place, resource, config::read_cluster, &mut problems)
                }
                _ => {
                    read::<ClusterLoadAssignment, _>(
                        &pool,
                        &place,
                        resource,
                        config::read_load_assignment,
                        &mut problems,
                    );
                }
            }
            *counts.entry(kind.clone()).or_insert(0) += 1;
        }
    }
    for kind in ["listeners", "routes", "clusters", "endpoints"] {
        assert!(counts.get(kind).is_some_and(|count| *count > 0), "no golden {kind}: {counts:?}");
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}
