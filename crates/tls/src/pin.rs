//! The pin of a root: SHA-256 of its public key. First contact trusts the root whose pin is in the join token.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// SHA-256 of a root's SubjectPublicKeyInfo.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootPin(pub [u8; 32]);

impl RootPin {
    /// The pin of a public key.
    pub fn of(subject_public_key_info: &[u8]) -> RootPin {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, subject_public_key_info);
        let mut pin = [0; 32];
        pin.copy_from_slice(digest.as_ref());
        RootPin(pin)
    }

    /// The pin of a certificate.
    ///
    /// # Errors
    /// It cannot be parsed.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<RootPin, PinError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| PinError::Malformed(error.to_string()))?;
        Ok(RootPin::of(parsed.tbs_certificate.subject_pki.raw))
    }
}

impl fmt::Debug for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RootPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The server's root is not the one of the join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// The server sent its leaf only.
    #[error("the server sent no root certificate, so it cannot be compared with the join token's root")]
    NoRoot,
    /// Another root.
    #[error(
        "the server's root key is {found}, and the join token was made for {expected}: the token is of another mesh, \
         or something between here and the control plane terminates TLS"
    )]
    OtherRoot {
        /// Of the server's last certificate.
        found: String,
        /// Of the token.
        expected: String,
    },
    /// The root cannot be read.
    #[error("the server's root certificate cannot be parsed: {0}")]
    Malformed(String),
}
