//! A mesh of chains: services that call one another through their sidecars, every one a process that can be drained,
//! killed and started again while a load counts.

pub mod bytes;
pub mod soak;
pub mod upstream;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use cli::bootstrap::{ADMIN_PORT, Sidecar};
use rustix::process::Signal;
use serde_json::Value;

use crate::load::records::Records;
use crate::{Process, binary, get, until};

/// Port of the services and programs.
pub const PORT: u16 = 8080;
/// Namespace of everything.
pub const NAMESPACE: &str = "shop";

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The service it belongs to; also its service account.
    pub service: &'static str,
    /// Last octet of its addresses.
    pub host: u8,
    /// The service that its program passes requests on to.
    pub next: Option<&'static str>,
    /// Name of its service's port, which tells the protocol.
    pub port: &'static str,
}

impl Instance {
    /// An instance of a service that answers by itself.
    pub fn new(service: &'static str, host: u8) -> Instance {
        Instance { service, host, next: None, port: "http" }
    }

    /// An instance that passes requests on.
    pub fn to(service: &'static str, host: u8, next: &'static str) -> Instance {
        Instance { next: Some(next), ..Instance::new(service, host) }
    }

    /// The same with another name of the port, such as `grpc`.
    pub fn speaking(self, port: &'static str) -> Instance {
        Instance { port, ..self }
    }

    /// Name of its sidecar's process.
    pub fn name(&self) -> String {
        format!("{}-{}", self.service, self.host)
    }

    /// Name of its program's process.
    pub fn program(&self) -> String {
        format!("{}-program", self.name())
    }
}

/// The running mesh.
pub struct Mesh {
    /// The processes by name.
    pub processes: BTreeMap<String, Process>,
    /// Further words for `tulle echo`.
    pub echo_words: Vec<String>,
    /// Where the programs show their metrics, as annotations.
    pub app_metrics: Option<String>,
    /// How long the sidecars' certificates live.
    pub lifetime_seconds: Option<u32>,
    instances: Vec<Instance>,
    block: u8,
    control: SocketAddr,
    folder: tempfile::TempDir,
}

impl Mesh {
    /// Starts a control plane on 127.`block`/16 for these instances; a workload `caller` is always there, whose sidecar
    /// listens on the services' addresses. `rules` is further YAML of the namespace.
    pub fn control(block: u8, instances: &[Instance], mesh_config: &str, rules: &str) -> Mesh {
        let mut all = vec![Instance::new("caller", 9)];
        all.extend_from_slice(instances);
        let mut mesh = Mesh {
            processes: BTreeMap::new(),
            echo_words: Vec::new(),
            app_metrics: None,
            lifetime_seconds: None,
            instances: all,
            block,
            control: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder: tempfile::tempdir().unwrap(),
        };
        let config = mesh.folder.path().join("mesh");
        std::fs::create_dir_all(config.join(NAMESPACE)).unwrap();
        let settings = "trustDomain: cluster.local\nproxyHttpPort: 15080\noutboundTrafficPolicy: {mode: REGISTRY_ONLY}\n";
        std::fs::write(config.join("mesh.yaml"), format!("{settings}{mesh_config}")).unwrap();
        mesh.write("services.yaml", &mesh.services());
        if !rules.is_empty() {
            mesh.write("rules.yaml", rules);
        }
        mesh.start_control();
        mesh
    }

    /// The control plane's monitoring address.
    pub fn monitoring(&self) -> SocketAddr {
        let text = std::fs::read(self.folder.path().join("data/addresses.json")).unwrap();
        let addresses: Value = serde_json::from_slice(&text).unwrap();
        addresses["monitoring"].as_str().unwrap().parse().unwrap()
    }

    /// Like [`Mesh::control`], and starts every instance and waits until it is ready.
    pub fn start(block: u8, instances: &[Instance], mesh_config: &str, rules: &str) -> Mesh {
        let mut mesh = Mesh::control(block, instances, mesh_config, rules);
        let all = mesh.instances.clone();
        for instance in &all {
            mesh.start_program(instance);
            mesh.start_sidecar(instance);
        }
        all.iter().for_each(|instance| mesh.ready(instance));
        mesh
    }

    fn services(&self) -> String {
        let mut text = String::new();
        let block = self.block;
        let mut seen: Vec<&str> = Vec::new();
        for instance in &self.instances {
            let (service, host, port) = (instance.service, instance.host, instance.port);
            if !seen.contains(&service) {
                seen.push(service);
                let vip = seen.len();
                writeln!(text, "apiVersion: v1\nkind: Service\nmetadata: {{name: {service}}}").unwrap();
                writeln!(text, "spec: {{selector: {{app: {service}}}, clusterIP: 127.{block}.1.{vip}, ports: [{{name: {port}, port: {PORT}, targetPort: {PORT}}}]}}\n---").unwrap();
            }
            writeln!(text, "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {service}-{host}}}").unwrap();
            writeln!(text, "spec: {{address: 127.{block}.0.{host}, labels: {{app: {service}}}, serviceAccount: {service}}}\n---").unwrap();
        }
        text
    }

    /// Writes a file of the namespace's configuration, at once.
    pub fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join("mesh").join(NAMESPACE).join(name);
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, path).unwrap();
    }

    /// Starts the control plane, on the address that it had before.
    pub fn start_control(&mut self) {
        let addresses = self.folder.path().join("data/addresses.json");
        let _ = std::fs::remove_file(&addresses);
        let (config, data) = (self.path("mesh"), self.path("data"));
        let words = ["--config", &config, "--data", &data, "--xds-address", &self.control.to_string()];
        let words = [&words[..], &["--monitoring-address", "127.0.0.1:0"]].concat();
        let tulled = Process::start("tulled", &words, self.folder.path());
        self.processes.insert("tulled".to_owned(), tulled);
        let addresses: Value = until("tulled says where it listens", || {
            serde_json::from_slice(&std::fs::read(&addresses).ok()?).ok()
        });
        self.control = addresses["xds"].as_str().unwrap().parse().unwrap();
    }

    /// Starts an instance's program, which records what it executes.
    pub fn start_program(&mut self, instance: &Instance) {
        let listen = self.program(instance).to_string();
        let record = self.record(instance).display().to_string();
        let mut words = ["echo", "--listen", &listen, "--name", instance.service, "--record", &record]
            .map(str::to_owned)
            .to_vec();
        words.extend(self.echo_words.iter().cloned());
        if let Some(next) = instance.next {
            let call = format!("http://{next}:{PORT}/");
            let proxy = SocketAddr::new(self.address(instance).ip(), 15080).to_string();
            words.extend(["--forward", "--call", &call, "--proxy", &proxy].map(str::to_owned));
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let process = Process::start("tulle", &words, &self.own_folder(&instance.program()));
        self.processes.insert(instance.program(), process);
        let address = self.program(instance);
        until("the program listens", || std::net::TcpStream::connect(address).ok());
    }

    /// Starts an instance's sidecar; it keeps the state of the one before.
    pub fn start_sidecar(&mut self, instance: &Instance) {
        let bootstrap = self.bootstrap(instance);
        let words = ["-c", bootstrap.to_str().unwrap(), "--concurrency", "2", "--drain-time-s", "20"];
        let process = Process::start("tulle-proxy", &words, &self.own_folder(&instance.name()));
        self.processes.insert(instance.name(), process);
    }

    /// Starts an instance's sidecar in a shell that runs `before` first, such as `ulimit -n 64`; `wrapper` starts the
    /// shell, and its process becomes the sidecar.
    pub fn start_sidecar_after(&mut self, instance: &Instance, wrapper: &[&str], before: &str) {
        let bootstrap = self.bootstrap(instance);
        let proxy = binary("tulle-proxy");
        let script =
            format!("{before} && exec {} -c {} --concurrency 2 $FLAGS", proxy.display(), bootstrap.display());
        let folder = self.own_folder(&instance.name());
        let words = [wrapper, &["/bin/sh", "-c", &script]].concat();
        let process = Process::start_command(Command::new(words[0]).args(&words[1..]), &folder);
        self.processes.insert(instance.name(), process);
    }

    fn bootstrap(&self, instance: &Instance) -> PathBuf {
        let folder = self.own_folder(&instance.name());
        let file = folder.join("bootstrap.json");
        if !folder.join("token").exists() {
            self.write_token(instance, &folder);
        }
        let sidecar = Sidecar {
            namespace: NAMESPACE.to_owned(),
            workload: instance.name(),
            service_account: instance.service.to_owned(),
            labels: BTreeMap::from([("app".to_owned(), instance.service.to_owned())]),
            address: self.address(instance).ip(),
            app_address: self.program(instance).ip(),
            bind_vips: instance.service == "caller",
            trust_domain: "cluster.local".to_owned(),
            control: self.control,
            token_file: folder.join("token"),
            state_directory: folder.join("state"),
            app_metrics: self.app_metrics.clone(),
            lifetime_seconds: self.lifetime_seconds,
        };
        std::fs::write(&file, sidecar.bootstrap().to_string()).unwrap();
        file
    }

    fn write_token(&self, instance: &Instance, folder: &Path) {
        let output = Command::new(binary("tulled"))
            .args(["token", "create", "--namespace", NAMESPACE, "--service-account", instance.service])
            .args(["--data", &self.path("data")])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(folder.join("token"), output.stdout).unwrap();
    }

    /// Waits until an instance's sidecar is ready.
    pub fn ready(&self, instance: &Instance) {
        let admin = self.admin(instance);
        until(&format!("the sidecar of {} is ready", instance.name()), || {
            get(admin, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
    }

    /// Restarts an instance as an orchestrator does: the sidecar drains to its end, then the program; both start again.
    pub fn roll(&mut self, instance: &Instance) {
        for name in [instance.name(), instance.program()] {
            let mut process = self.processes.remove(&name).unwrap();
            process.signal(Signal::TERM);
            let status = process.wait();
            assert!(status.success(), "{name} ended with {status}:\n{}", process.log());
        }
        self.start_program(instance);
        self.start_sidecar(instance);
        self.ready(instance);
    }

    /// Kills a process (SIGKILL).
    pub fn kill(&mut self, name: &str) {
        drop(self.processes.remove(name).unwrap());
    }

    /// The instances of a service.
    pub fn instances(&self, service: &str) -> Vec<Instance> {
        self.instances.iter().filter(|instance| instance.service == service).cloned().collect()
    }

    /// What a service's programs executed.
    pub fn records(&self, service: &str) -> Records {
        Records::read(self.instances(service).iter().map(|instance| self.record(instance)))
    }

    /// File of a program's record.
    pub fn record(&self, instance: &Instance) -> PathBuf {
        self.folder.path().join(format!("{}.record", instance.name()))
    }

    /// A service's address, on which the caller's sidecar listens.
    pub fn service(&self, service: &str) -> SocketAddr {
        let mut seen: Vec<&str> = Vec::new();
        for instance in &self.instances {
            if !seen.contains(&instance.service) {
                seen.push(instance.service);
            }
        }
        let at = seen.iter().position(|known| *known == service).unwrap();
        SocketAddr::from(([127, self.block, 1, u8::try_from(at + 1).unwrap()], PORT))
    }

    /// A workload's own address.
    pub fn address(&self, instance: &Instance) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, self.block, 0, instance.host]), PORT)
    }

    /// Where a program listens.
    pub fn program(&self, instance: &Instance) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, self.block, 2, instance.host]), PORT)
    }

    /// A sidecar's admin address.
    pub fn admin(&self, instance: &Instance) -> SocketAddr {
        SocketAddr::new(self.address(instance).ip(), ADMIN_PORT)
    }

    /// Where an instance's sidecar keeps its state.
    pub fn state(&self, instance: &Instance) -> PathBuf {
        self.own_folder(&instance.name()).join("state")
    }

    /// A folder of a process, 0700.
    pub fn own_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
        folder
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (name, process) in &self.processes {
                let log = process.log();
                let lines: Vec<&str> = log.lines().filter(|line| !line.starts_with('[')).collect();
                println!("== {name}\n{}", lines[lines.len().saturating_sub(8)..].join("\n"));
            }
        }
    }
}
