//! The certificate that `tulled` itself serves on its TLS port, renewed at half of its life.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rcgen::string::Ia5String;
use rcgen::{KeyPair, SanType};
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::authority::Authority;
use super::sign::{SignError, crypto, uri};
use crate::timestamp::rfc3339;

/// DNS names under which proxies reach the control plane; `istiod.istio-system.svc` is what Istio's sidecars ask for.
pub const DNS_NAMES: [&str; 3] = ["tulled", "istiod.istio-system.svc", "localhost"];

/// The current serving certificate and what makes the next.
pub struct ServingCertificate {
    authority: Arc<Authority>,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<Held>,
    renewing: Mutex<()>,
}

struct Held {
    key: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl ServingCertificate {
    /// Issues the first certificate.
    ///
    /// # Errors
    /// The root is not valid now, or the crypto library failed.
    pub fn new(authority: Arc<Authority>, provider: Arc<CryptoProvider>) -> Result<Self, SignError> {
        let first = issue(&authority, &provider)?;
        Ok(Self { authority, provider, current: ArcSwap::from_pointee(first), renewing: Mutex::new(()) })
    }

    /// The certificate to serve now. The first call after half of its life makes the next one.
    pub fn current(&self) -> Arc<CertifiedKey> {
        let held = self.current.load_full();
        if self.authority.clock.now() < held.renew_at {
            return held.key.clone();
        }
        let _one_at_a_time = self.renewing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = self.current.load_full();
        if self.authority.clock.now() < held.renew_at {
            return held.key.clone();
        }
        match issue(&self.authority, &self.provider) {
            Ok(next) => {
                let key = next.key.clone();
                tracing::info!(renew_at = %rfc3339(next.renew_at), "tulled's own serving certificate was renewed");
                self.current.store(Arc::new(next));
                key
            }
            Err(error) => {
                tracing::error!("tulled's own serving certificate was not renewed: {error}");
                held.key.clone()
            }
        }
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServingCertificate").finish_non_exhaustive()
    }
}

fn issue(authority: &Authority, provider: &CryptoProvider) -> Result<Held, SignError> {
    let failed = |error: &dyn fmt::Display| SignError::Crypto(error.to_string());
    let identity = super::control_identity(authority.trust_domain()).map_err(|error| failed(&error))?;
    let mut names = vec![uri(&identity.to_string())?];
    for name in DNS_NAMES {
        names.push(SanType::DnsName(Ia5String::try_from(name).map_err(crypto)?));
    }
    names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let key = KeyPair::generate().map_err(crypto)?;
    let issued = authority.issue(&authority.leaf_params(names, None)?, &key)?;
    let chain: Result<Vec<_>, _> =
        issued.chain.iter().map(|pem| CertificateDer::from_pem_slice(pem.as_bytes())).collect();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = provider.key_provider.load_private_key(private).map_err(|error| failed(&error))?;
    let now = authority.clock.now();
    let life = issued.not_after.duration_since(now).unwrap_or_default();
    let key = CertifiedKey::new(chain.map_err(|error| failed(&error))?, signing);
    Ok(Held { key: Arc::new(key), renew_at: now + life / 2 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestClock;
    use std::time::Duration;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::extensions::GeneralName;
    use x509_parser::prelude::FromDer;

    #[test]
    fn it_names_the_control_plane_carries_the_root_and_is_renewed_at_half_life() {
        let data = tempfile::tempdir().unwrap();
        let clock = TestClock::new();
        let authority = Arc::new(Authority::create(data.path(), "cluster.local", clock.clone()).unwrap());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let serving = ServingCertificate::new(authority.clone(), provider).unwrap();
        let first = serving.current();
        assert_eq!(first.cert[1], *authority.certificate());
        let (_, leaf) = X509Certificate::from_der(&first.cert[0]).unwrap();
        let san = leaf.subject_alternative_name().unwrap().unwrap();
        assert_eq!(
            san.value.general_names,
            vec![
                GeneralName::URI("spiffe://cluster.local/ns/istio-system/sa/tulled"),
                GeneralName::DNSName("tulled"),
                GeneralName::DNSName("istiod.istio-system.svc"),
                GeneralName::DNSName("localhost"),
                GeneralName::IPAddress(&[127, 0, 0, 1]),
            ]
        );
        clock.advance(Duration::from_secs(12 * 3600 - 1));
        assert_eq!(serving.current().cert, first.cert);
        clock.advance(Duration::from_secs(1));
        let second = serving.current();
        assert_ne!(second.cert[0], first.cert[0]);
        assert_eq!(serving.current().cert, second.cert);
    }
}
