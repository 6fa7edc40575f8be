//! Key, chain and roots of one generation, and the checks before they are used.

use std::sync::Arc;
use std::time::SystemTime;

use base::Spiffe;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;

use ::tls::error::unix;
use ::tls::verify::chain_leads_to;

use super::seal::SealKey;
use crate::tls::{Peer, PeerRules, pem};

/// An identity as it is issued and stored. Has no `Debug` form: it holds a private key.
pub struct Material {
    key_pem: String,
    /// Leaf, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// The trust bundle.
    pub roots: Vec<CertificateDer<'static>>,
}

/// An identity that passed its checks.
pub struct Checked {
    /// Chain and key.
    pub key: Arc<CertifiedKey>,
    /// What the leaf says.
    pub own: Peer,
    /// Whose it is.
    pub spiffe: Spiffe,
}

impl Material {
    /// From a key and the chain that a certificate service answered: one PEM text each, the leaf first, the root (or
    /// several, as one bundle) last.
    ///
    /// # Errors
    /// There is no leaf or no root, or a part is not PEM.
    pub fn from_answer(key_pem: String, answer: &[String]) -> Result<Material, String> {
        let Some((last, first)) = answer.split_last() else {
            return Err("the answer holds no certificate".to_owned());
        };
        if first.is_empty() {
            return Err("the answer holds one element; expected the leaf first and the root last".to_owned());
        }
        let mut chain = Vec::new();
        for part in first {
            chain.extend(pem::certificates("answer", part.as_bytes()).map_err(|error| error.to_string())?);
        }
        let roots = pem::certificates("answer's root", last.as_bytes()).map_err(|error| error.to_string())?;
        Ok(Material { key_pem, chain, roots })
    }

    /// From the text that [`Material::to_pem`] writes: key, chain, then the self-issued roots.
    ///
    /// # Errors
    /// A part is missing or damaged.
    pub fn from_pem(text: &[u8]) -> Result<Material, String> {
        let key =
            PrivateKeyDer::from_pem_slice(text).map_err(|error| format!("no usable private key: {error}"))?;
        let key = rcgen::KeyPair::try_from(&key)
            .map_err(|error| format!("the private key is not usable: {error}"))?;
        let all = pem::certificates("certificates", text).map_err(|error| error.reason)?;
        let (mut chain, mut roots) = (Vec::new(), Vec::new());
        for certificate in all {
            let peer = Peer::parse(&certificate).map_err(|error| error.to_string())?;
            if peer.is_ca && peer.subject == peer.issuer {
                roots.push(certificate);
            } else {
                chain.push(certificate);
            }
        }
        if chain.is_empty() || roots.is_empty() {
            return Err(format!(
                "{} certificates and {} roots; at least one of each is needed",
                chain.len(),
                roots.len()
            ));
        }
        Ok(Material { key_pem: key.serialize_pem(), chain, roots })
    }

    /// One text with everything, for the state directory only.
    pub fn to_pem(&self) -> String {
        let mut text = self.key_pem.clone();
        for certificate in self.chain.iter().chain(&self.roots) {
            text.push_str(&pem::to_pem(certificate));
        }
        text
    }

    /// The key that seals what belongs to this identity.
    ///
    /// # Errors
    /// The private key is damaged.
    pub fn seal_key(&self) -> Result<SealKey, String> {
        let key =
            pem::private_key("private key", self.key_pem.as_bytes()).map_err(|error| error.to_string())?;
        Ok(SealKey::of(key.secret_der()))
    }

    /// Checks that key and leaf belong together, that the chain leads to the roots at `now`, and that the leaf is
    /// `expected`'s (when that is known).
    ///
    /// # Errors
    /// Which of these does not hold; for the validity, with both times.
    pub fn check(
        &self,
        provider: &CryptoProvider,
        expected: Option<&Spiffe>,
        now: SystemTime,
    ) -> Result<Checked, String> {
        let key =
            pem::private_key("private key", self.key_pem.as_bytes()).map_err(|error| error.to_string())?;
        let key = pem::certified_key(provider, "identity", self.chain.clone(), key)
            .map_err(|error| error.to_string())?;
        let (leaf, between) = self.chain.split_first().ok_or("there is no leaf certificate")?;
        let own = PeerRules { mesh: true, ..PeerRules::default() }
            .check(leaf)
            .map_err(|error| error.to_string())?;
        let spiffe = own.spiffe.clone().ok_or("the leaf has no SPIFFE id")?;
        if let Some(expected) = expected.filter(|expected| **expected != spiffe) {
            return Err(format!("the certificate is {spiffe}'s, and this workload is {expected}"));
        }
        if let Some(problem) = own.validity(now).problem(&spiffe.to_string()) {
            return Err(problem);
        }
        let roots = pem::roots("trust bundle", &self.roots).map_err(|error| error.to_string())?;
        let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(unix(now)));
        chain_leads_to(&roots, leaf, between, time, provider)
            .map_err(|error| format!("the chain does not lead to its root: {error}"))?;
        Ok(Checked { key, own, spiffe })
    }
}
