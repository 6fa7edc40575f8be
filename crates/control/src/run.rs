//! Starting the control plane: every task in order, then the drain.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::Clock;
use base::clock::SystemClock;
use runtime::{Drain, Supervisor, TaskError, Tasks};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::service::Routes;
use xds::server::AdsService;

use crate::ca::{Authority, plugged};
use crate::csr::{CertificateService, certificate_server};
use crate::files::{self, Access, FileError};
use crate::metrics::{CertificateMetrics, Render};
use crate::options::{CaCommand, Command, LogFormat, Options, Serve, TokenCommand};
use crate::push::{Connections, Debounce, Pusher, XdsMetrics};
use crate::serve::ads::AdsSource;
use crate::serve::grpc::{self, GrpcPort, Limits};
use crate::serve::monitoring::{self, Monitoring};
use crate::serve::observe::Observers;
use crate::serve::{listener, tls};
use crate::source::directory::{self, Settings};
use crate::store::Store;
use crate::token::{self, NewToken};

/// How long the tasks may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);
const ADDRESSES: &str = "addresses.json";
const LAST_GOOD: &str = "last-good";
const LOCK: &str = "tulled.lock";

/// Where the ports are, as `DATA/addresses.json` tells it once `tulled` is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Addresses {
    /// xDS and certificates over TLS.
    pub xds: SocketAddr,
    /// `/metrics`, `/ready`, `/version`, `/debug`.
    pub monitoring: SocketAddr,
    /// xDS and certificates without TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plaintext_xds: Option<SocketAddr>,
}

/// Does what the command line asks for.
///
/// # Errors
/// Whatever stops it, ready to be shown to its user.
pub fn run(options: Options) -> Result<(), TaskError> {
    match (options.command, options.serve) {
        (Some(command), _) => print(&once(command)?),
        (None, Some(serve)) => serve_until_signal(&serve),
        (None, None) => Err("nothing to do; see tulled --help".into()),
    }
}

fn print(text: &str) -> Result<(), TaskError> {
    use std::io::Write;
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// What ends by itself; the text to print.
fn once(command: Command) -> Result<String, TaskError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    match command {
        Command::Token(TokenCommand::Create { data, namespace, service_account, ttl, max_uses }) => {
            let wanted = NewToken { namespace, service_account, lifetime: ttl, max_uses };
            Ok(token::create(&data, &wanted, &existing(&data, clock)?)?.to_string())
        }
        Command::Ca(CaCommand::Init { from, data, trust_domain }) => {
            let authority = match from {
                Some(from) => plugged::plug_in(&from, &data, &trust_domain, clock)?,
                None => Authority::create(&data, &trust_domain, clock)?,
            };
            shown(&authority, &data, LogFormat::Text)
        }
        Command::Ca(CaCommand::Show { data, output }) => shown(&existing(&data, clock)?, &data, output),
    }
}

fn existing(data: &Path, clock: Arc<dyn Clock>) -> Result<Authority, TaskError> {
    if !Authority::exists(data) {
        let place = data.display();
        return Err(format!(
            "{place}: there is no certificate authority here yet; start tulled with --data {place}, or run: tulled ca \
             init --data {place}"
        )
        .into());
    }
    Ok(Authority::load(data, clock)?)
}

fn shown(authority: &Authority, data: &Path, shape: LogFormat) -> Result<String, TaskError> {
    let summary = authority.summary(data);
    Ok(match shape {
        LogFormat::Json => serde_json::to_string_pretty(&summary)?,
        LogFormat::Text => format!(
            "trust domain  {}\ncertificate   {}\npin           {}\nvalid from    {}\nvalid until   {}",
            summary.trust_domain,
            summary.certificate.display(),
            summary.pin,
            summary.not_before,
            summary.not_after
        ),
    })
}

fn serve_until_signal(options: &Serve) -> Result<(), TaskError> {
    let format = match options.log_format {
        LogFormat::Text => runtime::logging::Format::Text,
        LogFormat::Json => runtime::logging::Format::Json,
    };
    runtime::logging::init(&options.log, format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (drain, watch) = Drain::new();
        let supervisor = Supervisor::new(watch);
        let tasks = supervisor.tasks();
        tasks.spawn("signals", async move {
            let signal = runtime::signals::shutdown().await?;
            tracing::info!("{signal}: tulled stops");
            drain.start();
            Ok(())
        });
        let started = start(options, Arc::new(SystemClock), &tasks).await?;
        let result = supervisor.run(GRACE).await;
        // Whoever reads it next must not find the addresses of a process that is gone.
        let _ = std::fs::remove_file(options.data.join(ADDRESSES));
        drop(started);
        result
    })
}

/// A control plane that runs, until its tasks' drain. Dropping it lets another one use the data directory.
#[derive(Debug)]
pub struct Started {
    /// Where its ports are.
    pub addresses: Addresses,
    /// What serves.
    pub store: Arc<Store>,
    _lock: File,
}

/// Starts the control plane: identity, ports, source, in this order.
///
/// # Errors
/// A directory or a port that cannot be used, a root that cannot be loaded; each names the place and the remedy.
pub async fn start(options: &Serve, clock: Arc<dyn Clock>, tasks: &Tasks) -> Result<Started, TaskError> {
    if !options.config.is_dir() {
        let place = options.config.display();
        return Err(
            format!("--config {place}: there is no such directory; make it, or name another one").into()
        );
    }
    files::data_directory(&options.data)?;
    let lock = lock(&options.data)?;
    // A file of an earlier process must not be taken for ours.
    let _ = std::fs::remove_file(options.data.join(ADDRESSES));
    let authority = Arc::new(authority(options, clock)?);
    let store = Store::new();
    let addresses = ports(options, &authority, &store, tasks).await?;
    let mut settings = Settings::new(
        options.config.clone(),
        options.default_namespace.clone(),
        authority.trust_domain().to_owned(),
    );
    settings.memory = Some(options.data.join(LAST_GOOD));
    directory::start(settings, store.clone(), tasks)?;
    tasks.job("addresses", tell(options.data.join(ADDRESSES), addresses, store.clone(), tasks.clone()));
    Ok(Started { addresses, store, _lock: lock })
}

fn lock(data: &Path) -> Result<File, FileError> {
    let path = data.join(LOCK);
    let file = File::create(&path).map_err(|error| FileError::new(&path, error.to_string()))?;
    file.try_lock().map_err(|_| {
        FileError::new(
            &path,
            "another tulled uses this data directory; stop it, or use another --data directory",
        )
    })?;
    Ok(file)
}

/// The root of the data directory; a new one for the mesh's trust domain where there is none.
fn authority(options: &Serve, clock: Arc<dyn Clock>) -> Result<Authority, TaskError> {
    match directory::read_mesh(&options.config) {
        Ok(mesh) => Ok(Authority::load_or_create(&options.data, mesh.trust_domain(), clock)?),
        // The trust domain is known from before; what is wrong is told when the source reads the file.
        Err(_) if Authority::exists(&options.data) => Ok(Authority::load(&options.data, clock)?),
        Err(problems) => Err(format!("the trust domain of the new mesh is not known:\n{problems}").into()),
    }
}

/// The services of the gRPC ports, and what the monitoring port shows of them.
struct Services {
    routes: Routes,
    connections: Arc<Connections>,
    metrics: Vec<Arc<dyn Render>>,
    observers: Arc<Observers>,
}

fn services(options: &Serve, authority: &Arc<Authority>, store: &Arc<Store>, tasks: &Tasks) -> Services {
    let certificate_metrics = Arc::new(CertificateMetrics::default());
    let tokens = token::Tokens::new(options.data.clone(), authority.clone());
    let certificates = CertificateService::new(authority.clone(), tokens, certificate_metrics.clone());
    let pusher = Arc::new(Pusher::new(Debounce::default()));
    let connections = Arc::new(Connections::default());
    let xds_metrics = Arc::new(XdsMetrics::new(connections.clone()));
    pusher.count_in(xds_metrics.clone());
    let clock = authority.clock().clone();
    let source = Arc::new(AdsSource::new(pusher.clone(), connections.clone(), xds_metrics.clone(), clock));
    let ads = AdsService::new(source, xds::server::Limits::default(), tasks.drain());
    let (worlds, drain) = (store.clone(), tasks.drain());
    tasks.spawn("pusher", async move { pusher.run(worlds, drain).await });
    let observers = Observers::new(tasks.clone());
    let routes = Routes::new(certificate_server(certificates))
        .add_service(ads.into_server())
        .add_service(observers.server());
    Services { routes, connections, metrics: vec![certificate_metrics, xds_metrics], observers }
}

async fn ports(
    options: &Serve,
    authority: &Arc<Authority>,
    store: &Arc<Store>,
    tasks: &Tasks,
) -> Result<Addresses, TaskError> {
    let acceptor = TlsAcceptor::from(tls::server_config(authority.clone())?);
    let encrypted = listener::bind("xDS port (--xds-address)", options.xds_address).await?;
    let shown = listener::bind("monitoring port (--monitoring-address)", options.monitoring_address).await?;
    let plain = match options.plaintext_xds_address {
        Some(address) => Some(listener::bind("plaintext port (--plaintext-xds-address)", address).await?),
        None => None,
    };
    let addresses = Addresses {
        xds: encrypted.local_addr()?,
        monitoring: shown.local_addr()?,
        plaintext_xds: plain.as_ref().map(TcpListener::local_addr).transpose()?,
    };
    let services = services(options, authority, store, tasks);
    let port = |tls| GrpcPort {
        routes: services.routes.clone(),
        tls,
        trust_domain: authority.trust_domain().to_owned(),
        clock: authority.clock().clone(),
        tasks: tasks.clone(),
        limits: Limits::default(),
    };
    accept_grpc("xDS port", "xDS connection", encrypted, port(Some(acceptor)), tasks);
    if let Some(plain) = plain {
        accept_grpc("plaintext xDS port", "plaintext xDS connection", plain, port(None), tasks);
    }
    let connections = services.connections;
    let monitoring = Arc::new(Monitoring {
        store: store.clone(),
        metrics: services.metrics,
        connections,
        observers: services.observers,
        root_ends: authority.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
        tasks: tasks.clone(),
    });
    let serve = move |stream, address| monitoring.clone().connection(stream, address);
    let accepting =
        listener::accept("monitoring connection", shown, monitoring::MOST_CONNECTIONS, tasks.clone(), serve);
    tasks.spawn("monitoring port", accepting);
    Ok(addresses)
}

fn accept_grpc(task: &'static str, job: &'static str, listener: TcpListener, port: GrpcPort, tasks: &Tasks) {
    let port = Arc::new(port);
    let serve = move |stream, address| port.clone().connection(stream, address);
    tasks.spawn(task, listener::accept(job, listener, grpc::MOST_CONNECTIONS, tasks.clone(), serve));
}

/// Writes the addresses once the configuration has been read, so that whoever sees the file can go on.
async fn tell(path: std::path::PathBuf, addresses: Addresses, store: Arc<Store>, tasks: Tasks) {
    let mut watch = store.watch();
    let drain = tasks.drain();
    while !store.is_synced() {
        tokio::select! {
            () = drain.started() => return,
            changed = watch.changed() => if changed.is_err() { return },
        }
    }
    let written = serde_json::to_vec_pretty(&addresses)
        .map_err(|error| FileError::new(&path, error.to_string()))
        .and_then(|bytes| files::write(&path, &bytes, Access::Public));
    match written {
        Ok(()) => tracing::info!(xds = %addresses.xds, monitoring = %addresses.monitoring, "tulled is ready"),
        Err(error) => tracing::error!("the addresses of the ports could not be told: {error}"),
    }
}

#[cfg(test)]
mod tests;
