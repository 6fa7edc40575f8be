//! Where a run happens: ports, certificates, rendered configurations, pinned processes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use super::measure;
use super::peers::{Peer, Peers};
use super::scenario::{Kind, Scenario};

/// Bytes of a response.
const BODY: usize = 1024;
/// How long a process may take until it accepts connections.
const START: Duration = Duration::from_secs(20);

/// The place of all runs.
pub struct Place {
    root: PathBuf,
    folder: tempfile::TempDir,
    proxy_core: usize,
    load_core: usize,
    /// HTTP/1.1 port of the program behind.
    pub upstream: u16,
    /// HTTP/2 port of the program behind.
    pub upstream2: u16,
    /// Where bulk bytes go.
    pub sink: u16,
}

/// A process that ends with its owner.
#[derive(Debug)]
pub struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // nginx stops its workers only when it is asked to.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The proxies of one run.
#[derive(Debug)]
pub struct Running {
    /// Port that the load goes to.
    pub entry: u16,
    processes: Vec<Process>,
}

impl Running {
    /// CPU time of all of them so far.
    pub fn cpu(&self) -> Duration {
        self.processes.iter().map(|it| measure::cpu(it.0.id())).sum()
    }

    /// Resident memory of all of them, KiB.
    pub fn resident_kib(&self) -> u64 {
        self.processes.iter().map(|it| measure::resident_kib(it.0.id())).sum()
    }
}

impl Place {
    /// Makes certificates and reserves ports.
    ///
    /// # Errors
    /// The temporary folder cannot be written.
    pub fn new(root: &Path, proxy_core: usize, load_core: usize) -> Result<Place, String> {
        let folder = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
        certificates(folder.path()).map_err(|error| format!("certificates: {error}"))?;
        let root = root.to_owned();
        let (upstream, upstream2, sink) = (free_port()?, free_port()?, free_port()?);
        Ok(Place { root, folder, proxy_core, load_core, upstream, upstream2, sink })
    }

    /// The temporary folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts the program behind.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_upstream(&self) -> Result<Vec<Process>, String> {
        let config = self.render_for(Kind::Http1, "upstream.conf", 0, 0)?;
        let mut nginx = self.pinned(self.load_core, Path::new("nginx"));
        nginx.arg("-c").arg(config);
        let mut iperf = self.pinned(self.load_core, Path::new("iperf3"));
        iperf.args(["-s", "-p", &self.sink.to_string()]);
        let processes = vec![started(nginx)?, started(iperf)?];
        for port in [self.upstream, self.upstream2, self.sink] {
            accepts(port, "the program behind")?;
        }
        Ok(processes)
    }

    /// Starts a proxy, or both of a pair, in its role.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, scenario: &Scenario, peer: Peer, peers: &Peers) -> Result<Running, String> {
        if peer == Peer::Direct {
            let entry = if scenario.kind == Kind::Http2 { self.upstream2 } else { self.upstream };
            return Ok(Running { entry, processes: Vec::new() });
        }
        let (entry, next) = (free_port()?, free_port()?);
        let mut processes = Vec::new();
        let roles: &[(&str, u16)] =
            if scenario.pair { &[("server-", next), ("client-", entry)] } else { &[("", entry)] };
        for (role, port) in roles {
            let command = self.proxy(scenario, peer, peers, role, *port, next)?;
            processes.push(started(command)?);
            accepts(*port, peer.name())?;
        }
        Ok(Running { entry, processes })
    }

    fn proxy(
        &self,
        scenario: &Scenario,
        peer: Peer,
        peers: &Peers,
        role: &str,
        port: u16,
        next: u16,
    ) -> Result<Command, String> {
        let file = |name: &str| format!("{}/{role}{name}", scenario.folder);
        let command = |program: &str, words: &[&str], config: &Path| -> Result<Command, String> {
            let mut command = self.pinned(self.proxy_core, peers.program(program)?);
            command.args(words).arg(config);
            Ok(command)
        };
        match peer {
            Peer::Direct => Err("no proxy has no process".to_owned()),
            Peer::Relay => {
                let mut relay = self.pinned(self.proxy_core, peers.program("xtask")?);
                relay.args(["relay", &port.to_string(), &self.upstream.to_string()]);
                Ok(relay)
            }
            Peer::Tulle => {
                let own = file("tulle.yaml");
                let name = if self.template(&own).exists() { own } else { file("envoy.yaml") };
                command(
                    "tulle",
                    &["--concurrency", "1", "--log-level", "error", "-c"],
                    &self.render(scenario, &name, port, next)?,
                )
            }
            Peer::Envoy => {
                let config = self.render(scenario, &file("envoy.yaml"), port, next)?;
                let words = ["--concurrency", "1", "--use-dynamic-base-id", "-l", "error", "-c"];
                command("envoy", &words, &config)
            }
            Peer::Haproxy => {
                command("haproxy", &["-db", "-f"], &self.render(scenario, &file("haproxy.cfg"), port, next)?)
            }
            Peer::Nginx => {
                command("nginx", &["-c"], &self.render(scenario, &file("nginx.conf"), port, next)?)
            }
        }
    }

    fn pinned(&self, core: usize, program: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string()]).arg(program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        command
    }

    fn template(&self, name: &str) -> PathBuf {
        self.root.join("benches").join(name)
    }

    fn render(&self, scenario: &Scenario, name: &str, listen: u16, next: u16) -> Result<PathBuf, String> {
        self.render_for(scenario.kind, name, listen, next)
    }

    fn render_for(&self, kind: Kind, name: &str, listen: u16, next: u16) -> Result<PathBuf, String> {
        let template = self.template(name);
        let mut text =
            fs::read_to_string(&template).map_err(|error| format!("{}: {error}", template.display()))?;
        let values = [
            ("@LISTEN@", listen.to_string()),
            ("@NEXT@", next.to_string()),
            ("@UPSTREAM@", self.upstream.to_string()),
            ("@UPSTREAM2@", self.upstream2.to_string()),
            // Bulk bytes and requests go through the same files.
            ("@SINK@", if kind == Kind::Bytes { self.sink } else { self.upstream }.to_string()),
            ("@DIR@", self.folder().display().to_string()),
            ("@BODY@", "x".repeat(BODY)),
        ];
        for (key, value) in values {
            text = text.replace(key, &value);
        }
        let path = self.folder().join(name.replace('/', "-"));
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }
}

fn started(mut command: Command) -> Result<Process, String> {
    command.spawn().map(Process).map_err(|error| format!("{command:?}: {error}"))
}

/// Waits until a port takes connections.
fn accepts(port: u16, what: &str) -> Result<(), String> {
    let until = Instant::now() + START;
    while Instant::now() < until {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("{what} takes no connections on port {port} after {START:?}"))
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map(|it| it.port()).map_err(|error| error.to_string())
}

/// A root and two leaves with SPIFFE ids, ECDSA P-256.
fn certificates(folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root_key = KeyPair::generate()?;
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    root.distinguished_name.push(DnType::CommonName, "bench root");
    let certificate = root.self_signed(&root_key)?;
    fs::write(folder.join("ca.pem"), certificate.pem())?;
    let issuer = Issuer::new(root, root_key);
    for role in ["client", "server"] {
        let key = KeyPair::generate()?;
        let name = format!("{role}.bench");
        let mut leaf = CertificateParams::new(vec![name.clone()])?;
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.distinguished_name.push(DnType::CommonName, name);
        leaf.subject_alt_names
            .push(SanType::URI(format!("spiffe://cluster.local/ns/bench/sa/{role}").try_into()?));
        let pem = leaf.signed_by(&key, &issuer)?.pem();
        fs::write(folder.join(format!("{role}.pem")), &pem)?;
        fs::write(folder.join(format!("{role}.key")), key.serialize_pem())?;
        fs::write(folder.join(format!("{role}-both.pem")), format!("{pem}{}", key.serialize_pem()))?;
    }
    Ok(())
}
