//! A certificate authority of the operator's own: an intermediate signs, and the root's key stays elsewhere.
//!
//! `DATA/ca/` then holds Istio's names: `ca-key.pem` (0600) and `ca-cert.pem` sign, `cert-chain.pem` holds what stands
//! between `ca-cert.pem` and the root (it may repeat both), `root-cert.pem` is what everybody trusts; and `trust-domain`,
//! which an operator's certificates do not say.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::Clock;
use rcgen::{Issuer, KeyPair, PublicKeyData};
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tls::Peer;
use tls::verify::chain_leads_to;

use super::authority::{Authority, AuthorityError, sha256};
use super::control_identity;
use super::sign::uri;
use crate::files::{self, Access, FileError};

const KEY: &str = "ca-key.pem";
const CERTIFICATE: &str = "ca-cert.pem";
const CHAIN: &str = "cert-chain.pem";
const ROOT: &str = "root-cert.pem";
const TRUST_DOMAIN: &str = "trust-domain";
const FILE_LIMIT: u64 = 256 * 1024;
/// The most certificates between a leaf and the root: peers refuse chains of more than ten.
const MOST_INTERMEDIATES: usize = 8;

/// Whether the directory holds an authority of this kind.
pub(super) fn is_in(directory: &Path) -> bool {
    directory.join(CERTIFICATE).exists()
}

/// Copies an operator's authority into the data directory, if it can sign.
///
/// # Errors
/// There is an authority already; a file is missing or malformed; the parts do not belong together.
pub fn plug_in(
    from: &Path,
    data: &Path,
    trust_domain: &str,
    clock: Arc<dyn Clock>,
) -> Result<Authority, AuthorityError> {
    control_identity(trust_domain)?;
    files::data_directory(data)?;
    let directory = data.join(super::authority::DIRECTORY);
    if directory.exists() {
        return Err(AuthorityError::Exists(directory));
    }
    let fail = |error: std::io::Error| FileError::new(&directory, format!("cannot be made: {error}"));
    let private = fs::Permissions::from_mode(0o700);
    let staged =
        tempfile::Builder::new().prefix(".ca-").permissions(private).tempdir_in(data).map_err(fail)?;
    let copy = |name: &str, access| -> Result<(), FileError> {
        files::write(&staged.path().join(name), &files::read(&from.join(name), FILE_LIMIT)?, access)
    };
    copy(KEY, Access::Private)?;
    copy(CERTIFICATE, Access::Public)?;
    copy(ROOT, Access::Public)?;
    if from.join(CHAIN).exists() {
        copy(CHAIN, Access::Public)?;
    }
    files::write(&staged.path().join(TRUST_DOMAIN), trust_domain.as_bytes(), Access::Public)?;
    // Tried before it is kept; the messages then name the files that the operator gave.
    load(staged.path(), from, clock.clone())?;
    fs::rename(staged.path(), &directory).map_err(fail)?;
    files::sync_directory(data)?;
    Authority::load(data, clock)
}

/// Loads the authority of a directory; messages call it `shown`.
///
/// # Errors
/// As [`plug_in`].
pub(super) fn load(
    directory: &Path,
    shown: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Authority, AuthorityError> {
    let bad = |name: &str, reason: String| FileError::new(&shown.join(name), reason);
    let key = files::read_private(&directory.join(KEY), FILE_LIMIT)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| bad(KEY, "holds no PEM private key that can be used".to_owned()))?;
    let key = KeyPair::try_from(&key)
        .map_err(|_| bad(KEY, "is not a key that can sign here; use ECDSA P-256 or RSA".to_owned()))?;
    let certificate = one(directory, CERTIFICATE, shown)?;
    let root = one(directory, ROOT, shown)?;
    let signer = parsed(&certificate, CERTIFICATE, shown)?;
    let anchor = parsed(&root, ROOT, shown)?;
    if sha256(&key.subject_public_key_info()) != pin(&certificate, CERTIFICATE, shown)? {
        return Err(bad(CERTIFICATE, format!("does not belong to the key in {KEY}")).into());
    }
    let mut intermediates = Vec::new();
    if certificate != root {
        intermediates.push(certificate.clone());
    }
    if directory.join(CHAIN).exists() {
        let between = all(directory, CHAIN, shown)?.into_iter();
        intermediates.extend(between.filter(|one| *one != certificate && *one != root));
    }
    if intermediates.len() > MOST_INTERMEDIATES {
        let reason = format!("makes {} intermediates; at most {MOST_INTERMEDIATES}", intermediates.len());
        return Err(bad(CHAIN, reason).into());
    }
    let (mut not_before, mut not_after) =
        (signer.not_before.max(anchor.not_before), signer.not_after.min(anchor.not_after));
    for one in &intermediates {
        let one = parsed(one, CHAIN, shown)?;
        (not_before, not_after) = (not_before.max(one.not_before), not_after.min(one.not_after));
    }
    let name = directory.join(TRUST_DOMAIN);
    let trust_domain = String::from_utf8(files::read(&name, 1024)?)
        .map_err(|_| bad(TRUST_DOMAIN, "is not text".to_owned()))?;
    let trust_domain = trust_domain.trim().to_owned();
    control_identity(&trust_domain)?;
    let root_pin = pin(&root, ROOT, shown)?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    let validity = (not_before, not_after);
    let authority = Authority::of_parts(clock, issuer, validity, trust_domain, root, root_pin, intermediates);
    try_out(&authority, shown)?;
    Ok(authority)
}

/// Signs a certificate that nobody gets, and follows its chain to the root.
fn try_out(authority: &Authority, shown: &Path) -> Result<(), AuthorityError> {
    let bad = |reason: String| FileError::new(&shown.join(CERTIFICATE), reason);
    let identity = control_identity(authority.trust_domain())?.to_string();
    // While the chain is valid; whether it is now, every signature checks.
    let middle = authority.not_before
        + authority.not_after.duration_since(authority.not_before).unwrap_or(Duration::ZERO) / 2;
    let params = uri(&identity)
        .and_then(|name| authority.leaf_params_at(vec![name], None, middle))
        .map_err(|error| bad(error.to_string()))?;
    let leaf = params.signed_by(&KeyPair::generate()?, &authority.issuer)?;
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).map_err(|error| bad(format!("{ROOT}: {error}")))?;
    let since = middle.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (provider, at) = (rustls::crypto::aws_lc_rs::default_provider(), UnixTime::since_unix_epoch(since));
    chain_leads_to(&roots, leaf.der(), authority.intermediates(), at, &provider).map_err(|error| {
        bad(format!("what it signs does not lead to {ROOT} through {CHAIN}: {error}")).into()
    })
}

fn parsed(certificate: &CertificateDer<'_>, name: &str, shown: &Path) -> Result<Peer, FileError> {
    let bad = |reason: String| FileError::new(&shown.join(name), reason);
    let peer = Peer::parse(certificate).map_err(|error| bad(error.to_string()))?;
    if !peer.is_ca {
        return Err(bad("is not the certificate of a certificate authority".to_owned()));
    }
    Ok(peer)
}

fn pin(certificate: &CertificateDer<'_>, name: &str, shown: &Path) -> Result<[u8; 32], FileError> {
    let pin = tls::RootPin::of_certificate(certificate);
    pin.map(|pin| pin.0).map_err(|error| FileError::new(&shown.join(name), error.to_string()))
}

fn all(directory: &Path, name: &str, shown: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let text = files::read(&directory.join(name), FILE_LIMIT)
        .map_err(|error| FileError::new(&shown.join(name), error.reason))?;
    tls::pem::certificates(name, &text).map_err(|error| FileError::new(&shown.join(name), error.reason))
}

fn one(directory: &Path, name: &str, shown: &Path) -> Result<CertificateDer<'static>, FileError> {
    let mut list = all(directory, name, shown)?;
    match (list.pop(), list.len()) {
        (Some(only), 0) => Ok(only),
        (_, more) => {
            let reason = format!("holds {} certificates where one belongs", more + 1);
            Err(FileError::new(&shown.join(name), reason))
        }
    }
}

#[cfg(test)]
mod tests;
