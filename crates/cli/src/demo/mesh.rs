//! The running mesh of the demo: control plane, five sidecars, five programs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use runtime::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::leaves::Leaves;
use super::levers::Burst;
use super::picture::Picture;
use super::place::Place;
use super::processes::Processes;
use crate::Error;
use crate::bootstrap::{ADMIN_PORT, Sidecar};
use crate::client::{self, Connection};
use crate::echo::burst::Tally;
use crate::siblings;

/// How long a part of the mesh may take to come up, or an edit to take effect.
pub const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// A workload of the example.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Its name.
    pub name: &'static str,
    namespace: &'static str,
    account: &'static str,
    app: &'static str,
    version: &'static str,
    /// Last octet of its addresses.
    pub host: u8,
}

/// The workloads, the callers first.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "frontend",
        namespace: "production",
        account: "frontend",
        app: "frontend",
        version: "v1",
        host: 10,
    },
    Workload {
        name: "payment-stable-1",
        namespace: "production",
        account: "payment",
        app: "payment",
        version: "stable",
        host: 21,
    },
    Workload {
        name: "payment-stable-2",
        namespace: "production",
        account: "payment",
        app: "payment",
        version: "stable",
        host: 22,
    },
    Workload {
        name: "payment-canary-1",
        namespace: "production",
        account: "payment",
        app: "payment",
        version: "canary",
        host: 31,
    },
    Workload {
        name: "stranger",
        namespace: "outside",
        account: "stranger",
        app: "stranger",
        version: "v1",
        host: 66,
    },
];

/// How long certificates live, so that they change while the demo runs.
pub const LEAF_SECONDS: u32 = 24;
/// The workload whose certificate lives for as long as usual.
pub const STEADY: &str = "stranger";

/// Who sends a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// The frontend, by the Service's loopback address.
    Frontend,
    /// The frontend, through its sidecar's HTTP proxy.
    FrontendByProxy,
    /// The stranger, through its sidecar's HTTP proxy.
    Stranger,
}

/// What came back from plain bytes sent to a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plaintext {
    /// The connection was closed without a byte.
    Refused,
    /// An HTTP answer.
    Answered(String),
}

/// The mesh and how to reach its parts.
pub struct Mesh {
    /// Folder and addresses.
    pub place: Place,
    /// Processes.
    pub processes: Processes,
    control: SocketAddr,
    /// `tulled`'s monitoring address.
    pub monitoring: SocketAddr,
    /// The certificates that were seen, and the requests that had to succeed meanwhile.
    pub leaves: Leaves,
    tasks: Tasks,
}

impl Mesh {
    /// Starts everything and waits until the frontend can call the payment service.
    ///
    /// # Errors
    /// A part did not come up; its name and the end of its log.
    pub async fn start(place: Place, tasks: &Tasks, picture: &mut Picture) -> Result<Mesh, Error> {
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let processes = Processes::new(place.logs());
        let (leaves, tasks) = (Leaves::default(), tasks.clone());
        let mut mesh = Mesh { place, processes, control: unknown, monitoring: unknown, leaves, tasks };
        picture.step("starting the control plane");
        mesh.start_control().await?;
        for workload in WORKLOADS {
            picture.step(&format!("starting {} and its sidecar", workload.name));
            mesh.start_program(workload)?;
            mesh.start_sidecar(workload)?;
        }
        picture.step("waiting for five sidecars to have an identity and a configuration");
        for workload in WORKLOADS {
            mesh.ready(workload).await?;
        }
        picture.step("waiting for the first answer");
        mesh.until("the frontend can call the payment service", async |mesh| {
            Ok(mesh.burst(Caller::Frontend, 1, None).await?.statuses.contains_key(&200))
        })
        .await?;
        mesh.leaves.watch(&mesh);
        Ok(mesh)
    }

    /// Starts the control plane; once more on the addresses that it had.
    ///
    /// # Errors
    /// It did not say where it listens.
    pub async fn start_control(&mut self) -> Result<(), Error> {
        let file = self.place.data().join("addresses.json");
        // What an earlier one has left says nothing about this one.
        std::fs::remove_file(&file).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let words = [
            "--config",
            &self.place.config().display().to_string(),
            "--data",
            &self.place.data().display().to_string(),
            "--xds-address",
            &self.control.to_string(),
            "--monitoring-address",
            &self.monitoring.to_string(),
        ]
        .map(str::to_owned);
        self.processes.start("tulled", &siblings::find("tulled")?, &words)?;
        let started = Instant::now();
        let addresses: BTreeMap<String, serde_json::Value> = loop {
            self.processes.all_alive()?;
            if let Ok(text) = std::fs::read(&file) {
                break serde_json::from_slice(&text)?;
            }
            if started.elapsed() > PATIENCE {
                return Err(format!(
                    "tulled did not write {} within {} s",
                    file.display(),
                    PATIENCE.as_secs()
                )
                .into());
            }
            tokio::time::sleep(PAUSE).await;
        };
        let address = |name: &str| -> Result<SocketAddr, Error> {
            let text = addresses.get(name).and_then(|value| value.as_str());
            Ok(text.ok_or_else(|| format!("{}: no \"{name}\"", file.display()))?.parse()?)
        };
        self.control = address("xds")?;
        self.monitoring = address("monitoring")?;
        Ok(())
    }

    /// Starts a workload's program.
    ///
    /// # Errors
    /// As [`Processes::start`].
    pub fn start_program(&mut self, workload: &Workload) -> Result<(), Error> {
        let mut words = vec![
            "echo".to_owned(),
            "--listen".to_owned(),
            self.place.program(workload.host).to_string(),
            "--name".to_owned(),
            workload.app.to_owned(),
            "--version".to_owned(),
            workload.version.to_owned(),
            "--record".to_owned(),
            self.place.record(workload.name).display().to_string(),
        ];
        if workload.app != "payment" {
            let host = if workload.namespace == "production" {
                "payment-service"
            } else {
                "payment-service.production"
            };
            words.extend([
                "--call".to_owned(),
                format!("http://{host}:{}/pay", self.place.port),
                "--call-address".to_owned(),
                self.place.service(1).to_string(),
                "--proxy".to_owned(),
                format!("http://{}:15080", self.place.workload(workload.host)),
            ]);
        }
        self.processes.start(&format!("{}-program", workload.name), &std::env::current_exe()?, &words)
    }

    /// A fresh join token for a workload's own identity.
    ///
    /// # Errors
    /// As [`Mesh::token`].
    pub fn token_of(&self, workload: &Workload) -> Result<String, Error> {
        self.token(workload.namespace, workload.account)
    }

    fn start_sidecar(&mut self, workload: &Workload) -> Result<(), Error> {
        let token = self.token_of(workload)?;
        self.start_sidecar_as(workload, workload.name, &token)
    }

    /// Starts a sidecar that says it is `workload`, named `process`, with a join token that may be another's.
    ///
    /// # Errors
    /// Its folder or process cannot be made.
    pub fn start_sidecar_as(&mut self, workload: &Workload, process: &str, token: &str) -> Result<(), Error> {
        let folder = self.place.sidecar(process);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let token_file = folder.join("token");
        write_secret(&token_file, token)?;
        let sidecar = Sidecar {
            namespace: workload.namespace.to_owned(),
            workload: workload.name.to_owned(),
            service_account: workload.account.to_owned(),
            labels: [("app", workload.app), ("version", workload.version)]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            address: self.place.workload(workload.host),
            app_address: self.place.program(workload.host).ip(),
            bind_vips: workload.name == "frontend",
            trust_domain: "cluster.local".to_owned(),
            control: self.control,
            token_file,
            state_directory: folder.join("state"),
            app_metrics: None,
            lifetime_seconds: (workload.name != STEADY).then_some(LEAF_SECONDS),
        };
        let file = folder.join("bootstrap.json");
        std::fs::write(&file, serde_json::to_string_pretty(&sidecar.bootstrap())?)?;
        self.run_sidecar(process)
    }

    /// Starts a sidecar from the bootstrap that it had before.
    ///
    /// # Errors
    /// Its process cannot be made.
    pub fn run_sidecar(&mut self, process: &str) -> Result<(), Error> {
        let file = self.place.sidecar(process).join("bootstrap.json").display().to_string();
        // Nobody outside has to learn that the demo's sidecars go.
        let words = ["-c", &file, "--concurrency", "1", "--minimum-drain-time-s", "0"].map(str::to_owned);
        self.processes.start(process, &siblings::find("tulle-proxy")?, &words)
    }

    /// What starts tasks, and opens connections.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// A fresh join token for an identity.
    ///
    /// # Errors
    /// `tulled token create` failed; what it printed.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String, Error> {
        let output = std::process::Command::new(siblings::find("tulled")?)
            .args(["token", "create", "--namespace", namespace, "--service-account", account, "--data"])
            .arg(self.place.data())
            .output()?;
        if !output.status.success() {
            return Err(
                format!("tulled token create: {}", String::from_utf8_lossy(&output.stderr).trim()).into()
            );
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Whether a workload's sidecar says that it is ready.
    pub async fn is_ready(&self, workload: &Workload) -> bool {
        let admin = SocketAddr::new(self.place.workload(workload.host), ADMIN_PORT);
        client::get(admin, "/ready", &self.tasks).await.is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until a workload's sidecar is ready.
    ///
    /// # Errors
    /// As [`Mesh::until`].
    pub async fn ready(&mut self, workload: &Workload) -> Result<(), Error> {
        self.until(&format!("the sidecar of {} is ready", workload.name), async |mesh| {
            Ok(mesh.is_ready(workload).await)
        })
        .await
    }

    /// Asks again and again until `state` holds. An error counts as "not yet".
    ///
    /// # Errors
    /// It did not hold within [`PATIENCE`], or a process has ended meanwhile.
    pub async fn until<F>(&mut self, what: &str, state: F) -> Result<(), Error>
    where
        F: AsyncFn(&Mesh) -> Result<bool, Error>,
    {
        let started = Instant::now();
        loop {
            self.processes.all_alive()?;
            let last = match state(self).await {
                Ok(true) => return Ok(()),
                Ok(false) => String::new(),
                Err(error) => format!(" ({error})"),
            };
            if started.elapsed() > PATIENCE {
                let folder = self.place.logs();
                return Err(format!(
                    "not within {} s: {what}{last}; logs: {}",
                    PATIENCE.as_secs(),
                    folder.display()
                )
                .into());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Has a program call the payment service `count` times.
    ///
    /// # Errors
    /// The program does not answer. Calls that fail are in the tally.
    pub async fn burst(&self, caller: Caller, count: u64, header: Option<&str>) -> Result<Tally, Error> {
        self.watched_burst(caller, count, header, &mut |_| {}).await
    }

    /// Like [`Mesh::burst`], and shows every line of the tally to `watch`.
    ///
    /// # Errors
    /// As [`Mesh::burst`].
    pub async fn watched_burst(
        &self,
        caller: Caller,
        count: u64,
        header: Option<&str>,
        watch: &mut dyn FnMut(&Tally),
    ) -> Result<Tally, Error> {
        self.watched(caller, Burst { count, concurrency: 16, headers: header.as_slice() }, watch).await
    }

    /// Has a program send a burst, and shows every line of the tally to `watch`.
    ///
    /// # Errors
    /// As [`Mesh::burst`].
    pub async fn watched(
        &self,
        caller: Caller,
        burst: Burst<'_>,
        watch: &mut dyn FnMut(&Tally),
    ) -> Result<Tally, Error> {
        let (host, via) = match caller {
            Caller::Frontend => (10, "vip"),
            Caller::FrontendByProxy => (10, "proxy"),
            Caller::Stranger => (66, "proxy"),
        };
        let address = self.place.program(host);
        let Burst { count, concurrency, headers } = burst;
        let headers: String = headers.iter().map(|header| format!("&header={header}")).collect();
        let target = format!("/burst?count={count}&concurrency={concurrency}&via={via}{headers}");
        let mut connection = Connection::open(address, &self.tasks).await?;
        let answer = connection.send(client::request("GET", &target, &address.to_string(), &[])?).await?;
        if answer.status() != 200 {
            return Err(format!("{target}: {}", answer.status()).into());
        }
        let (mut body, mut text, mut last) = (answer.into_body(), Vec::new(), Tally::default());
        while let Some(frame) = body.frame().await {
            text.extend_from_slice(&frame?.into_data().unwrap_or_default());
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                last = serde_json::from_slice(&line)?;
                watch(&last);
            }
        }
        if last.done { Ok(last) } else { Err("the burst broke off".into()) }
    }

    /// Sends a plain HTTP request to a workload's sidecar, past any sidecar of a caller.
    ///
    /// # Errors
    /// The sidecar does not take connections at all.
    pub async fn plaintext(&self, workload: &Workload) -> Result<Plaintext, Error> {
        let address = SocketAddr::new(self.place.workload(workload.host), self.place.port);
        let mut stream = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        let request = format!("GET /plain HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        // A refusal may come as a reset while the request is written; what was read is what counts.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.take(1 << 16).read_to_end(&mut answer)).await;
        read.map_err(|_| format!("{address}: neither an answer nor an end within {} s", PATIENCE.as_secs()))?
            .ok();
        Ok(match answer.is_empty() {
            true => Plaintext::Refused,
            false => Plaintext::Answered(String::from_utf8_lossy(&answer).into_owned()),
        })
    }

    /// A workload's metrics page.
    ///
    /// # Errors
    /// The admin port does not answer.
    pub async fn metrics(&self, workload: &Workload) -> Result<String, Error> {
        let admin = SocketAddr::new(self.place.workload(workload.host), ADMIN_PORT);
        Ok(client::get(admin, "/stats/prometheus", &self.tasks).await?.text())
    }

    /// Stops everything.
    pub async fn stop(&mut self) {
        self.processes.stop_all().await;
    }
}

/// The workload of that name.
pub fn workload(name: &str) -> &'static Workload {
    WORKLOADS.iter().find(|workload| workload.name == name).unwrap_or(&WORKLOADS[0])
}

fn write_secret(path: &PathBuf, text: &str) -> Result<(), Error> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
