//! What a peer's certificate must say beyond a valid chain: a workload's certificate with the right name.

use std::fmt;
use std::time::SystemTime;

use crate::peer::{Peer, PeerError, hex};

/// Kind of subject alternative name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SanKind {
    /// A URI, which is where a SPIFFE id stands.
    Uri,
    /// A DNS name.
    Dns,
    /// An IP address.
    Ip,
    /// An e-mail address.
    Email,
}

/// One accepted name. A peer needs to match one of them.
pub struct SanRule {
    /// Where to look.
    pub kind: SanKind,
    /// The rule as text, for messages.
    pub text: String,
    /// An exact DNS name, for which a wildcard in the certificate stands for one label.
    pub exact_dns: Option<String>,
    /// The test on one name.
    pub test: Box<dyn Fn(&str) -> bool + Send + Sync>,
}

impl fmt::Debug for SanRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.text)
    }
}

/// The rules of one TLS context.
#[derive(Debug, Default)]
pub struct PeerRules {
    /// Accepted names; empty: any name that `mesh` allows.
    pub names: Vec<SanRule>,
    /// The trust bundle is the mesh's, so a peer must have exactly one URI SAN and it must be a SPIFFE id.
    pub mesh: bool,
    /// With `mesh`: the only trust domain that is accepted.
    pub trust_domain: Option<String>,
    /// Names are compared with URI SANs, so a peer must have exactly one: with two, it could be either.
    pub one_uri: bool,
    /// SHA-256 of the certificate; with `keys`, one of all must be equal; both empty: any.
    pub certificates: Vec<[u8; 32]>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub keys: Vec<[u8; 32]>,
}

/// Why a peer with a valid chain is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] PeerError),
    /// A certificate authority's certificate used as a workload's.
    #[error("the certificate of {0} is a certificate authority's, not a workload's")]
    Authority(String),
    /// Not exactly one URI SAN.
    #[error("the certificate of {name} has {count} URI names; a workload has exactly one")]
    UriCount {
        /// How the peer calls itself.
        name: String,
        /// How many it has.
        count: usize,
    },
    /// The one URI SAN is not a workload's SPIFFE id.
    #[error("{0}")]
    NotSpiffe(String),
    /// Of another trust domain.
    #[error("the peer is {name}, but this mesh's trust domain is \"{trust_domain}\"")]
    OtherTrustDomain {
        /// How the peer calls itself.
        name: String,
        /// The one that is accepted.
        trust_domain: String,
    },
    /// None of its names is accepted.
    #[error("the peer is {name}; accepted here: {accepted}")]
    WrongName {
        /// How the peer calls itself.
        name: String,
        /// The rules.
        accepted: String,
    },
    /// Neither the certificate nor its key is pinned.
    #[error(
        "the certificate of {0} is none of the pinned ones (verify_certificate_hash, verify_certificate_spki)"
    )]
    NotPinned(String),
    /// Expired, perhaps since the session that is being resumed, or not valid yet.
    #[error("{0}")]
    NotValidNow(String),
}

/// The namespace and service account of the control plane.
const CONTROL_PLANE: (&str, &str) = ("istio-system", "tulled");

impl PeerRules {
    /// Any workload of a mesh.
    pub fn workload_of(trust_domain: &str) -> PeerRules {
        PeerRules { mesh: true, trust_domain: Some(trust_domain.to_owned()), ..PeerRules::default() }
    }

    /// The control plane of a mesh, and nobody else.
    pub fn control_plane_of(trust_domain: &str) -> PeerRules {
        let (namespace, account) = CONTROL_PLANE;
        let wanted = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}");
        let text = wanted.clone();
        let rule =
            SanRule { kind: SanKind::Uri, text, exact_dns: None, test: Box::new(move |name| name == wanted) };
        PeerRules { mesh: true, names: vec![rule], ..PeerRules::default() }
    }

    /// Checks a certificate whose chain is valid, and returns what it says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self, certificate: &[u8]) -> Result<Peer, PeerRefused> {
        let peer = Peer::parse(certificate)?;
        if peer.is_ca || peer.signs_certificates {
            return Err(PeerRefused::Authority(peer.name().to_owned()));
        }
        if (self.mesh || self.one_uri) && peer.uri_sans.len() != 1 {
            return Err(PeerRefused::UriCount { name: peer.name().to_owned(), count: peer.uri_sans.len() });
        }
        if self.mesh && peer.spiffe.is_none() {
            let reason = peer.name().parse::<base::Spiffe>().err().map(|error| error.to_string());
            return Err(PeerRefused::NotSpiffe(reason.unwrap_or_default()));
        }
        if let (Some(wanted), Some(spiffe)) = (&self.trust_domain, &peer.spiffe)
            && spiffe.trust_domain() != wanted
        {
            let (name, trust_domain) = (spiffe.to_string(), wanted.clone());
            return Err(PeerRefused::OtherTrustDomain { name, trust_domain });
        }
        let pinned = self.certificates.is_empty() && self.keys.is_empty()
            || self.certificates.iter().any(|pin| hex(pin) == peer.hash)
            || self.keys.iter().any(|pin| hex(pin) == peer.key_hash);
        if !pinned {
            return Err(PeerRefused::NotPinned(peer.name().to_owned()));
        }
        if !self.names.is_empty() && !self.names.iter().any(|rule| rule.accepts(&peer)) {
            let accepted: Vec<&str> = self.names.iter().map(|rule| rule.text.as_str()).take(16).collect();
            return Err(PeerRefused::WrongName {
                name: peer.name().to_owned(),
                accepted: accepted.join(" or "),
            });
        }
        Ok(peer)
    }

    /// Checks again when a connection is open, because a resumed session skips the chain.
    ///
    /// # Errors
    /// As [`PeerRules::check`], or the certificate is not valid at `now`.
    pub fn check_open(&self, certificate: &[u8], now: SystemTime) -> Result<Peer, PeerRefused> {
        let peer = self.check(certificate)?;
        match peer.validity(now).problem(peer.name()) {
            Some(problem) => Err(PeerRefused::NotValidNow(problem)),
            None => Ok(peer),
        }
    }
}

impl SanRule {
    fn accepts(&self, peer: &Peer) -> bool {
        let names = match self.kind {
            SanKind::Uri => &peer.uri_sans,
            SanKind::Dns => &peer.dns_sans,
            SanKind::Ip => &peer.ip_sans,
            SanKind::Email => &peer.email_sans,
        };
        names.iter().any(|name| {
            (self.test)(name) || self.exact_dns.as_ref().is_some_and(|wanted| wildcard_covers(name, wanted))
        })
    }
}

/// Whether `*.example.com` in a certificate covers a host: the star stands for exactly one whole label (RFC 9525,
/// section 6.3).
fn wildcard_covers(pattern: &str, host: &str) -> bool {
    let Some(suffix) = pattern.strip_prefix("*.") else { return false };
    let Some((label, rest)) = host.split_once('.') else { return false };
    !label.is_empty() && suffix.contains('.') && rest.eq_ignore_ascii_case(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Authority, Leaf};

    fn mesh_rule(prefix: &'static str) -> PeerRules {
        PeerRules {
            mesh: true,
            names: vec![SanRule {
                kind: SanKind::Uri,
                text: prefix.to_owned(),
                exact_dns: None,
                test: Box::new(move |name| name.starts_with(prefix)),
            }],
            ..PeerRules::default()
        }
    }

    #[test]
    fn the_right_workload_passes_and_each_wrong_one_is_named() {
        let ca = Authority::new("root");
        let rules = mesh_rule("spiffe://cluster.local/");
        let check = |leaf: Leaf| rules.check(&ca.issue(leaf).chain[0]).map(|peer| peer.name().to_owned());
        assert_eq!(
            check(Leaf::new(&["spiffe://cluster.local/ns/a/sa/b"])).unwrap(),
            "spiffe://cluster.local/ns/a/sa/b"
        );

        let error = check(Leaf::new(&["spiffe://other.domain/ns/a/sa/b"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the peer is spiffe://other.domain/ns/a/sa/b; accepted here: spiffe://cluster.local/"
        );
        let two = Leaf::new(&["spiffe://cluster.local/ns/a/sa/b", "spiffe://cluster.local/ns/a/sa/c"]);
        assert!(matches!(check(two), Err(PeerRefused::UriCount { count: 2, .. })));
        assert!(matches!(check(Leaf::new(&[]).dns("a.b")), Err(PeerRefused::UriCount { count: 0, .. })));
        assert!(matches!(check(Leaf::new(&["https://cluster.local/x"])), Err(PeerRefused::NotSpiffe(_))));
        let authority = Leaf::new(&["spiffe://cluster.local/ns/a/sa/b"]).authority();
        assert!(matches!(check(authority), Err(PeerRefused::Authority(_))));
    }

    #[test]
    fn a_wildcard_is_one_label() {
        assert!(wildcard_covers("*.example.com", "a.example.com"));
        for (pattern, host) in [
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", "example.com"),
            ("*.com", "example.com"),
            ("*", "example"),
            ("a*.example.com", "ab.example.com"),
        ] {
            assert!(!wildcard_covers(pattern, host), "{pattern} covered {host}");
        }
    }
}
