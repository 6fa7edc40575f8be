//! Who is at the other end of a connection. Every request carries it as an extension; no handler looks elsewhere.

use std::net::SocketAddr;
use std::time::SystemTime;

use base::Spiffe;
use base::SpiffeError;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::timestamp::from_unix_seconds;

/// The authenticated other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// From its client certificate, which chains to the root; `None`: it showed none.
    pub spiffe: Option<Spiffe>,
    /// When that certificate ends. A connection may outlive it: check before trusting `spiffe` on a long-lived one.
    pub not_after: Option<SystemTime>,
    /// Its address.
    pub address: SocketAddr,
    /// Whether the connection is TLS; `false` only on the plaintext port, which binds to loopback.
    pub tls: bool,
}

/// Why a client certificate that chains to the root is not a workload's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not X.509, or a damaged extension.
    #[error("the client certificate cannot be read")]
    Unreadable,
    /// Not exactly one URI name (SPIFFE X.509-SVID, section 2).
    #[error(
        "the client certificate has {0} URI names; a workload's certificate has exactly one, its SPIFFE id"
    )]
    UriNames(usize),
    /// Its URI name is no SPIFFE id.
    #[error("the client certificate's name: {0}")]
    Name(#[from] SpiffeError),
    /// Of another trust domain.
    #[error("the client certificate is for \"{found}\", but this mesh's trust domain is \"{trust_domain}\"")]
    TrustDomain {
        /// Its name.
        found: String,
        /// This mesh's.
        trust_domain: String,
    },
    /// It may sign others, so it is not a workload's.
    #[error("the client certificate of \"{0}\" is a certificate authority's, not a workload's")]
    Authority(String),
}

/// Reads name and end of a client certificate whose chain has been verified.
///
/// # Errors
/// It does not name exactly one workload of `trust_domain`.
pub fn identity_of(der: &[u8], trust_domain: &str) -> Result<(Spiffe, SystemTime), CertificateError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| CertificateError::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| CertificateError::Unreadable)?;
    let uris: Vec<&str> = names
        .iter()
        .flat_map(|extension| &extension.value.general_names)
        .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
        .collect();
    let [uri] = uris[..] else {
        return Err(CertificateError::UriNames(uris.len()));
    };
    let spiffe: Spiffe = uri.parse()?;
    if spiffe.trust_domain() != trust_domain {
        let trust_domain = trust_domain.to_owned();
        return Err(CertificateError::TrustDomain { found: spiffe.to_string(), trust_domain });
    }
    if certificate.is_ca() {
        return Err(CertificateError::Authority(spiffe.to_string()));
    }
    Ok((spiffe, from_unix_seconds(certificate.validity().not_after.timestamp())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::string::Ia5String;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SanType};

    fn certificate(names: &[&str], is_ca: IsCa) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            names.iter().map(|name| SanType::URI(Ia5String::try_from(*name).unwrap())).collect();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn exactly_one_workload_of_this_trust_domain() {
        const PAYMENT: &str = "spiffe://cluster.local/ns/production/sa/payment";
        let check = |names: &[&str]| identity_of(&certificate(names, IsCa::NoCa), "cluster.local");
        assert_eq!(check(&[PAYMENT]).unwrap().0.to_string(), PAYMENT);
        assert_eq!(check(&[]), Err(CertificateError::UriNames(0)));
        assert_eq!(check(&[PAYMENT, "spiffe://cluster.local/ns/a/sa/b"]), Err(CertificateError::UriNames(2)));
        assert!(matches!(check(&["https://example.com/"]), Err(CertificateError::Name(_))));
        let error = check(&["spiffe://other.example/ns/a/sa/b"]).unwrap_err().to_string();
        assert!(error.contains("other.example") && error.contains("cluster.local"), "{error}");
        let authority = certificate(&[PAYMENT], IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(matches!(identity_of(&authority, "cluster.local"), Err(CertificateError::Authority(_))));
        assert_eq!(identity_of(b"x", "cluster.local"), Err(CertificateError::Unreadable));
    }
}
