//! One generation of an identity: private key, certificate chain, trust bundle. Checked before anybody gets it.

use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tls::PeerRules;
use tls::verify::chain_leads_to;

/// An identity that passed its checks. Has no `Debug` form: it holds a private key.
pub struct Identity {
    /// The private key, PEM.
    pub key_pem: String,
    /// Leaf and intermediates, PEM.
    pub chain_pem: String,
    /// The trust bundle, PEM.
    pub roots_pem: String,
    /// The leaf's SPIFFE id.
    pub spiffe: String,
    /// End of the leaf's validity.
    pub not_after: SystemTime,
}

fn certificates(what: &str, pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|error| format!("{what}: {error}"))?;
    if all.is_empty() { Err(format!("{what}: no certificate")) } else { Ok(all) }
}

impl Identity {
    /// Checks that key, chain and roots belong together at `now`, in `trust_domain`.
    ///
    /// # Errors
    /// Which part does not.
    pub fn check(
        provider: &CryptoProvider,
        (key_pem, chain_pem, roots_pem): (String, String, String),
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<Identity, String> {
        let chain = certificates("certificate chain", &chain_pem)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| format!("private key: {error}"))?;
        CertifiedKey::from_der(chain.clone(), key, provider)
            .map_err(|error| format!("key and certificate do not belong together: {error}"))?;
        let (leaf, between) = chain.split_first().ok_or("certificate chain: no certificate")?;
        let own = PeerRules::workload_of(trust_domain).check(leaf).map_err(|error| error.to_string())?;
        let spiffe = own.name().to_owned();
        if let Some(problem) = own.validity(now).problem(&spiffe) {
            return Err(problem);
        }
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        chain_leads_to(&roots(&roots_pem)?, leaf, between, UnixTime::since_unix_epoch(since), provider)
            .map_err(|error| format!("the certificate of {spiffe} is not usable now: {error}"))?;
        Ok(Identity { key_pem, chain_pem, roots_pem, spiffe, not_after: own.not_after })
    }

    /// Chain and key for a TLS client.
    ///
    /// # Errors
    /// None in an identity that was checked.
    pub fn certified_key(&self, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| format!("private key: {error}"))?;
        CertifiedKey::from_der(certificates("certificate chain", &self.chain_pem)?, key, provider)
            .map_err(|error| error.to_string())
    }

    /// When a new certificate is asked for: at half of what is left at `now`, give or take a tenth, so that workloads
    /// that started together do not renew together.
    pub fn renewal(&self, now: SystemTime, random: f64) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default().mul_f64(0.45 + 0.10 * random)
    }
}

/// The trust bundle as a store.
///
/// # Errors
/// A certificate of it is damaged.
pub fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for root in certificates("trust bundle", pem)? {
        store.add(root).map_err(|error| format!("trust bundle: {error}"))?;
    }
    Ok(store)
}
