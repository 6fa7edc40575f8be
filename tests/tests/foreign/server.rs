//! The program of `tests/foreign`, built and run.

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde::Deserialize;
use tests::{root, until};

/// How the proxy speaks to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    StateOfTheWorld,
    Delta,
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dialect::StateOfTheWorld => "state of the world",
            Dialect::Delta => "delta",
        })
    }
}

/// One line of the program's output.
#[derive(Debug, Clone, Deserialize)]
pub struct Event {
    pub event: String,
    #[serde(default)]
    pub dialect: String,
    #[serde(rename = "type", default)]
    pub kind: String,
    pub node: Option<String>,
    #[serde(default)]
    pub version: String,
    #[serde(default)]
    pub nonce: String,
    #[serde(default)]
    pub names: Vec<String>,
    pub error: Option<String>,
}

/// Builds the program; none, with a word, on a machine without Go.
pub fn build() -> Option<PathBuf> {
    let go = |words: &[&str]| {
        Command::new("go")
            .args(words)
            .envs([("GOFLAGS", "-mod=mod"), ("GOTOOLCHAIN", "local")])
            .current_dir(root().join("tests/foreign"))
            .output()
    };
    if go(&["version"]).is_err() {
        println!("skipped: no `go` on this machine, which builds the foreign control plane");
        return None;
    }
    let program = root().join("target/foreign/control-plane");
    let built = go(&["build", "-o", program.to_str().unwrap(), "."]).unwrap();
    assert!(built.status.success(), "go build: {}", String::from_utf8_lossy(&built.stderr));
    Some(program)
}

/// A running server. Killed when dropped.
pub struct Server {
    program: PathBuf,
    address: SocketAddr,
    folder: PathBuf,
    child: Child,
    commands: ChildStdin,
    starts: usize,
}

impl Server {
    /// Starts the program; its words go to a file in `folder`.
    pub fn start(program: &Path, address: SocketAddr, folder: &Path) -> Server {
        let (child, commands) = run(program, address, folder, 0);
        let (program, folder) = (program.to_owned(), folder.to_owned());
        let server = Server { program, address, folder, child, commands, starts: 0 };
        server.until("serving", "");
        server
    }

    /// Starts it again after [`Server::kill`]; it has forgotten everything, and its events begin anew.
    pub fn restart(&mut self) {
        self.starts += 1;
        (self.child, self.commands) = run(&self.program, self.address, &self.folder, self.starts);
        self.until("serving", "");
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Serves the resources in a file from now on.
    pub fn set(&mut self, version: &str, file: &Path) {
        writeln!(self.commands, "set {version} {}", file.display()).unwrap();
        self.until("set", version);
    }

    /// Breaks every connection and listens again, with what it served before.
    pub fn drop_connections(&mut self) {
        writeln!(self.commands, "drop").unwrap();
        self.until("dropped", "");
    }

    /// What it said since it was started.
    pub fn events(&self) -> Vec<Event> {
        let text = std::fs::read_to_string(words(&self.folder, self.starts)).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What the proxy asked for and answered.
    pub fn requests(&self) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.event == "request").collect()
    }

    /// The reasons of the proxy's refusals.
    pub fn refusals(&self) -> Vec<String> {
        self.requests().into_iter().filter_map(|request| request.error).collect()
    }

    /// Names of the resources that were sent over the delta dialect, sorted.
    pub fn sent(&self) -> Vec<String> {
        let responses = self.events().into_iter().filter(|event| event.event == "response");
        let mut names: Vec<String> = responses.flat_map(|response| response.names).collect();
        names.sort();
        names
    }

    fn until(&self, event: &str, version: &str) {
        until(&format!("the foreign server says {event} {version}"), || {
            self.events().into_iter().find(|one| one.event == event && one.version == version)
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed by the test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn words(folder: &Path, start: usize) -> PathBuf {
    folder.join(format!("server-{start}.events"))
}

fn run(program: &Path, address: SocketAddr, folder: &Path, start: usize) -> (Child, ChildStdin) {
    let output = File::create(words(folder, start)).unwrap();
    let errors = File::create(folder.join(format!("server-{start}.log"))).unwrap();
    let mut child = Command::new(program)
        .arg(address.to_string())
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .unwrap();
    let commands = child.stdin.take().unwrap();
    (child, commands)
}
