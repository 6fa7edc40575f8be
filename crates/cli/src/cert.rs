//! `tulle cert`: the certificates of a workload whose proxy is not `tulle-proxy`. For programs that read files
//! (`--out`) and for Envoy (`--sds`). The private key is made here and goes to the folder or the socket, nowhere else.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use protos::envoy::envoy::service::secret::v3::secret_discovery_service_server::SecretDiscoveryServiceServer;
use runtime::{Drain, Supervisor};
use rustls::crypto::CryptoProvider;
use time::format_description::well_known::Rfc3339;
use tls::JoinToken;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;

use crate::Error;

pub mod folder;
pub mod identity;
pub mod request;
pub mod secrets;
pub mod socket;

use folder::Folder;
use identity::Identity;
use request::{Credential, Service};

/// Back-off between failed attempts: doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest sleep without a look at the wall clock, which may jump.
const LOOK: Duration = Duration::from_secs(30);
/// How long open streams may take at a stop.
const GRACE: Duration = Duration::from_secs(2);
/// The largest request on the socket, in bytes: an Envoy's node with all its extensions is some 50 KiB.
const MAX_REQUEST: usize = 1 << 20;

/// Flags of `tulle cert`.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("target").required(true).multiple(true).args(["out", "sds"])))]
pub struct CertArguments {
    /// `host:port` of tulled's TLS port
    #[arg(long, default_value = "127.0.0.1:15012")]
    control: String,
    /// File with the join token; not needed while the certificate in --out is valid
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Trust domain of the mesh
    #[arg(long, default_value = "cluster.local")]
    trust_domain: String,
    /// Folder to write key.pem (0600), cert-chain.pem and root-cert.pem into
    #[arg(long)]
    out: Option<PathBuf>,
    /// Unix socket (0600) on which Envoy gets the secrets `default` and `ROOTCA`; stays and renews
    #[arg(long)]
    sds: Option<PathBuf>,
    /// Stay, and renew the files at half of the certificate's life
    #[arg(long)]
    watch: bool,
    /// Lifetime to ask for, in seconds; the control plane may shorten it
    #[arg(long, default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    lifetime: u64,
}

/// Gets the certificate, and keeps it current where that was asked for.
///
/// # Errors
/// The folder or socket cannot be used; without `--watch` and `--sds` also that no certificate was issued.
pub fn run(arguments: CertArguments) -> Result<ExitCode, Error> {
    runtime::logging::init("info", runtime::logging::Format::Text)?;
    runtime::thread::block_on_local(keep(arguments))??;
    Ok(ExitCode::SUCCESS)
}

async fn keep(arguments: CertArguments) -> Result<(), Error> {
    let folder = arguments.out.as_deref().map(Folder::open).transpose()?;
    let service = Service {
        control: arguments.control,
        trust_domain: arguments.trust_domain,
        lifetime: Duration::from_secs(arguments.lifetime),
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut keeper = Keeper { service, provider, folder, token_file: arguments.token_file, own: None };
    keeper.load()?;
    if !arguments.watch && arguments.sds.is_none() {
        keeper.renew().await?;
        return Ok(());
    }
    let (drain, draining) = Drain::new();
    let supervisor = Supervisor::new(draining);
    let tasks = supervisor.tasks();
    let (publish, current) = watch::channel(keeper.own.clone());
    if let Some(path) = arguments.sds {
        let connections = UnixListenerStream::new(socket::listen(&path)?);
        let stop = tasks.drain();
        tasks.spawn("sds", async move {
            let service = SecretDiscoveryServiceServer::new(secrets::Secrets(current))
                .max_decoding_message_size(MAX_REQUEST);
            let server = tonic::transport::Server::builder().add_service(service);
            let stop = async move { stop.started().await };
            Ok(server.serve_with_incoming_shutdown(connections, stop).await?)
        });
    }
    tasks.spawn_local("signals", async move {
        runtime::signals::shutdown().await?;
        drain.start();
        Ok(())
    });
    let stop = tasks.drain();
    tasks.spawn_local("renewal", async move {
        tokio::select! {
            () = stop.started() => {}
            () = keeper.keep(publish) => {}
        }
        Ok(())
    });
    supervisor.run(GRACE).await
}

/// Who keeps the identity current.
struct Keeper {
    service: Service,
    provider: Arc<CryptoProvider>,
    folder: Option<Folder>,
    token_file: Option<PathBuf>,
    own: Option<Arc<Identity>>,
}

impl Keeper {
    /// Takes what the folder has, when it is still good.
    fn load(&mut self) -> Result<(), Error> {
        let Some(parts) = self.folder.as_ref().map(Folder::load).transpose()?.flatten() else {
            return Ok(());
        };
        match Identity::check(&self.provider, parts, &self.service.trust_domain, SystemTime::now()) {
            Ok(identity) => self.own = Some(Arc::new(identity)),
            Err(reason) => tracing::warn!("the saved identity is not used: {reason}"),
        }
        Ok(())
    }

    /// Has a new key signed and saves it: with the own certificate while it is valid, else with the join token.
    async fn renew(&mut self) -> Result<(), Error> {
        let now = SystemTime::now();
        let mut failure = None;
        if let Some(own) = self.own.as_deref().filter(|own| now < own.not_after) {
            match request::request(&self.service, &Credential::Own(own), &self.provider, now).await {
                Ok(identity) => return self.take(identity),
                Err(error) => failure = Some(error),
            }
        }
        let Some(file) = &self.token_file else {
            return Err(failure
                .unwrap_or_else(|| {
                    "there is no valid certificate and no join token (--token-file); make one with `tulle token create`"
                        .to_owned()
                })
                .into());
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("join token: {}: {error}", file.display()))?;
        let token =
            JoinToken::parse(&text).map_err(|reason| format!("join token: {}: {reason}", file.display()))?;
        let credential = Credential::Token(&token);
        let identity =
            request::request(&self.service, &credential, &self.provider, now).await.map_err(|error| {
                match failure {
                    Some(first) => format!("{first}; with the join token: {error}"),
                    None => error,
                }
            })?;
        self.take(identity)
    }

    fn take(&mut self, identity: Identity) -> Result<(), Error> {
        if let Some(folder) = &self.folder {
            folder.save(&identity)?;
        }
        let until = time::OffsetDateTime::from(identity.not_after).format(&Rfc3339)?;
        tracing::info!(identity = %identity.spiffe, until, "certificate issued");
        self.own = Some(Arc::new(identity));
        Ok(())
    }

    /// Renews at half life for ever, and publishes every renewal.
    async fn keep(mut self, publish: watch::Sender<Option<Arc<Identity>>>) {
        let mut failures = 0_u32;
        let mut due = SystemTime::now() + self.rest();
        loop {
            while let Ok(left) = due.duration_since(SystemTime::now()) {
                if left.is_zero() {
                    break;
                }
                tokio::time::sleep(left.min(LOOK)).await;
            }
            let pause = match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    publish.send_replace(self.own.clone());
                    self.rest()
                }
                Err(error) => {
                    let (first, last) = BACK_OFF;
                    let pause = first
                        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
                        .min(last)
                        .mul_f64(0.75 + 0.5 * random_fraction());
                    failures = failures.saturating_add(1);
                    tracing::warn!(retry_in_ms = pause.as_millis() as u64, "no certificate: {error}");
                    pause
                }
            };
            due = SystemTime::now() + pause;
        }
    }

    /// Until the next renewal is due.
    fn rest(&self) -> Duration {
        self.own.as_ref().map_or(Duration::ZERO, |own| own.renewal(SystemTime::now(), random_fraction()))
    }
}

/// A number in 0..1; 0.5 when the system has no randomness to give.
fn random_fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}
