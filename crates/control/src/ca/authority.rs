//! The root of trust: created once, kept in the data directory, loaded at every start.
//!
//! `DATA/ca/` (0700) holds `root-key.pem` (0600) and `root-cert.pem`. Both appear in one rename, so a crash leaves a whole
//! authority or none. An operator's own authority is in [`super::plugged`].

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::{Clock, SpiffeError};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{control_identity, plugged};
use crate::files::{self, Access, FileError};
use crate::timestamp::{from_unix_seconds, rfc3339, whole_seconds};

/// How long a root is valid: 10 years.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far `notBefore` lies in the past, so that a peer whose clock is 10 minutes slow accepts a new certificate: 15
/// minutes, because our own clock may be wrong as well.
pub const BACKDATE: Duration = Duration::from_secs(15 * 60);

pub(super) const DIRECTORY: &str = "ca";
const KEY_FILE: &str = "root-key.pem";
const CERTIFICATE_FILE: &str = "root-cert.pem";
const FILE_LIMIT: u64 = 64 * 1024;

/// The root certificate, its key, and the clock that decides what is valid.
pub struct Authority {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    trust_domain: String,
    certificate: CertificateDer<'static>,
    pem: String,
    pin: [u8; 32],
    intermediates: Vec<CertificateDer<'static>>,
    intermediates_pem: Vec<String>,
}

/// What `tulled ca show` prints about a root. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Trust domain that the root vouches for.
    pub trust_domain: String,
    /// File of the certificate.
    pub certificate: PathBuf,
    /// SHA-256 of the SubjectPublicKeyInfo, base64url: the last part of every join token.
    pub pin: String,
    /// Start of validity, RFC 3339.
    pub not_before: String,
    /// End of validity, RFC 3339.
    pub not_after: String,
    /// Certificates between a workload's and the root.
    pub intermediates: usize,
}

/// Why there is no authority to sign with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is missing, open to others, or cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is an authority already; replacing it would break every workload of the mesh.
    #[error("{}: there is a certificate authority already; it is never replaced, because every workload trusts it", .0.display())]
    Exists(PathBuf),
    /// The trust domain is not one.
    #[error(transparent)]
    TrustDomain(#[from] SpiffeError),
    /// The authority on disk belongs to another trust domain than the mesh's.
    #[error(
        "the root in the data directory is for trust domain \"{root}\", but mesh.yaml says trustDomain \"{mesh}\"; use another --data directory, or set trustDomain: {root}"
    )]
    OtherTrustDomain {
        /// The root's.
        root: String,
        /// The mesh's.
        mesh: String,
    },
    /// The key could not be made or the certificate not signed.
    #[error("the root could not be made: {0}")]
    Crypto(#[from] rcgen::Error),
}

impl Authority {
    /// Whether the data directory has a root.
    pub fn exists(data: &Path) -> bool {
        data.join(DIRECTORY).exists()
    }

    /// Makes a new root for `trust_domain` in the data directory.
    ///
    /// # Errors
    /// There is one already, the trust domain is malformed, or the directory cannot be written.
    pub fn create(
        data: &Path,
        trust_domain: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Authority, AuthorityError> {
        control_identity(trust_domain)?;
        files::data_directory(data)?;
        let directory = data.join(DIRECTORY);
        if directory.exists() {
            return Err(AuthorityError::Exists(directory));
        }
        let key = KeyPair::generate()?;
        let certificate = root_params(trust_domain, clock.now())?.self_signed(&key)?;
        let fail = |error: std::io::Error| FileError::new(&directory, format!("cannot be made: {error}"));
        let private = fs::Permissions::from_mode(0o700);
        let staged =
            tempfile::Builder::new().prefix(".ca-").permissions(private).tempdir_in(data).map_err(fail)?;
        files::write(&staged.path().join(KEY_FILE), key.serialize_pem().as_bytes(), Access::Private)?;
        files::write(&staged.path().join(CERTIFICATE_FILE), certificate.pem().as_bytes(), Access::Public)?;
        // A rename onto a directory that another process filled meanwhile fails, so its root survives.
        fs::rename(staged.path(), &directory).map_err(fail)?;
        files::sync_directory(data)?;
        Authority::load(data, clock)
    }

    /// Loads the root of a data directory.
    ///
    /// # Errors
    /// A file is missing, malformed or open to other users; the key is not the certificate's; the certificate is not a
    /// certificate authority's.
    pub fn load(data: &Path, clock: Arc<dyn Clock>) -> Result<Authority, AuthorityError> {
        let directory = data.join(DIRECTORY);
        files::check_private_directory(&directory)?;
        if plugged::is_in(&directory) {
            return plugged::load(&directory, &directory, clock);
        }
        let key_path = directory.join(KEY_FILE);
        let path = directory.join(CERTIFICATE_FILE);
        let key_pem = text(&key_path, files::read_private(&key_path, FILE_LIMIT)?)?;
        let pem = text(&path, files::read(&path, FILE_LIMIT)?)?;
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|_| FileError::new(&key_path, "is not the PEM of a PKCS #8 private key"))?;
        let bad = |reason: &str| FileError::new(&path, reason);
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| bad(&format!("is not the PEM of a certificate: {error}")))?;
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|error| bad(&format!("is not an X.509 certificate: {error}")))?;
        if !parsed.is_ca() {
            return Err(bad("is not the certificate of a certificate authority").into());
        }
        if parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(bad(&format!("does not belong to the key in {}", key_path.display())).into());
        }
        let organization = parsed.subject().iter_organization().next().and_then(|value| value.as_str().ok());
        let trust_domain =
            organization.ok_or_else(|| bad("names no trust domain (its subject has no O)"))?.to_owned();
        control_identity(&trust_domain)?;
        let pin = sha256(parsed.public_key().raw);
        let not_before = from_unix_seconds(parsed.validity().not_before.timestamp());
        let not_after = from_unix_seconds(parsed.validity().not_after.timestamp());
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Authority {
            clock,
            issuer,
            not_before,
            not_after,
            trust_domain,
            certificate,
            pem,
            pin,
            intermediates: Vec::new(),
            intermediates_pem: Vec::new(),
        })
    }

    /// An authority that signs with `issuer`, which leads to `root` through `intermediates` (the issuer's own certificate
    /// first, where it is not the root).
    pub(super) fn of_parts(
        clock: Arc<dyn Clock>,
        issuer: Issuer<'static, KeyPair>,
        (not_before, not_after): (SystemTime, SystemTime),
        trust_domain: String,
        root: CertificateDer<'static>,
        pin: [u8; 32],
        intermediates: Vec<CertificateDer<'static>>,
    ) -> Authority {
        let pem = tls::pem::to_pem(&root);
        let intermediates_pem = intermediates.iter().map(|one| tls::pem::to_pem(one)).collect();
        let certificate = root;
        Authority {
            clock,
            issuer,
            not_before,
            not_after,
            trust_domain,
            certificate,
            pem,
            pin,
            intermediates,
            intermediates_pem,
        }
    }

    /// What stands between a leaf and the root.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.intermediates
    }

    /// PEM of a leaf's chain without the leaf: intermediates, then the root.
    pub(super) fn chain_pem(&self) -> impl Iterator<Item = String> {
        self.intermediates_pem.iter().chain(std::iter::once(&self.pem)).cloned()
    }

    /// Loads the root of a data directory, or makes one where there is none.
    ///
    /// # Errors
    /// Those of [`Authority::load`] and [`Authority::create`], and a root of another trust domain.
    pub fn load_or_create(
        data: &Path,
        trust_domain: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Authority, AuthorityError> {
        if !Authority::exists(data) {
            match Authority::create(data, trust_domain, clock.clone()) {
                Err(AuthorityError::Exists(_)) => {}
                made => return made,
            }
        }
        let authority = Authority::load(data, clock)?;
        if authority.trust_domain != trust_domain {
            let mesh = trust_domain.to_owned();
            return Err(AuthorityError::OtherTrustDomain { root: authority.trust_domain, mesh });
        }
        Ok(authority)
    }

    /// The trust domain that this root vouches for.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The root certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The root certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the root's SubjectPublicKeyInfo.
    pub fn pin(&self) -> &[u8; 32] {
        &self.pin
    }

    /// When the root ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The clock that decides what is valid.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What may be shown about the root that lies in `data`.
    pub fn summary(&self, data: &Path) -> Summary {
        Summary {
            trust_domain: self.trust_domain.clone(),
            certificate: data.join(DIRECTORY).join(CERTIFICATE_FILE),
            pin: crate::encoding::encode(&self.pin),
            not_before: rfc3339(self.not_before),
            not_after: rfc3339(self.not_after),
            intermediates: self.intermediates.len(),
        }
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("Authority").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

fn root_params(trust_domain: &str, now: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.not_before = whole_seconds(now - BACKDATE);
    params.not_after = whole_seconds(now + ROOT_LIFETIME);
    params.serial_number = Some(random_serial()?);
    params.distinguished_name = DistinguishedName::new();
    // Istio's self-signed root also keeps its trust domain in O.
    params.distinguished_name.push(DnType::OrganizationName, trust_domain);
    params.distinguished_name.push(DnType::CommonName, "Tulle root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// 126 random bits, positive and without a leading zero byte (RFC 5280, 4.1.2.2).
pub(super) fn random_serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}

fn text(path: &Path, bytes: Vec<u8>) -> Result<String, FileError> {
    String::from_utf8(bytes).map_err(|_| FileError::new(path, "is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;
    use std::os::unix::fs::MetadataExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn a_root_survives_a_restart_and_is_never_replaced() {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let made = Authority::load_or_create(data.path(), "cluster.local", clock.clone()).unwrap();
        let again = Authority::load_or_create(data.path(), "cluster.local", clock.clone()).unwrap();
        assert_eq!((made.pem(), made.pin()), (again.pem(), again.pin()));
        assert_eq!(made.trust_domain(), "cluster.local");
        assert_eq!(made.not_after().duration_since(clock.now()).unwrap(), ROOT_LIFETIME);
        assert_eq!(ROOT_LIFETIME.as_secs(), 315_360_000, "docs/identity.md says ten years");
        assert_eq!(mode(&data.path().join("ca")), 0o700);
        assert_eq!(mode(&data.path().join("ca/root-key.pem")), 0o600);
        assert!(matches!(
            Authority::create(data.path(), "cluster.local", clock.clone()),
            Err(AuthorityError::Exists(_))
        ));
        let error = Authority::load_or_create(data.path(), "other.example", clock).unwrap_err().to_string();
        assert!(error.contains("\"cluster.local\"") && error.contains("\"other.example\""), "{error}");
        assert!(!format!("{made:?}").contains("PRIVATE"));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let data = tempfile::tempdir().unwrap();
        Authority::create(data.path(), "cluster.local", TestClock::new()).unwrap();
        let key = data.path().join("ca/root-key.pem");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Authority::load(data.path(), TestClock::new()).unwrap_err().to_string();
        assert!(error.contains("root-key.pem") && error.contains("chmod 0600"), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(data.path().join("ca"), fs::Permissions::from_mode(0o750)).unwrap();
        let error = Authority::load(data.path(), TestClock::new()).unwrap_err().to_string();
        assert!(error.contains("chmod 0700"), "{error}");
    }

    #[test]
    fn a_key_of_another_root_is_refused() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        Authority::create(one.path(), "cluster.local", TestClock::new()).unwrap();
        Authority::create(two.path(), "cluster.local", TestClock::new()).unwrap();
        fs::copy(one.path().join("ca/root-key.pem"), two.path().join("ca/root-key.pem")).unwrap();
        let error = Authority::load(two.path(), TestClock::new()).unwrap_err().to_string();
        assert!(error.contains("does not belong to the key"), "{error}");
    }

    #[test]
    fn a_trust_domain_must_be_one() {
        let data = tempfile::tempdir().unwrap();
        let error = Authority::create(data.path(), "a/b", TestClock::new()).unwrap_err();
        assert!(matches!(error, AuthorityError::TrustDomain(_)));
        assert!(!data.path().join("ca").exists());
    }
}
