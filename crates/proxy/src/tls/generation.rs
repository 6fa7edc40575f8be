//! What a built TLS configuration, and with it every session that can be resumed, is bound to: one generation of the
//! workload's secrets, and the time until the first certificate ends that a session was made with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use ::tls::error::{Validity, unix};
use rustls::sign::CertifiedKey;

use super::secrets::{SecretSet, Secrets};
use super::{Peer, Session};

/// One generation of one TLS context. A session cache lives and dies with it, so that no session is resumed under another
/// own identity, another trust bundle or another context, or when the certificate behind it has expired: the next
/// handshake is a full one and verifies anew.
#[derive(Debug)]
pub(super) struct Generation {
    version: u64,
    own: Option<Arc<Peer>>,
    local_uri: Option<Arc<str>>,
    /// Seconds since the epoch; after them the sessions are forgotten.
    sessions_end: AtomicU64,
}

impl Generation {
    /// Of the secrets `current`, showing `key` to the peer.
    pub(super) fn new(current: Option<&SecretSet>, key: Option<&CertifiedKey>) -> Generation {
        let own = key.and_then(|key| key.cert.first()).and_then(|leaf| Peer::parse(leaf).ok());
        let local_uri = own.as_ref().and_then(|own| own.uri_sans.first()).map(|uri| Arc::from(uri.as_str()));
        Generation {
            version: current.map_or(0, |set| set.version),
            own: own.map(Arc::new),
            local_uri,
            sessions_end: AtomicU64::new(u64::MAX),
        }
    }

    /// Whether new handshakes may still use it.
    pub(super) fn is_current(&self, secrets: &Secrets) -> bool {
        self.version == secrets.version() && unix(secrets.now()) <= self.sessions_end.load(Ordering::Relaxed)
    }

    /// A session was made with this peer.
    pub(super) fn opened(&self, session: &Session) {
        if let Some(peer) = &session.peer {
            self.sessions_end.fetch_min(unix(peer.not_after), Ordering::Relaxed);
        }
    }

    /// URI name of the own certificate.
    pub(super) fn local_uri(&self) -> Option<Arc<str>> {
        self.local_uri.clone()
    }

    /// When the own certificate is valid.
    pub(super) fn validity(&self, now: SystemTime) -> Option<Validity> {
        self.own.as_ref().map(|own| own.validity(now))
    }
}
