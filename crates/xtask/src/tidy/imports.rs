//! Which room may import which (ARCHITECTURE.md, "The rooms"). Development dependencies count too: a test that needs
//! another room stands in `tests/`.

use std::path::Path;

use super::Faults;

/// A room and the rooms it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("runtime", &["base"]),
    ("tls", &["base"]),
    ("protos", &["base"]),
    ("api", &["base"]),
    ("translate", &["api", "protos", "base"]),
    ("config", &["protos", "base"]),
    ("decide", &["config", "base"]),
    ("xds", &["protos", "runtime", "base"]),
    ("proxy", &["config", "decide", "xds", "protos", "runtime", "tls", "base"]),
    ("control", &["api", "translate", "xds", "protos", "runtime", "tls", "base"]),
    ("cli", &["api", "translate", "config", "decide", "protos", "runtime", "tls", "base"]),
    (
        "xtask",
        &[
            "api",
            "translate",
            "config",
            "decide",
            "protos",
            "runtime",
            "tls",
            "base",
            "proxy",
            "control",
            "cli",
            "xds",
        ],
    ),
    (
        "tests",
        &[
            "api",
            "translate",
            "config",
            "decide",
            "protos",
            "runtime",
            "tls",
            "base",
            "proxy",
            "control",
            "cli",
            "xds",
        ],
    ),
];

/// Reads every manifest of the workspace through `cargo metadata`.
pub fn check(root: &Path) -> Faults {
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let rooms: Vec<&serde_json::Value> = metadata["packages"].as_array().into_iter().flatten().collect();
    let names: Vec<&str> = rooms.iter().filter_map(|room| room["name"].as_str()).collect();
    let mut faults = Vec::new();
    for room in &rooms {
        let name = room["name"].as_str().unwrap_or_default();
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(listed, _)| *listed == name) else {
            faults.push(format!("{name}: a room that xtask tidy does not know; add its import rule"));
            continue;
        };
        for dependency in room["dependencies"].as_array().into_iter().flatten() {
            let imported = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&imported) && !allowed.contains(&imported) {
                faults.push(format!("{name} imports {imported}, which the rules of the rooms forbid"));
            }
        }
    }
    Ok(faults)
}
