//! The task that keeps the workload's identity: loads it, asks for it, renews it at half its life.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::tls::error::unix;
use arc_swap::ArcSwap;
use base::{Clock, Spiffe};
use runtime::TaskError;

use super::request::{Credential, RequestError, Service, request};
use super::store::{Store, StoreError};
use crate::tls::secrets::{SecretSet, Secrets};
use crate::tls::{JoinToken, clock_text};

/// Back-off between failed attempts: doubles from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The longest sleep without a look at the wall clock, which may jump.
const LOOK: Duration = Duration::from_secs(60);

/// What the identity task needs to know: the bootstrap's `TULLE_IDENTITY`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The certificate service.
    pub service: Service,
    /// File with the join token; read again for every attempt.
    pub token_file: Option<PathBuf>,
    /// Where the identity is kept between starts.
    pub state_directory: PathBuf,
}

/// What is known about the renewal, for `/ready?verbose`, `/certs`, `/server_info` and metrics.
#[derive(Debug, Default)]
pub struct Status {
    renewal: ArcSwap<Renewal>,
}

/// State of the renewal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Renewal {
    /// Why the last attempt failed, or the saved identity was not used; `None` when all is well.
    pub failure: Option<String>,
    /// Attempts that failed since the last certificate.
    pub failures: u32,
    /// Attempts that failed since the start.
    pub failures_in_total: u64,
    /// Certificates since the start.
    pub issued: u64,
    /// When the next attempt begins.
    pub next: Option<SystemTime>,
    /// How long the attempt that failed last makes the next one wait; `None` when all is well.
    pub back_off: Option<Duration>,
}

impl Status {
    /// Why there is no identity, or why the last renewal failed; `None` when all is well.
    pub fn failure(&self) -> Option<String> {
        self.renewal.load().failure.clone()
    }

    /// Everything that is known.
    pub fn renewal(&self) -> Arc<Renewal> {
        self.renewal.load_full()
    }

    fn change(&self, change: impl FnOnce(&mut Renewal)) {
        let mut renewal = Renewal::clone(&self.renewal.load());
        change(&mut renewal);
        self.renewal.store(Arc::new(renewal));
    }
}

/// Keeps one workload's identity current.
pub struct Keeper {
    options: Options,
    store: Arc<Store>,
    secrets: Arc<Secrets>,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
}

impl Keeper {
    /// Opens the state directory and takes the identity in it into use, when it is still good.
    ///
    /// # Errors
    /// The state directory cannot be used. An identity that cannot be used is logged.
    pub fn open(
        options: Options,
        secrets: Arc<Secrets>,
        status: Arc<Status>,
        clock: Arc<dyn Clock>,
    ) -> Result<Keeper, StoreError> {
        let store = Arc::new(Store::open(&options.state_directory)?);
        let keeper = Keeper { options, store, secrets, status, clock };
        match keeper.load() {
            Ok(None) => {}
            Ok(Some(spiffe)) => {
                tracing::info!(identity = %spiffe, "identity loaded from the state directory");
            }
            Err(reason) => {
                tracing::warn!("the saved identity is not used: {reason}");
                keeper.status.change(|renewal| renewal.failure = Some(reason));
            }
        }
        Ok(keeper)
    }

    /// The state directory.
    pub fn store(&self) -> Arc<Store> {
        self.store.clone()
    }

    fn load(&self) -> Result<Option<Spiffe>, String> {
        let Some(loaded) = self.store.load().map_err(|error| error.to_string())? else { return Ok(None) };
        let now = self.clock.now();
        let expected = self.options.service.expected.as_ref();
        let checked = loaded.check(self.secrets.provider(), expected, now)?;
        let installed = self.secrets.install(checked.key, loaded.roots.clone(), now);
        installed.map_err(|error| error.to_string())?;
        Ok(Some(checked.spiffe))
    }

    /// Asks for certificates for as long as the process lives: at once when there is none, else at half of what is left
    /// of the current one's life; again and again, ever more seldom, while that fails.
    ///
    /// # Errors
    /// A certificate was issued and cannot be used. Everything else is retried.
    pub async fn keep(self) -> Result<(), TaskError> {
        let Keeper { options, store, secrets, status, clock } = self;
        let mut refused = false;
        let mut next = secrets.current().map_or(clock.now(), |own| renewal(&own, clock.now()));
        loop {
            status.change(|renewal| renewal.next = Some(next));
            wait_until(next, &*clock).await;
            match attempt(&options, &secrets, refused, clock.now()).await {
                Ok((material, checked)) => {
                    // Saved first: what is sealed with the old key must open with the new one.
                    if let Err(error) = store.save(&material) {
                        tracing::error!("the new identity is in use but could not be saved: {error}");
                    }
                    secrets.install(checked.key, material.roots, clock.now())?;
                    let until = clock_text(unix(checked.own.not_after));
                    tracing::info!(identity = %checked.spiffe, until, "identity issued");
                    refused = false;
                    status.change(|renewal| {
                        (renewal.failure, renewal.failures, renewal.back_off) = (None, 0, None);
                        renewal.issued += 1;
                    });
                    next = secrets.current().map_or(clock.now(), |own| renewal(&own, clock.now()));
                }
                Err(error) => {
                    refused = error.is_refusal() && !refused;
                    let failures = status.renewal().failures.saturating_add(1);
                    let pause = back_off(failures - 1);
                    let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                    tracing::warn!(attempt = failures, retry_in_ms, "no certificate: {error}");
                    status.change(|renewal| {
                        (renewal.failure, renewal.failures) = (Some(error.to_string()), failures);
                        renewal.back_off = Some(pause);
                        renewal.failures_in_total += 1;
                    });
                    next = clock.now() + pause;
                }
            }
        }
    }
}

async fn attempt(
    options: &Options,
    secrets: &Secrets,
    prefer_token: bool,
    now: SystemTime,
) -> Result<(super::material::Material, super::material::Checked), RequestError> {
    let own = secrets.current();
    let valid = own.as_ref().filter(|own| now < own.own.not_after);
    if let Some(own) = valid.filter(|_| !(prefer_token && options.token_file.is_some())) {
        return request(&options.service, Credential::Certificate(own), secrets, now).await;
    }
    let Some(file) = &options.token_file else {
        return Err(RequestError::Local(match &own {
            Some(own) => format!(
                "the own certificate expired at {} (this machine's clock says {}), and there is no join token; \
                 make one with `tulle token create`",
                clock_text(unix(own.own.not_after)),
                clock_text(unix(now)),
            ),
            None => {
                "there is no identity in the state directory and no join token (TULLE_IDENTITY.token_file)"
                    .to_owned()
            }
        }));
    };
    let text = crate::tls::pem::read_file(file)
        .map_err(|error| RequestError::Local(format!("join token: {error}")))?;
    let token = JoinToken::parse(&String::from_utf8_lossy(&text))
        .map_err(|reason| RequestError::Local(format!("join token: {}: {reason}", file.display())))?;
    request(&options.service, Credential::Token(&token), secrets, now).await
}

/// Half of what is left, give or take a tenth, so that workloads that started together do not renew together.
fn renewal(own: &SecretSet, now: SystemTime) -> SystemTime {
    let left = own.own.not_after.duration_since(now).unwrap_or_default();
    now + left.mul_f64(0.45 + 0.10 * random_fraction())
}

fn back_off(failures: u32) -> Duration {
    let (first, last) = BACK_OFF;
    first
        .saturating_mul(2_u32.saturating_pow(failures.min(16)))
        .min(last)
        .mul_f64(0.75 + 0.5 * random_fraction())
}

/// A number in 0..1; 0.5 when the system has no randomness to give.
fn random_fraction() -> f64 {
    let mut bytes = [0_u8; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0),
        Err(_) => 0.5,
    }
}

async fn wait_until(time: SystemTime, clock: &dyn Clock) {
    while let Ok(left) = time.duration_since(clock.now()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
