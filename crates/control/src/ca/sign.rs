//! Signing a workload's certificate: what a CSR must be, and what the certificate then says.
//!
//! The CSR gives a public key and the proof that its sender holds the private one. Everything else comes from the
//! authenticated caller; a CSR that asks for anybody else's name is refused rather than corrected, because its sender
//! is mistaken about who it is, or lying.

use std::time::{Duration, SystemTime};

use base::Spiffe;
use rcgen::string::Ia5String;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, PublicKeyData,
    SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384, Oid,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::authority::{Authority, BACKDATE, random_serial};
use crate::timestamp::{rfc3339, whole_seconds};

/// The longest a workload's certificate is valid: 24 hours.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// The longest PEM of a CSR, in bytes.
pub const CSR_LIMIT: usize = 16 * 1024;
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A signed certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// PEM certificates: the leaf first, then intermediates, the root last.
    pub chain: Vec<String>,
    /// End of the leaf's validity.
    pub not_after: SystemTime,
}

/// Why a CSR was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The CSR cannot be read.
    #[error("the CSR cannot be read: {0}; send the PEM of one PKCS #10 request of at most 16384 bytes")]
    Malformed(String),
    /// The CSR's signature is not by the key in it.
    #[error("the CSR is not signed by the private key that belongs to its public key")]
    NoProofOfPossession,
    /// The key or the signature is of a kind that is not signed.
    #[error(
        "the CSR has {0}; use an ECDSA key on P-256, or an RSA key of 2048 to 8192 bits, signed with SHA-256"
    )]
    Algorithm(String),
    /// The CSR asks for a name that is not the caller's.
    #[error(
        "the CSR asks for {asked}, but the caller is authenticated as \"{caller}\"; ask for that name, or for none"
    )]
    OtherName {
        /// What it asks for: the kind of name and its value.
        asked: String,
        /// The caller's identity.
        caller: String,
    },
    /// The CSR asks to become a certificate authority.
    #[error("the CSR asks for a certificate authority; \"{caller}\" gets workload certificates only")]
    AsksForAuthority {
        /// The caller's identity.
        caller: String,
    },
    /// The identity belongs to the control plane.
    #[error("\"{0}\" is the control plane's own identity and is given to nobody else")]
    Reserved(String),
    /// The identity is of another trust domain.
    #[error("\"{caller}\" is not of the trust domain \"{trust_domain}\" that this authority vouches for")]
    OtherTrustDomain {
        /// The caller's identity.
        caller: String,
        /// The authority's.
        trust_domain: String,
    },
    /// The root is not valid now.
    #[error(
        "the root certificate is valid from {not_before} to {not_after}, and it is {now}; check the clock of this machine, or replace the root"
    )]
    RootNotValid {
        /// Start of the root's validity.
        not_before: String,
        /// End of the root's validity.
        not_after: String,
        /// Now.
        now: String,
    },
    /// The crypto library failed.
    #[error("the certificate could not be signed: {0}")]
    Crypto(String),
}

impl Authority {
    /// Signs a CSR for an authenticated caller: one URI SAN, client and server use, not an authority.
    ///
    /// `validity` is shortened to [`LEAF_LIFETIME`] and to the root's end; `None` means the longest.
    ///
    /// # Errors
    /// The CSR is malformed, forged, of a weak key or asks for another's name; or the root is not valid now.
    pub fn sign(&self, csr: &str, caller: &Spiffe, validity: Option<Duration>) -> Result<Issued, SignError> {
        let name = caller.to_string();
        if caller.trust_domain() != self.trust_domain() {
            let trust_domain = self.trust_domain().to_owned();
            return Err(SignError::OtherTrustDomain { caller: name, trust_domain });
        }
        if super::control_identity(self.trust_domain()).is_ok_and(|own| own == *caller) {
            return Err(SignError::Reserved(name));
        }
        let key = checked_key(csr, &name)?;
        let params = self.leaf_params(vec![uri(&name)?], validity)?;
        self.issue(&params, &key)
    }

    /// A leaf's parameters with these names, clipped to the root's validity.
    pub(super) fn leaf_params(
        &self,
        names: Vec<SanType>,
        validity: Option<Duration>,
    ) -> Result<CertificateParams, SignError> {
        self.leaf_params_at(names, validity, self.clock.now())
    }

    /// The same, for a leaf that is issued at `now`.
    pub(super) fn leaf_params_at(
        &self,
        names: Vec<SanType>,
        validity: Option<Duration>,
        now: SystemTime,
    ) -> Result<CertificateParams, SignError> {
        if now < self.not_before || now >= self.not_after {
            return Err(SignError::RootNotValid {
                not_before: rfc3339(self.not_before),
                not_after: rfc3339(self.not_after),
                now: rfc3339(now),
            });
        }
        let lifetime = validity.unwrap_or(LEAF_LIFETIME).min(LEAF_LIFETIME);
        let mut params = CertificateParams::default();
        params.not_before = whole_seconds((now - BACKDATE).max(self.not_before));
        params.not_after = whole_seconds((now + lifetime).min(self.not_after));
        params.serial_number = Some(random_serial().map_err(crypto)?);
        // An empty subject makes the SAN critical (RFC 5280, 4.2.1.6), as in Istio's certificates.
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    pub(super) fn issue(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<Issued, SignError> {
        let leaf = params.signed_by(key, &self.issuer).map_err(crypto)?;
        let chain = std::iter::once(leaf.pem()).chain(self.chain_pem()).collect();
        Ok(Issued { chain, not_after: params.not_after.into() })
    }
}

pub(super) fn uri(name: &str) -> Result<SanType, SignError> {
    Ok(SanType::URI(Ia5String::try_from(name).map_err(crypto)?))
}

pub(super) fn crypto(error: rcgen::Error) -> SignError {
    SignError::Crypto(error.to_string())
}

/// The public key of a CSR that passes every check.
fn checked_key(csr: &str, caller: &str) -> Result<SubjectPublicKeyInfo, SignError> {
    let malformed = |reason: &str| SignError::Malformed(reason.to_owned());
    if csr.len() > CSR_LIMIT {
        return Err(malformed(&format!("it is {} bytes long", csr.len())));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes())
        .map_err(|error| malformed(&format!("no PEM block \"CERTIFICATE REQUEST\" ({error})")))?;
    let (rest, request) = X509CertificationRequest::from_der(&der)
        .map_err(|error| malformed(&format!("not a PKCS #10 request ({error})")))?;
    if !rest.is_empty() {
        return Err(malformed("bytes follow the request"));
    }
    check_key_kind(&request)?;
    request.verify_signature().map_err(|_| SignError::NoProofOfPossession)?;
    check_names(&request, caller)?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|error| SignError::Algorithm(format!("a key that cannot be used ({error})")))
}

fn check_key_kind(request: &X509CertificationRequest<'_>) -> Result<(), SignError> {
    let spki = &request.certification_request_info.subject_pki;
    let signature = &request.signature_algorithm.algorithm;
    let among = |allowed: &[Oid<'static>]| allowed.contains(signature);
    let signature_fits =
        match spki.parsed().map_err(|error| SignError::Malformed(format!("its key: {error}")))? {
            PublicKey::EC(_) => {
                let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
                if curve.as_ref() != Some(&OID_EC_P256) {
                    let found = curve.map_or_else(|| "without a name".to_owned(), |oid| oid.to_id_string());
                    return Err(SignError::Algorithm(format!("an EC key on the curve {found}")));
                }
                among(&[OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384])
            }
            PublicKey::RSA(rsa) => {
                // key_size counts whole bytes of the modulus, without the sign byte.
                if !RSA_BITS.contains(&rsa.key_size()) {
                    return Err(SignError::Algorithm(format!("an RSA key of {} bits", rsa.key_size())));
                }
                among(&[OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA])
            }
            _ => {
                let found = spki.algorithm.algorithm.to_id_string();
                return Err(SignError::Algorithm(format!("a key of the algorithm {found}")));
            }
        };
    if !signature_fits {
        return Err(SignError::Algorithm(format!(
            "a signature of the algorithm {}",
            signature.to_id_string()
        )));
    }
    Ok(())
}

/// Every name that the CSR asks for must be the caller's own.
fn check_names(request: &X509CertificationRequest<'_>, caller: &str) -> Result<(), SignError> {
    let other = |kind: &str, value: &str| SignError::OtherName {
        asked: format!("the {kind} \"{}\"", printable(value)),
        caller: caller.to_owned(),
    };
    for name in request.certification_request_info.subject.iter_common_name() {
        let value = name.as_str().unwrap_or("(not text)");
        if !value.is_empty() && value != caller {
            return Err(other("common name", value));
        }
    }
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(requested) = attribute.parsed_attribute() else {
            continue;
        };
        for extension in &requested.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        check_general_name(name, caller, &other)?;
                    }
                }
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                    return Err(SignError::AsksForAuthority { caller: caller.to_owned() });
                }
                ParsedExtension::ParseError { error } => {
                    return Err(SignError::Malformed(format!("its extension {}: {error}", extension.oid)));
                }
                // Key usages and the like are the authority's to decide; asking for them claims no name.
                _ => {}
            }
        }
    }
    Ok(())
}

fn check_general_name(
    name: &GeneralName<'_>,
    caller: &str,
    other: &dyn Fn(&str, &str) -> SignError,
) -> Result<(), SignError> {
    match name {
        GeneralName::URI(value) if *value == caller => Ok(()),
        GeneralName::URI(value) => Err(other("URI", value)),
        GeneralName::DNSName(value) => Err(other("DNS name", value)),
        GeneralName::RFC822Name(value) => Err(other("e-mail address", value)),
        GeneralName::IPAddress(bytes) => Err(other("IP address", &format!("{bytes:?}"))),
        unknown => Err(other("name", &format!("{unknown:?}"))),
    }
}

/// A name from outside, short and without control characters, for messages and logs.
fn printable(value: &str) -> String {
    value.chars().take(256).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests;
