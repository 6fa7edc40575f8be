//! What is known about an open TLS connection.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::{CommonState, ProtocolVersion};

use ::tls::{Peer, PeerRefused, PeerRules};

/// Facts of an open TLS connection, collected once after the handshake.
#[derive(Debug, Clone)]
pub struct Session {
    /// The peer's certificate; `None`: it presented none, and none was demanded.
    pub peer: Option<Arc<Peer>>,
    /// URI SAN of our own certificate: `By=` of `x-forwarded-client-cert`.
    pub local_uri: Option<Arc<str>>,
    /// Server name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// Application protocol that was agreed on.
    pub alpn: Option<Arc<str>>,
    /// `TLSv1.2` or `TLSv1.3`, as Envoy's `%DOWNSTREAM_TLS_VERSION%` writes it.
    pub version: &'static str,
}

impl Session {
    pub(super) fn collect(
        state: &CommonState,
        rules: Option<&PeerRules>,
        local_uri: Option<Arc<str>>,
        sni: Option<&str>,
        now: SystemTime,
    ) -> Result<Session, PeerRefused> {
        let peer = match (state.peer_certificates().and_then(<[_]>::first), rules) {
            (Some(leaf), Some(rules)) => Some(Arc::new(rules.check_open(leaf, now)?)),
            _ => None,
        };
        Ok(Session {
            peer,
            local_uri,
            sni: sni.map(Arc::from),
            alpn: state.alpn_protocol().map(|name| String::from_utf8_lossy(name).into()),
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "-",
            },
        })
    }
}
