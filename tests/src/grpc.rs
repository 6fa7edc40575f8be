//! gRPC programs that are their own data plane (`xds:///`), from the Python package `grpcio`.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::mixed::{Mesh, Workload};
use crate::{Process, root, until};

/// A Python with `grpcio`; `None` (said on standard output) where there is none.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TULLE_GRPC_PYTHON").map(PathBuf::from);
    if python.is_none() {
        println!("skipped: TULLE_GRPC_PYTHON does not name a Python with grpcio");
    }
    python
}

fn script() -> String {
    root().join("tests/grpc/peer.py").to_str().unwrap().to_owned()
}

/// The certificates of a workload, kept current in the folder that is returned; the process is `NAME-cert`.
pub fn certificates(mesh: &mut Mesh, workload: &Workload, name: &str) -> PathBuf {
    let folder = mesh.own_folder(name);
    mesh.write_token(workload, &folder);
    let (token, out, control) = (folder.join("token"), folder.join("certs"), mesh.control().to_string());
    let mut words = vec!["cert", "--control", &control, "--trust-domain", "cluster.local", "--watch"];
    // So short-lived that it is renewed several times while calls flow.
    words.extend([
        "--lifetime",
        "30",
        "--token-file",
        token.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ]);
    mesh.processes.push((format!("{name}-cert"), Process::start("tulle", &words, &folder)));
    until("tulle cert has written the files", || out.join("root-cert.pem").exists().then_some(()));
    out
}

/// Writes the bootstrap (gRFC A27) of a program that says it is `claimed`, with these certificates, into their folder.
pub fn bootstrap(mesh: &Mesh, claimed: &Workload, certificates: &Path) -> PathBuf {
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let files = json!({
        "certificate_file": file("cert-chain.pem"),
        "private_key_file": file("key.pem"),
        "ca_certificate_file": file("root-cert.pem"),
        "refresh_interval": "1s",
    });
    let domain = format!("{}.svc.cluster.local", claimed.namespace);
    let address = mesh.address(claimed, 0).ip();
    let text = json!({
        "xds_servers": [{
            "server_uri": mesh.control().to_string(),
            "channel_creds": [{"type": "tls", "config": files}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": format!("sidecar~{address}~{}.{}~{domain}", claimed.name, claimed.namespace),
            "metadata": {
                "GENERATOR": "grpc",
                "NAMESPACE": claimed.namespace,
                "WORKLOAD_NAME": claimed.name,
                "SERVICE_ACCOUNT": claimed.account,
                "LABELS": {"app": claimed.app, "version": claimed.version},
            },
        },
        "certificate_providers": {"default": {"plugin_name": "file_watcher", "config": files}},
        "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
    });
    let path = certificates.with_file_name(format!("{}.json", claimed.name));
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// Starts a server in `mode` at an address; the process is `name`.
pub fn start_server(mesh: &mut Mesh, python: &Path, name: &str, bootstrap: Option<&Path>, words: [&str; 4]) {
    let folder = mesh.own_folder(name);
    let variable = format!("GRPC_XDS_BOOTSTRAP={}", bootstrap.unwrap_or(Path::new("/nonexistent")).display());
    let script = script();
    let mut all = vec![variable.as_str(), python.to_str().unwrap(), &script];
    all.extend(words);
    let started = Process::start_program(Path::new("/usr/bin/env"), &all, &folder);
    mesh.processes.push((name.to_owned(), started));
}

/// Starts the server of a workload, configured by the control plane.
pub fn start_xds_server(mesh: &mut Mesh, python: &Path, workload: &Workload, at: SocketAddr) {
    let out = certificates(mesh, workload, workload.name);
    let bootstrap = bootstrap(mesh, workload, &out);
    let at = at.to_string();
    let words = ["server", at.as_str(), workload.name, workload.version];
    start_server(mesh, python, &format!("{}-grpc", workload.name), Some(&bootstrap), words);
}

/// What came back from a batch of calls.
#[derive(Debug, Default, Deserialize)]
pub struct Answers {
    /// Calls by gRPC status.
    pub statuses: std::collections::BTreeMap<String, usize>,
    /// Answers by the version that the server told.
    pub versions: std::collections::BTreeMap<String, usize>,
    /// Answers by the server's name.
    pub names: std::collections::BTreeMap<String, usize>,
    /// The last answer, or `details` of the last error.
    pub last: Value,
}

impl Answers {
    /// Whether every call ended with this status.
    pub fn only(&self, status: &str) -> bool {
        self.statuses.len() == 1 && self.statuses.contains_key(status)
    }

    /// Part of the calls that a version answered.
    pub fn share(&self, version: &str) -> f64 {
        let all: usize = self.statuses.values().sum();
        self.versions.get(version).copied().unwrap_or_default() as f64 / all as f64
    }
}

/// A client with one channel. Killed when dropped.
pub struct Client {
    child: Child,
    into: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Client {
    /// A client of `target`, configured by `bootstrap`.
    pub fn start(python: &Path, bootstrap: &Path, target: &str) -> Client {
        let mut child = Command::new(python)
            .args([&script(), "client", target])
            .env("GRPC_XDS_BOOTSTRAP", bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (into, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Client { child, into, from }
    }

    /// Makes calls as `asked` says: `count`, `metadata`, `length`, `timeout` in seconds, `wait`.
    pub fn ask(&mut self, asked: &Value) -> Answers {
        writeln!(self.into, "{asked}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Makes that many calls.
    pub fn calls(&mut self, count: usize) -> Answers {
        self.ask(&json!({"count": count}))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
