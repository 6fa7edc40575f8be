//! The workload's current certificate, key and trust bundle: what the SDS names `default` and `ROOTCA` stand for.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use base::Clock;
use base::clock::SystemClock;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::sync::watch;

use ::tls::{HandshakeClock, Peer, pem};

/// SDS name of the workload's own certificate and key.
pub const SDS_DEFAULT: &str = "default";
/// SDS name of the mesh's trust bundle.
pub const SDS_ROOT: &str = "ROOTCA";

/// One generation of the workload's identity: issued together, replaced together.
#[derive(Debug)]
pub struct SecretSet {
    /// Chain and key, as the TLS library takes them.
    pub key: Arc<CertifiedKey>,
    /// The trust bundle.
    pub roots: Arc<RootCertStore>,
    /// The trust bundle's certificates, for `/certs`.
    pub root_certificates: Vec<CertificateDer<'static>>,
    /// What the own leaf says: SPIFFE id, validity, serial.
    pub own: Peer,
    /// Grows by one with every generation; TLS sessions of an older generation are not resumed.
    pub version: u64,
    /// When this generation was installed.
    pub installed: SystemTime,
}

impl SecretSet {
    /// SHA-256 of the trust bundle's certificates in their order, in lower-case hex.
    pub fn bundle(&self) -> String {
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        self.root_certificates.iter().for_each(|root| context.update(root));
        ::tls::peer::hex(context.finish().as_ref())
    }
}

/// Holder of the current [`SecretSet`]. Shared by all workers; reading it is one atomic load.
pub struct Secrets {
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<SecretSet>,
    version: watch::Sender<u64>,
}

impl Secrets {
    /// No identity yet; the machine's clock decides what is valid.
    pub fn new() -> Arc<Secrets> {
        Secrets::with_clock(Arc::new(SystemClock))
    }

    /// No identity yet, and a clock that decides what is valid.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Arc<Secrets> {
        Arc::new(Secrets {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            clock,
            current: ArcSwapOption::empty(),
            version: watch::Sender::new(0),
        })
    }

    /// The cryptography that every TLS configuration of this workload uses.
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Now, by the clock that decides what is valid.
    pub fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The same clock for the TLS library.
    pub fn time_provider(&self) -> Arc<HandshakeClock> {
        Arc::new(HandshakeClock(self.clock.clone()))
    }

    /// The current identity, if there is one.
    pub fn current(&self) -> Option<Arc<SecretSet>> {
        self.current.load_full()
    }

    /// Version of the current identity; 0 before the first.
    pub fn version(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |set| set.version)
    }

    /// Told of every new identity.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Waits until there is an identity.
    pub async fn ready(&self) {
        // The sender lives in `self`, so that waiting cannot fail.
        let _ = self.version.subscribe().wait_for(|version| *version > 0).await;
    }

    /// Makes an identity the current one: new handshakes use it, open connections go on.
    ///
    /// # Errors
    /// A root certificate is not usable, or the leaf cannot be parsed.
    pub fn install(
        &self,
        key: Arc<CertifiedKey>,
        root_certificates: Vec<CertificateDer<'static>>,
        now: SystemTime,
    ) -> Result<(), pem::PemError> {
        let roots = pem::roots("trust bundle", &root_certificates)?;
        let own = key
            .cert
            .first()
            .ok_or("the chain is empty".to_owned())
            .and_then(|leaf| Peer::parse(leaf).map_err(|error| error.to_string()))
            .map_err(|reason| pem::PemError { source_name: "own certificate".to_owned(), reason })?;
        let version = *self.version.borrow() + 1;
        self.current.store(Some(Arc::new(SecretSet {
            key,
            roots,
            root_certificates,
            own,
            version,
            installed: now,
        })));
        self.version.send_replace(version);
        Ok(())
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("version", &self.version()).finish_non_exhaustive()
    }
}
