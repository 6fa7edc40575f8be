//! A failed handshake in words: which peer, why, and whose doing.

use std::io;
use std::time::Duration;

use base::Blame;
use rustls::{AlertDescription, CertificateError, Error};

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("TLS handshake with {peer} failed: {reason}")]
pub struct HandshakeError {
    /// Address of the peer.
    pub peer: String,
    /// What went wrong, and what to do where that is known.
    pub reason: String,
    /// Whose doing: `Local` for our own missing certificate, else the side that the peer is on.
    pub blame: Blame,
}

/// Which side of a connection the peer is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer called us.
    Downstream,
    /// We called the peer.
    Upstream,
}

impl Side {
    /// The blame of a peer on this side.
    pub fn blame(self) -> Blame {
        match self {
            Side::Downstream => Blame::Downstream,
            Side::Upstream => Blame::Upstream,
        }
    }
}

impl HandshakeError {
    /// From the error of the TLS library or of the socket.
    pub fn from_io(peer: impl ToString, side: Side, error: &io::Error) -> HandshakeError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let (reason, blame) = match inner {
            Some(error) => describe(error, side),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                ("the peer closed the connection during the handshake".to_owned(), side.blame())
            }
            None => (error.to_string(), side.blame()),
        };
        HandshakeError { peer: peer.to_string(), reason, blame }
    }

    /// The handshake took too long.
    pub fn timeout(peer: impl ToString, side: Side, limit: Duration) -> HandshakeError {
        let reason = format!("not finished within {limit:?}");
        HandshakeError { peer: peer.to_string(), reason, blame: side.blame() }
    }

    /// Our own doing.
    pub fn local(peer: impl ToString, reason: impl Into<String>) -> HandshakeError {
        HandshakeError { peer: peer.to_string(), reason: reason.into(), blame: Blame::Local }
    }

    /// The peer's doing.
    pub fn peer(peer: impl ToString, side: Side, reason: impl ToString) -> HandshakeError {
        HandshakeError { peer: peer.to_string(), reason: reason.to_string(), blame: side.blame() }
    }
}

fn describe(error: &Error, side: Side) -> (String, Blame) {
    let peer = side.blame();
    match error {
        Error::InvalidCertificate(CertificateError::Other(reason)) => (reason.0.to_string(), peer),
        Error::InvalidCertificate(reason) => (certificate_text(reason), peer),
        Error::NoCertificatesPresented => {
            ("the peer presented no certificate, and one is required".to_owned(), peer)
        }
        Error::InvalidMessage(_) => ("the peer does not speak TLS on this connection".to_owned(), peer),
        Error::AlertReceived(alert) => {
            let hint = match alert {
                AlertDescription::CertificateRequired => " (it wants a certificate, and this side has none)",
                AlertDescription::UnknownCA => " (it does not trust the root of this side's certificate)",
                AlertDescription::CertificateExpired => {
                    " (this side's certificate has expired by the peer's clock)"
                }
                AlertDescription::BadCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied => " (it does not accept this side's identity)",
                _ => "",
            };
            (format!("the peer refused with alert {alert:?}{hint}"), peer)
        }
        other => (other.to_string(), peer),
    }
}

fn certificate_text(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired => "the peer's certificate has expired by this machine's clock".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the peer's certificate expired at {}, and this machine's clock says {}",
            clock_text(not_after.as_secs()),
            clock_text(time.as_secs())
        ),
        CertificateError::NotValidYet => {
            "the peer's certificate is not valid yet by this machine's clock".to_owned()
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the peer's certificate is valid from {} on, and this machine's clock says {}",
            clock_text(not_before.as_secs()),
            clock_text(time.as_secs())
        ),
        CertificateError::UnknownIssuer => {
            "the peer's certificate is not signed by a root that is trusted here".to_owned()
        }
        other => format!("the peer's certificate is not acceptable: {other}"),
    }
}

/// Seconds since the epoch as RFC 3339.
pub fn clock_text(seconds: u64) -> String {
    let format = &time::format_description::well_known::Rfc3339;
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| time::OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(format).ok())
        .unwrap_or_else(|| format!("{seconds} s after 1970"))
}
