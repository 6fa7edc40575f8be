//! Reading certificates and keys from PEM text or files, with errors that name the source and never show a key.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// The largest PEM text accepted, in bytes: a trust bundle of a large company fits many times.
pub const MAX_PEM: usize = 4 << 20;

/// Why a PEM source could not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {reason}")]
pub struct PemError {
    /// File name, or the field of the configuration that held the text.
    pub source_name: String,
    /// What is wrong.
    pub reason: String,
}

fn fail(source: &str, reason: impl Into<String>) -> PemError {
    PemError { source_name: source.to_owned(), reason: reason.into() }
}

/// Reads a file of at most [`MAX_PEM`] bytes.
///
/// # Errors
/// The file cannot be read or is too large.
pub fn read_file(path: &Path) -> Result<Vec<u8>, PemError> {
    let name = path.display().to_string();
    let size = std::fs::metadata(path).map_err(|error| fail(&name, error.to_string()))?.len();
    if size > MAX_PEM as u64 {
        return Err(fail(&name, format!("{size} bytes, more than the limit of {MAX_PEM}")));
    }
    std::fs::read(path).map_err(|error| fail(&name, error.to_string()))
}

/// All certificates of a PEM text, in order; at least one.
///
/// # Errors
/// The text is too large, not PEM, or holds no certificate.
pub fn certificates(source: &str, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    if text.len() > MAX_PEM {
        return Err(fail(source, format!("{} bytes of PEM, more than the limit of {MAX_PEM}", text.len())));
    }
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let certificates = read.map_err(|error| fail(source, format!("not a PEM certificate: {error}")))?;
    if certificates.is_empty() {
        return Err(fail(source, "holds no PEM certificate"));
    }
    Ok(certificates)
}

/// A certificate as PEM.
pub fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// The first private key of a PEM text (PKCS#8, PKCS#1 or SEC1).
///
/// # Errors
/// There is none. The text itself is never part of the error.
pub fn private_key(source: &str, text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| fail(source, format!("no usable private key: {error}")))
}

/// A chain and its key, checked to belong together.
///
/// # Errors
/// The key is of a kind that is not supported, or is not the key of the first certificate.
pub fn certified_key(
    provider: &CryptoProvider,
    source: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, PemError> {
    let signing = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| fail(source, format!("the private key is not usable: {error}")))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(certified))
        }
        Err(_) => Err(fail(source, "the private key does not belong to the first certificate of the chain")),
    }
}

/// Trust anchors from certificates.
///
/// # Errors
/// One of them cannot be a trust anchor.
pub fn roots(source: &str, certificates: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, PemError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates.iter().enumerate() {
        store
            .add(certificate.clone())
            .map_err(|error| fail(source, format!("root certificate {index} is not usable: {error}")))?;
    }
    Ok(Arc::new(store))
}
