//! Pure rooms do no IO, read no clock and know no tokio, not even through a dependency.

use std::path::Path;

use super::Faults;

/// Each pure room, and whether it sees protobuf messages.
const PURE: &[(&str, bool)] =
    &[("base", false), ("api", false), ("translate", true), ("config", true), ("decide", true)];
/// Crates that do IO. `protos` carries tonic's generated clients, so tokio is allowed to exist below it only.
const IO: &[&str] = &["tokio", "hyper", "rustls", "notify", "mio", "kube"];
/// The room through which a pure room may see generated services.
const THROUGH: &str = "protos";

/// Names of the standard library that do IO or read the clock.
const CALLS: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "SystemTime::now",
    "Instant::now",
    "std::thread",
    "std::env::var",
    "std::process::Command",
];

/// Asks `cargo tree` for the dependencies, and reads the sources for the standard library's IO.
pub fn check(root: &Path) -> Faults {
    let mut faults = Vec::new();
    for (room, messages) in PURE {
        faults.extend(by_dependency(root, room, *messages)?);
        faults.extend(by_call(root, room)?);
    }
    Ok(faults)
}

fn by_dependency(root: &Path, room: &str, messages: bool) -> Faults {
    let mut command = std::process::Command::new(env!("CARGO"));
    command.args(["tree", "--package", room, "--edges", "normal", "--prefix", "none"]).current_dir(root);
    if messages {
        command.args(["--prune", THROUGH]);
    }
    let output = command.output()?;
    if !output.status.success() {
        return Err(
            format!("cargo tree --package {room}: {}", String::from_utf8_lossy(&output.stderr)).into()
        );
    }
    let tree = String::from_utf8(output.stdout)?;
    let mut names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names
        .into_iter()
        .filter(|name| IO.contains(name))
        .map(|name| format!("{room} is pure but depends on {name}"))
        .collect())
}

fn by_call(root: &Path, room: &str) -> Faults {
    let mut faults = Vec::new();
    let mut open = vec![root.join("crates").join(room).join("src")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            // A test may read golden files; the clock's own file is where the real clock lives.
            if path.ends_with("tests.rs") || path.ends_with("base/src/clock.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            for (number, line) in
                code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
            {
                if let Some(call) = CALLS.iter().find(|call| line.contains(**call)) {
                    faults.push(format!(
                        "{}:{}: {room} is pure but names {call}",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    Ok(faults)
}
