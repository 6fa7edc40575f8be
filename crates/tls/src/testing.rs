//! Certificate authorities for tests. Also compiled into the tests of `proxy`, which do not use all of it.
#![allow(dead_code)]

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;

/// A root with its key.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The root certificate.
    pub certificate: CertificateDer<'static>,
    /// The same as PEM.
    pub pem: String,
}

/// What a leaf shall say.
pub struct Leaf {
    params: CertificateParams,
}

/// An issued leaf.
pub struct Issued {
    /// Leaf, then root.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key_pem: String,
    /// Leaf as PEM.
    pub leaf_pem: String,
}

impl Leaf {
    /// A leaf with these URI names, valid from an hour ago for a day.
    pub fn new(uris: &[&str]) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("an ASCII URI"))).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = SystemTime::now();
        params.not_before = (now - Duration::from_secs(3600)).into();
        params.not_after = (now + Duration::from_secs(86400)).into();
        Leaf { params }
    }

    /// Adds a DNS name.
    pub fn dns(mut self, name: &str) -> Leaf {
        self.params.subject_alt_names.push(SanType::DnsName(name.try_into().expect("an ASCII name")));
        self
    }

    /// Sets the subject's organization.
    pub fn organization(mut self, name: &str) -> Leaf {
        self.params.distinguished_name.push(DnType::OrganizationName, name);
        self
    }

    /// Makes it a certificate authority.
    pub fn authority(mut self) -> Leaf {
        self.params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        self.params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        self
    }

    /// Valid between these times.
    pub fn valid(mut self, from: SystemTime, to: SystemTime) -> Leaf {
        self.params.not_before = from.into();
        self.params.not_after = to.into();
        self
    }

    /// Ended a minute ago.
    pub fn expired(mut self) -> Leaf {
        self.params.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        self
    }
}

impl Authority {
    /// A new root.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a root");
        Authority {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate authority below this one.
    pub fn intermediate(&self, name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.signed_by(&key, &self.issuer).expect("an intermediate");
        Authority {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Signs a leaf.
    pub fn issue(&self, leaf: Leaf) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf.params.signed_by(&key, &self.issuer).expect("a leaf");
        Issued {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key_pem: key.serialize_pem(),
            leaf_pem: certificate.pem(),
        }
    }

    /// Signs a CSR for an identity that this authority chooses, valid from a minute ago for `lifetime`.
    pub fn sign(&self, csr: &str, uri: &str, lifetime: Duration) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(csr).expect("a CSR");
        let wanted = Leaf::new(&[uri]).params;
        request.params.subject_alt_names = wanted.subject_alt_names;
        request.params.extended_key_usages = wanted.extended_key_usages;
        request.params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        request.params.not_after = (SystemTime::now() + lifetime).into();
        request.signed_by(&self.issuer).expect("a certificate").pem()
    }
}
