//! A failed handshake in words: which peer, why, and whose doing.

use std::io;
use std::time::{Duration, SystemTime};

use base::{Blame, Reason};
use rustls::{AlertDescription, CertificateError, Error};

use crate::rules::PeerRefused;

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
    /// The stable code.
    pub code: Reason,
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

    /// The code of a failed handshake with a peer on this side.
    fn code(self, what: What) -> Reason {
        match (self, what) {
            (Side::Upstream, What::OutOfDate) => Reason::UpstreamCertificateExpired,
            (Side::Upstream, What::Name) => Reason::UpstreamTlsName,
            (Side::Upstream, What::Other) => Reason::UpstreamTls,
            (Side::Downstream, What::OutOfDate) => Reason::DownstreamCertificateExpired,
            (Side::Downstream, What::Name | What::Other) => Reason::DownstreamTls,
        }
    }
}

/// What was wrong, as far as it has a code of its own.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The peer's certificate is not valid now.
    OutOfDate,
    /// It carries another name.
    Name,
    Other,
}

impl What {
    fn of(error: &Error) -> What {
        let Error::InvalidCertificate(reason) = error else { return What::Other };
        match reason {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => What::OutOfDate,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => What::Name,
            CertificateError::Other(other) => other.0.downcast_ref().map_or(What::Other, What::of_rules),
            _ => What::Other,
        }
    }

    fn of_rules(refused: &PeerRefused) -> What {
        match refused {
            PeerRefused::NotValidNow(_) => What::OutOfDate,
            PeerRefused::OtherTrustDomain { .. }
            | PeerRefused::WrongName { .. }
            | PeerRefused::NotSpiffe(_)
            | PeerRefused::UriCount { .. }
            | PeerRefused::NotPinned(_) => What::Name,
            PeerRefused::Unreadable(_) | PeerRefused::Authority(_) => What::Other,
        }
    }
}

/// When a certificate of ours is valid, and what our clock says: shown when the peer finds it out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before.
    pub not_before: SystemTime,
    /// Not valid after.
    pub not_after: SystemTime,
    /// Our clock.
    pub now: SystemTime,
}

impl Validity {
    /// Why the certificate of `name` is not valid now, with both clocks and the remedy; `None` when it is.
    pub fn problem(&self, name: &str) -> Option<String> {
        let text = |time| clock_text(unix(time));
        let now = text(self.now);
        if self.now > self.not_after {
            let end = text(self.not_after);
            return Some(format!(
                "the certificate of {name} expired at {end}, and this machine's clock says {now}: {REMEDY}"
            ));
        }
        if self.now < self.not_before {
            let start = text(self.not_before);
            return Some(format!(
                "the certificate of {name} is valid from {start} on, and this machine's clock says {now}: {REMEDY}"
            ));
        }
        None
    }
}

impl std::fmt::Display for Validity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |time| clock_text(unix(time));
        let (start, end, now) = (text(self.not_before), text(self.not_after), text(self.now));
        write!(
            f,
            "this side's certificate is valid from {start} to {end}, and this machine's clock says {now}"
        )
    }
}

/// Seconds since the epoch; 0 before it.
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl HandshakeError {
    /// From the error of the TLS library or of the socket. `own`: of the certificate that this side showed.
    pub fn from_io(
        peer: impl ToString,
        side: Side,
        error: &io::Error,
        own: Option<Validity>,
    ) -> HandshakeError {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let (reason, blame) = match inner {
            Some(error) => describe(error, side, own),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                ("the peer closed the connection during the handshake".to_owned(), side.blame())
            }
            None => (error.to_string(), side.blame()),
        };
        let expired = matches!(inner, Some(Error::AlertReceived(AlertDescription::CertificateExpired)));
        // The peer is right by our own clock too: it is our doing.
        if expired && side == Side::Downstream && own.is_some_and(|own| own.problem("").is_some()) {
            let code = Reason::OwnCertificateExpired;
            return HandshakeError { peer: peer.to_string(), reason, blame: Blame::Local, code };
        }
        let code = side.code(inner.map_or(What::Other, What::of));
        HandshakeError { peer: peer.to_string(), reason, blame, code }
    }

    /// The handshake took too long.
    pub fn timeout(peer: impl ToString, side: Side, limit: Duration) -> HandshakeError {
        let reason = format!("not finished within {limit:?}");
        HandshakeError { peer: peer.to_string(), reason, blame: side.blame(), code: side.code(What::Other) }
    }

    /// Our own doing.
    pub fn local(peer: impl ToString, side: Side, reason: impl Into<String>) -> HandshakeError {
        let code = side.code(What::Other);
        HandshakeError { peer: peer.to_string(), reason: reason.into(), blame: Blame::Local, code }
    }

    /// A peer with a valid chain that the rules do not take.
    pub fn peer(peer: impl ToString, side: Side, refused: &PeerRefused) -> HandshakeError {
        let (blame, code) = (side.blame(), side.code(What::of_rules(refused)));
        HandshakeError { peer: peer.to_string(), reason: refused.to_string(), blame, code }
    }
}

fn describe(error: &Error, side: Side, own: Option<Validity>) -> (String, Blame) {
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
                AlertDescription::CertificateExpired => return (own_is_out_of_date(own), peer),
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

/// What to do when two clocks do not agree about a certificate.
const REMEDY: &str = "correct the clock that is wrong, or have the certificate renewed where both are right";

fn own_is_out_of_date(own: Option<Validity>) -> String {
    let mut text = "the peer refused with alert CertificateExpired (this side's certificate has expired, or is not valid \
                    yet, by the peer's clock)"
        .to_owned();
    if let Some(own) = own {
        text.push_str(&format!("; {own}: {REMEDY}"));
    }
    text
}

fn certificate_text(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired => "the peer's certificate has expired by this machine's clock".to_owned(),
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the peer's certificate expired at {}, and this machine's clock says {}: {REMEDY}",
            clock_text(not_after.as_secs()),
            clock_text(time.as_secs())
        ),
        CertificateError::NotValidYet => {
            "the peer's certificate is not valid yet by this machine's clock".to_owned()
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the peer's certificate is valid from {} on, and this machine's clock says {}: {REMEDY}",
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
