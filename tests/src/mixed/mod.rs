//! A mesh in which some sidecars are the real Envoy: the example `payments` with a control plane, programs and
//! sidecars as processes on loopback addresses of its own.

pub mod bootstrap;
pub mod calls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cli::bootstrap::{ADMIN_PORT, Sidecar};
use serde_json::Value;

use crate::{Process, binary, get, root, until};

/// Port of the example's services and programs.
pub const PORT: u16 = 8080;

/// How a proxy asks for its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Every answer holds everything.
    StateOfTheWorld,
    /// An answer holds what changed.
    Delta,
}

/// A workload of the example.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    /// Its namespace.
    pub namespace: &'static str,
    /// Its service account.
    pub account: &'static str,
    /// Its label `app`.
    pub app: &'static str,
    /// Its label `version`.
    pub version: &'static str,
    host: u8,
}

const fn workload(
    name: &'static str,
    namespace: &'static str,
    account: &'static str,
    version: &'static str,
    host: u8,
) -> Workload {
    Workload { name, namespace, account, app: account, version, host }
}

/// The workloads of the example, the callers first.
pub const WORKLOADS: [Workload; 5] = [
    workload("frontend", "production", "frontend", "v1", 10),
    workload("stranger", "outside", "stranger", "v1", 66),
    workload("payment-stable-1", "production", "payment", "stable", 21),
    workload("payment-stable-2", "production", "payment", "stable", 22),
    workload("payment-canary-1", "production", "payment", "canary", 31),
];

/// The workload of that name.
pub fn named(name: &str) -> Workload {
    WORKLOADS.into_iter().find(|workload| workload.name == name).unwrap()
}

/// The real Envoy; `None` (said on standard output) where there is none.
pub fn envoy() -> Option<PathBuf> {
    let envoy = std::env::var_os("TULLE_ENVOY").map(PathBuf::from);
    if envoy.is_none() {
        println!("skipped: TULLE_ENVOY does not name an Envoy binary");
    }
    envoy
}

/// The running mesh.
pub struct Mesh {
    /// The processes by name; the last started is stopped first.
    pub processes: Vec<(String, Process)>,
    block: u8,
    dialect: Dialect,
    envoy: PathBuf,
    control: SocketAddr,
    monitoring: SocketAddr,
    folder: tempfile::TempDir,
    /// Lifetime of the certificates that sidecars started from now on ask for; a day where nothing is said.
    pub lifetime_seconds: Option<u32>,
    /// Seconds by which the clock of sidecars started from now on is wrong: see [`faketime`].
    pub clock_is_off_by: i64,
}

/// The library that gives a process another clock (package `faketime`); `None` (said on standard output) where there is
/// none.
pub fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let library =
        folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.is_file());
    if library.is_none() {
        println!("skipped: no libfaketime (package faketime)");
    }
    library
}

impl Mesh {
    /// Starts the example's control plane on 127.`block`/16, and no workload.
    pub fn without_workloads(envoy: &Path, block: u8, dialect: Dialect) -> Mesh {
        let mut mesh = Mesh::with_nothing(envoy, block, dialect);
        mesh.start_control();
        mesh
    }

    /// Starts the example without an Envoy; the control plane signs with the operator's authority in `from`.
    pub fn with_authority(block: u8, from: &Path) -> Mesh {
        let mut mesh = Mesh::with_nothing(Path::new(""), block, Dialect::Delta);
        let words = ["ca", "init", "--from", from.to_str().unwrap(), "--data", &mesh.path("data")];
        let output = Command::new(binary("tulled")).args(words).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        mesh.start_control();
        mesh.start_workloads(&[]);
        mesh
    }

    fn with_nothing(envoy: &Path, block: u8, dialect: Dialect) -> Mesh {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mesh = Mesh {
            processes: Vec::new(),
            block,
            dialect,
            envoy: envoy.to_owned(),
            control: nowhere,
            monitoring: nowhere,
            folder: tempfile::tempdir().unwrap(),
            lifetime_seconds: None,
            clock_is_off_by: 0,
        };
        mesh.copy_example();
        mesh
    }

    /// Starts the example on 127.`block`/16 with Envoy as the sidecar of `envoys` and `tulle-proxy` as the others',
    /// and waits until each has its configuration.
    pub fn start(envoy: &Path, block: u8, dialect: Dialect, envoys: &[&str]) -> Mesh {
        let mut mesh = Mesh::without_workloads(envoy, block, dialect);
        mesh.start_workloads(envoys);
        mesh
    }

    /// Starts the workloads, with Envoy as the sidecar of `envoys`, and waits until each has its configuration.
    pub fn start_workloads(&mut self, envoys: &[&str]) {
        for workload in WORKLOADS {
            self.start_program(&workload);
            if envoys.contains(&workload.name) {
                self.start_envoy(&workload, &workload, workload.name);
            } else {
                self.start_tulle(&workload);
            }
        }
        for workload in WORKLOADS {
            let admin = self.admin(&workload);
            until(&format!("the sidecar of {} is ready", workload.name), || {
                get(admin, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200"))
            });
        }
    }

    fn copy_example(&self) {
        let example = root().join("examples/payments");
        for folder in ["", "production", "outside"] {
            let target = self.folder.path().join("mesh").join(folder);
            std::fs::create_dir_all(&target).unwrap();
            for entry in std::fs::read_dir(example.join(folder)).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_file() {
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    let text = text.replace("127.10.", &format!("127.{}.", self.block));
                    std::fs::write(target.join(entry.file_name()), text).unwrap();
                }
            }
        }
    }

    fn start_control(&mut self) {
        let (config, data) = (self.path("mesh"), self.path("data"));
        // Where it was before, if it was.
        let (xds, monitoring) = (self.control.to_string(), self.monitoring.to_string());
        let words = [
            "--config",
            &config,
            "--data",
            &data,
            "--xds-address",
            &xds,
            "--monitoring-address",
            &monitoring,
        ];
        let tulled = Process::start("tulled", &words, self.folder.path());
        self.processes.push(("tulled".to_owned(), tulled));
        let file = self.folder.path().join("data/addresses.json");
        let addresses: Value = until("tulled says where it listens", || {
            serde_json::from_slice(&std::fs::read(&file).ok()?).ok()
        });
        let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        (self.control, self.monitoring) = (address("xds"), address("monitoring"));
    }

    /// Where the program beside a workload's sidecar listens.
    pub fn program_address(&self, workload: &Workload) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, self.block, 2, workload.host]), PORT)
    }

    /// Starts a workload: its program, and a `tulle-proxy` as its sidecar.
    pub fn start_with_program(&mut self, workload: &Workload) {
        self.start_program(workload);
        self.start_tulle(workload);
    }

    fn start_program(&mut self, workload: &Workload) {
        let listen = self.program_address(workload).to_string();
        let words = ["echo", "--listen", &listen, "--name", workload.name, "--version", workload.version];
        let folder = self.own_folder(&format!("{}-program", workload.name));
        self.processes.push((format!("{}-program", workload.name), Process::start("tulle", &words, &folder)));
    }

    /// The bootstrap's content for `workload`, with a join token in `folder`.
    fn sidecar(&self, workload: &Workload, folder: &Path) -> Sidecar {
        Sidecar {
            namespace: workload.namespace.to_owned(),
            workload: workload.name.to_owned(),
            service_account: workload.account.to_owned(),
            labels: BTreeMap::from([
                ("app".to_owned(), workload.app.to_owned()),
                ("version".to_owned(), workload.version.to_owned()),
            ]),
            address: self.address(workload, PORT).ip(),
            app_address: IpAddr::from([127, self.block, 2, workload.host]),
            bind_vips: workload.name == "frontend",
            trust_domain: "cluster.local".to_owned(),
            control: self.control,
            token_file: folder.join("token"),
            state_directory: folder.join("state"),
            app_metrics: None,
            lifetime_seconds: self.lifetime_seconds,
        }
    }

    /// Starts the control plane where it was, with what it had.
    pub fn start_control_again(&mut self) {
        self.start_control();
    }

    /// Starts a `tulle-proxy` as the sidecar of a workload, with a fresh join token.
    pub fn start_tulle(&mut self, workload: &Workload) {
        let folder = self.own_folder(workload.name);
        self.write_token(workload, &folder);
        let bootstrap = self.sidecar(workload, &folder).bootstrap().to_string();
        std::fs::write(folder.join("bootstrap.json"), bootstrap).unwrap();
        self.start_tulle_again(workload);
    }

    /// Starts a `tulle-proxy` with the folder that it had.
    pub fn start_tulle_again(&mut self, workload: &Workload) {
        let folder = self.own_folder(workload.name);
        let file = folder.join("bootstrap.json");
        let mut command = Command::new(binary("tulle-proxy"));
        command.args(["-c", file.to_str().unwrap(), "--concurrency", "1"]);
        if self.clock_is_off_by != 0 {
            let clock = format!("{:+}", self.clock_is_off_by);
            command.env("LD_PRELOAD", faketime().unwrap()).env("FAKETIME", clock);
            // A wrong clock is wrong, it does not run away: waits stay as long as they are.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        self.processes.push((workload.name.to_owned(), Process::start_command(&mut command, &folder)));
    }

    /// Starts an Envoy that says it is `claimed`, with the certificates of `identity`; the processes are `process` and
    /// `process-cert`.
    pub fn start_envoy(&mut self, claimed: &Workload, identity: &Workload, process: &str) {
        let folder = self.own_folder(process);
        self.write_token(identity, &folder);
        let (token, socket, control) = (folder.join("token"), folder.join("sds"), self.control.to_string());
        let mut words = vec!["cert", "--control", &control, "--trust-domain", "cluster.local"];
        words.extend(["--token-file", token.to_str().unwrap(), "--sds", socket.to_str().unwrap()]);
        // So short-lived that it is renewed several times while requests flow.
        words.extend(["--lifetime", "30"]);
        self.processes.push((format!("{process}-cert"), Process::start("tulle", &words, &folder)));
        until("tulle cert has a socket", || socket.exists().then_some(()));
        let bootstrap =
            bootstrap::for_envoy(self.sidecar(claimed, &folder).bootstrap(), self.dialect, &socket);
        let file = folder.join("bootstrap.json");
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        let words =
            ["-c", file.to_str().unwrap(), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"];
        let started = Process::start_program(&self.envoy, &words, &folder);
        self.processes.push((process.to_owned(), started));
    }

    /// `tulled`'s TLS port.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// A folder of the mesh's temporary one, 0700.
    pub fn own_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
        folder
    }

    /// Writes a fresh join token of a workload's identity to `folder/token`.
    pub fn write_token(&self, workload: &Workload, folder: &Path) {
        let data = self.path("data");
        let output = Command::new(binary("tulled"))
            .args(["token", "create", "--namespace", workload.namespace, "--service-account"])
            .args([workload.account, "--data", &data])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(folder.join("token"), output.stdout).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A workload's own address with this port.
    pub fn address(&self, workload: &Workload, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, self.block, 0, workload.host]), port)
    }

    /// A sidecar's admin address.
    pub fn admin(&self, workload: &Workload) -> SocketAddr {
        self.address(workload, ADMIN_PORT)
    }

    /// The payment service's loopback address.
    pub fn payment_service(&self) -> SocketAddr {
        SocketAddr::from(([127, self.block, 1, 1], PORT))
    }

    /// Replaces text in a file of the configuration, at once.
    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.folder.path().join("mesh").join(file);
        let old = std::fs::read_to_string(&path).unwrap();
        assert!(old.contains(from), "{file} has no {from:?}");
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, old.replace(from, to)).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    /// The control plane's monitoring address.
    pub fn monitoring(&self) -> SocketAddr {
        self.monitoring
    }

    /// The folder of the mesh's YAML.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("mesh")
    }

    /// A JSON page of the control plane.
    pub fn page(&self, path: &str) -> Value {
        let answer = get(self.monitoring, path).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// What `tulled` knows of the connected proxies, by workload.
    pub fn connections(&self) -> BTreeMap<String, Value> {
        let answer = get(self.monitoring, "/debug/connections").unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = &body[body.find('[').unwrap()..=body.rfind(']').unwrap()];
        let list: Vec<Value> = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
        list.into_iter().map(|it| (it["workload"].as_str().unwrap().to_owned(), it)).collect()
    }

    /// The log of a process.
    pub fn log(&self, name: &str) -> String {
        self.processes.iter().find(|(known, _)| known == name).unwrap().1.log()
    }

    /// Stops a process.
    pub fn stop(&mut self, name: &str) {
        let at = self.processes.iter().position(|(known, _)| known == name).unwrap();
        self.processes.remove(at);
    }

    /// One of Envoy's counters, 0 where there is none or no Envoy yet.
    pub fn counter(&self, workload: &Workload, end: &str) -> u64 {
        let stats = get(self.admin(workload), "/stats").unwrap_or_default();
        let values = stats.lines().filter_map(|line| line.split_once(": "));
        values
            .filter(|(name, _)| name.ends_with(end))
            .filter_map(|(_, value)| value.parse::<u64>().ok())
            .sum()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, process) in &self.processes {
                let log = process.log();
                let lines: Vec<&str> = log.lines().collect();
                let end = &lines[lines.len().saturating_sub(8)..];
                println!("== {name}\n{}", end.join("\n"));
            }
        }
        // The callers first, the control plane last.
        while self.processes.pop().is_some() {}
    }
}
