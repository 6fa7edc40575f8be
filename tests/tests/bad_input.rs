//! Bad input to a running `tulled`: each is named with its place, and the mesh goes on with what was good.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tests::{Process, get, root, until};

struct Mesh {
    folder: tempfile::TempDir,
    tulled: Process,
    monitoring: SocketAddr,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            let _ = fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// `tulled` on a copy of the example.
fn mesh() -> Mesh {
    let folder = tempfile::tempdir().unwrap();
    let (config, data) = (folder.path().join("mesh"), folder.path().join("data"));
    copy(&root().join("examples/payments"), &config);
    let words = [
        "--config",
        config.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
        "--xds-address",
        "127.0.0.1:0",
        "--monitoring-address",
        "127.0.0.1:0",
    ];
    let tulled = Process::start("tulled", &words, folder.path());
    let addresses = until("tulled writes its addresses", || fs::read(data.join("addresses.json")).ok());
    let addresses: serde_json::Value = serde_json::from_slice(&addresses).unwrap();
    let monitoring = addresses["monitoring"].as_str().unwrap().parse().unwrap();
    until("tulled is ready", || {
        get(monitoring, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    Mesh { folder, tulled, monitoring }
}

impl Mesh {
    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.folder.path().join("mesh/production").join(name), bytes).unwrap();
    }

    fn config(&self) -> String {
        get(self.monitoring, "/debug/config").unwrap()
    }
}

const ROUTE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: NAME}\nspec:\n  hosts: [frontend]\n  http:\n  - route:\n    - {destination: {host: frontend}, weight: 1}\n    - {destination: {host: payment-service}, weight: 1}\n";

#[test]
fn every_bad_file_is_named_and_the_good_ones_go_on() {
    let mut mesh = mesh();
    let deep = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: deep}}\nspec: {}1{}\n",
        "[".repeat(500),
        "]".repeat(500)
    );
    let mut bomb = "apiVersion: v1\nkind: Service\nmetadata: {name: bomb}\nx0: &x0 [a]\n".to_owned();
    for level in 1..30 {
        let before = format!("*x{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("x{level}: &x{level} [{before}]\n"));
    }
    let zero = ROUTE.replace("NAME", "zero").replace("weight: 1", "weight: 0");
    let cases: Vec<(&str, Vec<u8>, Vec<&str>)> = vec![
        (
            "unknown.yaml",
            ROUTE.replace("NAME", "unknown").replacen("weight", "wieght", 1).into(),
            vec!["unknown.yaml:8:", "wieght", "weight"],
        ),
        (
            "type.yaml",
            ROUTE.replace("NAME", "type").replacen("weight: 1", "weight: many", 1).into(),
            vec!["type.yaml:8:", "weight", "many"],
        ),
        ("zero.yaml", zero.into(), vec!["zero.yaml:", "weight"]),
        (
            "latin.yaml",
            b"apiVersion: v1\nkind: Service\nmetadata: {name: caf\xe9}\n".to_vec(),
            vec!["latin.yaml:3", "UTF-8"],
        ),
        ("deep.yaml", deep.into(), vec!["deep.yaml", "deep"]),
        ("bomb.yaml", bomb.into(), vec!["bomb.yaml", "alias"]),
        (
            "twice.yaml",
            fs::read(root().join("examples/payments/production/payment-service.yaml")).unwrap(),
            vec!["twice.yaml", "payment-service.yaml"],
        ),
        (
            "nosubset.yaml",
            ROUTE
                .replace("NAME", "nosubset")
                .replacen("host: frontend", "host: frontend, subset: blue", 1)
                .into(),
            vec!["nosubset", "blue"],
        ),
    ];
    for (name, bytes, words) in cases {
        mesh.write(name, &bytes);
        mesh.tulled.says(&words);
    }
    let large = fs::File::create(mesh.folder.path().join("mesh/production/large.yaml")).unwrap();
    large.set_len(100 << 20).unwrap();
    mesh.tulled.says(&["large.yaml", "104857600"]);
    let config = mesh.config();
    assert!(config.starts_with("HTTP/1.1 200") && config.contains("payment-callers"), "{config}");
    assert!(mesh.tulled.ended().is_none());
}

#[test]
fn a_directory_that_vanishes_and_returns_keeps_its_last_good_configuration() {
    let mut mesh = mesh();
    let (config, away) = (mesh.folder.path().join("mesh"), mesh.folder.path().join("away"));
    fs::rename(&config, &away).unwrap();
    mesh.tulled.says(&["mesh", "No such file or directory"]);
    assert!(mesh.config().contains("payment-callers"));
    fs::rename(&away, &config).unwrap();
    fs::remove_file(config.join("production/payment-callers.yaml")).unwrap();
    until("an edit after the return acts", || (!mesh.config().contains("payment-callers")).then_some(()));
    assert!(mesh.config().contains("payment-service"));
}
