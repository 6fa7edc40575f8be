//! The task that keeps the workload's identity: loads it, asks for it, renews it at half its life.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::tls::error::unix;
use arc_swap::ArcSwapOption;
use base::Clock;
use runtime::TaskError;

use super::request::{Credential, RequestError, Service, request};
use super::store::Store;
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

/// What the last attempt said, for `/ready` and `/certs`.
#[derive(Debug, Default)]
pub struct Status {
    failure: ArcSwapOption<String>,
}

impl Status {
    /// Why there is no identity, or why the last renewal failed; `None` when all is well.
    pub fn failure(&self) -> Option<String> {
        self.failure.load().as_deref().cloned()
    }

    fn set(&self, failure: Option<String>) {
        self.failure.store(failure.map(Arc::new));
    }
}

/// Keeps the identity in `secrets` current for as long as the process lives.
///
/// # Errors
/// The state directory cannot be used. Everything else is retried.
pub async fn keep(
    options: Options,
    secrets: Arc<Secrets>,
    status: Arc<Status>,
    clock: Arc<dyn Clock>,
) -> Result<(), TaskError> {
    let store = Store::open(&options.state_directory)?;
    load(&store, &options, &secrets, &*clock);
    let mut failures = 0_u32;
    let mut refused = false;
    let mut renew_at = secrets.current().map_or(clock.now(), |own| renewal(&own, clock.now()));
    loop {
        wait_until(renew_at, &*clock).await;
        match attempt(&options, &secrets, refused, clock.now()).await {
            Ok((material, checked)) => {
                secrets.install(checked.key, material.roots.clone(), clock.now())?;
                if let Err(error) = store.save(&material) {
                    tracing::error!("the new identity is in use but could not be saved: {error}");
                }
                let until = clock_text(unix(checked.own.not_after));
                tracing::info!(identity = %checked.spiffe, until, "identity issued");
                status.set(None);
                (failures, refused) = (0, false);
                renew_at = secrets.current().map_or(clock.now(), |own| renewal(&own, clock.now()));
            }
            Err(error) => {
                refused = error.is_refusal() && !refused;
                let pause = back_off(failures);
                failures = failures.saturating_add(1);
                tracing::warn!(
                    attempt = failures,
                    retry_in_ms = pause.as_millis() as u64,
                    "no certificate: {error}"
                );
                status.set(Some(error.to_string()));
                renew_at = clock.now() + pause;
            }
        }
    }
}

fn load(store: &Store, options: &Options, secrets: &Secrets, clock: &dyn Clock) {
    let loaded = match store.load() {
        Ok(None) => return,
        Ok(Some(material)) => material,
        Err(error) => return tracing::warn!("the saved identity is not used: {error}"),
    };
    let now = clock.now();
    let installed =
        loaded.check(secrets.provider(), options.service.expected.as_ref(), now).and_then(|checked| {
            secrets.install(checked.key, loaded.roots.clone(), now).map_err(|error| error.to_string())?;
            Ok(checked.spiffe)
        });
    match installed {
        Ok(spiffe) => tracing::info!(identity = %spiffe, "identity loaded from the state directory"),
        Err(reason) => tracing::warn!("the saved identity is not used: {reason}"),
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
