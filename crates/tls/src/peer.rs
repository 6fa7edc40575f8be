//! What a peer's certificate says, parsed once per connection.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::Spiffe;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use crate::error::Validity;

/// The most SANs of one certificate that are looked at; one with more is refused.
const MAX_SANS: usize = 256;

/// The holder of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The SPIFFE id, when there is exactly one URI SAN and it is a workload's SPIFFE id.
    pub spiffe: Option<Spiffe>,
    /// URI SANs in the order of the certificate.
    pub uri_sans: Vec<String>,
    /// DNS SANs in the order of the certificate.
    pub dns_sans: Vec<String>,
    /// IP SANs as text.
    pub ip_sans: Vec<String>,
    /// E-mail SANs.
    pub email_sans: Vec<String>,
    /// The subject, as RFC 2253 writes it.
    pub subject: String,
    /// The issuer, as RFC 2253 writes it.
    pub issuer: String,
    /// SHA-256 of the DER form, in lower-case hex: `Hash=` of `x-forwarded-client-cert`.
    pub hash: String,
    /// SHA-256 of the SubjectPublicKeyInfo, in lower-case hex.
    pub key_hash: String,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// Not valid before.
    pub not_before: SystemTime,
    /// Not valid after.
    pub not_after: SystemTime,
    /// Basic constraints say that it is a certificate authority.
    pub is_ca: bool,
    /// Key usage allows it to sign certificates.
    pub signs_certificates: bool,
}

/// Why a certificate could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// Not X.509.
    #[error("the certificate cannot be parsed: {0}")]
    Malformed(String),
    /// A SAN that two parsers could read differently (NUL, control or non-ASCII characters).
    #[error("a subject alternative name holds a character outside printable ASCII")]
    UnprintableName,
    /// More SANs than anybody needs.
    #[error("the certificate has more than 256 subject alternative names")]
    TooManyNames,
}

impl Peer {
    /// Parses a certificate in DER form.
    ///
    /// # Errors
    /// It is malformed, or a SAN has characters that could be read in two ways.
    pub fn parse(der: &[u8]) -> Result<Peer, PeerError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|error| PeerError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(PeerError::Malformed("bytes after the certificate".to_owned()));
        }
        let mut peer = Peer {
            spiffe: None,
            uri_sans: Vec::new(),
            dns_sans: Vec::new(),
            ip_sans: Vec::new(),
            email_sans: Vec::new(),
            subject: rfc2253(certificate.subject()),
            issuer: rfc2253(certificate.issuer()),
            hash: hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der).as_ref()),
            key_hash: hex(aws_lc_rs::digest::digest(
                &aws_lc_rs::digest::SHA256,
                certificate.tbs_certificate.subject_pki.raw,
            )
            .as_ref()),
            serial: hex(certificate.raw_serial()),
            not_before: time_of(certificate.validity().not_before.timestamp()),
            not_after: time_of(certificate.validity().not_after.timestamp()),
            is_ca: false,
            signs_certificates: false,
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => peer.read_names(&names.general_names)?,
                ParsedExtension::BasicConstraints(constraints) => peer.is_ca |= constraints.ca,
                ParsedExtension::KeyUsage(usage) => peer.signs_certificates |= usage.key_cert_sign(),
                ParsedExtension::ParseError { error } => return Err(PeerError::Malformed(error.to_string())),
                _ => {}
            }
        }
        if let [only] = peer.uri_sans.as_slice() {
            peer.spiffe = only.parse().ok();
        }
        Ok(peer)
    }

    fn read_names(&mut self, names: &[GeneralName<'_>]) -> Result<(), PeerError> {
        if names.len() > MAX_SANS {
            return Err(PeerError::TooManyNames);
        }
        for name in names {
            match name {
                GeneralName::URI(text) => self.uri_sans.push(printable(text)?),
                GeneralName::DNSName(text) => self.dns_sans.push(printable(text)?),
                GeneralName::RFC822Name(text) => self.email_sans.push(printable(text)?),
                GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
                    Ok(v4) => self.ip_sans.push(std::net::Ipv4Addr::from(v4).to_string()),
                    Err(_) => match <[u8; 16]>::try_from(*bytes) {
                        Ok(v6) => self.ip_sans.push(std::net::Ipv6Addr::from(v6).to_string()),
                        Err(_) => {
                            return Err(PeerError::Malformed("an IP SAN of a strange length".to_owned()));
                        }
                    },
                },
                _ => {}
            }
        }
        Ok(())
    }

    /// When the certificate is valid, beside a clock.
    pub fn validity(&self, now: SystemTime) -> Validity {
        Validity { not_before: self.not_before, not_after: self.not_after, now }
    }

    /// How the peer is named in messages: its URI SAN, else its first DNS SAN, else its subject.
    pub fn name(&self) -> &str {
        self.uri_sans.first().or(self.dns_sans.first()).map_or(self.subject.as_str(), String::as_str)
    }
}

fn printable(text: &str) -> Result<String, PeerError> {
    if text.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
        Ok(text.to_owned())
    } else {
        Err(PeerError::UnprintableName)
    }
}

fn time_of(seconds: i64) -> SystemTime {
    match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH + Duration::from_secs(after),
        Err(_) => UNIX_EPOCH,
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A distinguished name as RFC 2253 writes it: last part first, special characters escaped.
fn rfc2253(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for relative in name.iter_rdn() {
        let attributes: Vec<String> = relative
            .iter()
            .map(|attribute| {
                let oid = attribute.attr_type();
                let key = match oid.to_id_string().as_str() {
                    "2.5.4.3" => "CN".to_owned(),
                    "2.5.4.6" => "C".to_owned(),
                    "2.5.4.7" => "L".to_owned(),
                    "2.5.4.8" => "ST".to_owned(),
                    "2.5.4.9" => "street".to_owned(),
                    "2.5.4.10" => "O".to_owned(),
                    "2.5.4.11" => "OU".to_owned(),
                    "0.9.2342.19200300.100.1.1" => "UID".to_owned(),
                    "0.9.2342.19200300.100.1.25" => "DC".to_owned(),
                    other => other.to_owned(),
                };
                format!("{key}={}", escape(attribute.as_str().unwrap_or("")))
            })
            .collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn escape(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.chars().count().saturating_sub(1);
    for (index, character) in value.chars().enumerate() {
        let edge = (character == ' ' && (index == 0 || index == last)) || (character == '#' && index == 0);
        if edge || matches!(character, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
            text.push('\\');
            text.push(character);
        } else if character.is_ascii_control() || !character.is_ascii() {
            for byte in character.to_string().bytes() {
                let _ = write!(text, "\\{byte:02X}");
            }
        } else {
            text.push(character);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Authority, Leaf};

    #[test]
    fn reads_names_validity_and_subject() {
        let ca = Authority::new("root");
        let leaf = ca.issue(
            Leaf::new(&["spiffe://cluster.local/ns/production/sa/payment"])
                .dns("payment.local")
                .organization("A, B"),
        );
        let peer = Peer::parse(&leaf.chain[0]).unwrap();
        assert_eq!(peer.spiffe.as_ref().unwrap().service_account(), "payment");
        assert_eq!(peer.dns_sans, ["payment.local"]);
        assert_eq!(peer.subject, r"O=A\, B");
        assert_eq!(peer.hash.len(), 64);
        assert!(!peer.is_ca && !peer.signs_certificates && peer.not_before < peer.not_after);
    }

    #[test]
    fn two_uris_are_no_identity_and_garbage_is_refused() {
        let ca = Authority::new("root");
        let leaf = ca.issue(Leaf::new(&["spiffe://a.b/ns/x/sa/y", "spiffe://a.b/ns/x/sa/z"]));
        let peer = Peer::parse(&leaf.chain[0]).unwrap();
        assert_eq!((peer.spiffe, peer.uri_sans.len()), (None, 2));
        assert!(Peer::parse(b"not a certificate").is_err());
        let mut longer = leaf.chain[0].to_vec();
        longer.push(0);
        assert!(Peer::parse(&longer).is_err());
    }
}
