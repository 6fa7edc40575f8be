//! TLS on both sides.

use super::StringMatcher;
use std::sync::Arc;

/// TLS termination (`DownstreamTlsContext`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownstreamTls {
    /// A client certificate is demanded, and verified by `trust`.
    pub require_client_certificate: bool,
    /// Versions.
    pub parameters: TlsParameters,
    /// Our ALPN protocols in order of preference; empty: none.
    pub alpn: Vec<Arc<str>>,
    /// Our certificate.
    pub certificate: CertificateSource,
    /// What a client certificate is verified with; `None` accepts none.
    pub trust: Option<TrustSource>,
}

/// TLS towards an upstream (`UpstreamTlsContext`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// SNI; empty: none.
    pub sni: Arc<str>,
    /// Versions.
    pub parameters: TlsParameters,
    /// ALPN protocols that we offer; empty: by HTTP version.
    pub alpn: Vec<Arc<str>>,
    /// Our certificate; `None` sends none.
    pub certificate: Option<CertificateSource>,
    /// What the upstream's certificate is verified with. A configuration without is refused: nothing would be verified.
    pub trust: TrustSource,
}

/// Versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsParameters {
    /// Lowest.
    pub minimum: TlsVersion,
    /// Highest.
    pub maximum: TlsVersion,
}

/// A TLS version that is still safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Where certificate chain and key come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// The secret of that name; `default` is the workload's own.
    Sds(Arc<str>),
    /// PEM files.
    Files {
        /// Chain, the leaf first.
        chain: Arc<str>,
        /// Private key.
        key: Arc<str>,
    },
    /// PEM in the configuration.
    Inline {
        /// Chain, the leaf first.
        chain: Arc<[u8]>,
        /// Private key.
        key: PrivateKey,
    },
}

/// PEM of a private key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(pub Arc<[u8]>);

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[private key]")
    }
}

/// What a peer's certificate is verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSource {
    /// The roots.
    pub roots: Roots,
    /// One of these must match one SAN of the peer; empty: any certificate of the roots.
    pub sans: Vec<SanMatcher>,
    /// SHA-256 of the peer certificate's SubjectPublicKeyInfo, one must be equal; empty: any.
    pub spki: Vec<[u8; 32]>,
    /// SHA-256 of the peer's certificate, one must be equal; empty: any.
    pub certificate_hash: Vec<[u8; 32]>,
}

/// Where root certificates come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The secret of that name; `ROOTCA` is the mesh's.
    Sds(Arc<str>),
    /// A PEM file.
    File(Arc<str>),
    /// PEM in the configuration.
    Inline(Arc<[u8]>),
}

/// A condition on a subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SanMatcher {
    /// Which kind of name; `None` takes all kinds (deprecated `match_subject_alt_names`).
    pub kind: Option<SanType>,
    /// The condition.
    pub matcher: StringMatcher,
}

/// Kinds of subject alternative names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SanType {
    /// `rfc822Name`.
    Email,
    /// `dNSName`; an exact matcher also accepts a certificate's one-label wildcard.
    Dns,
    /// `uniformResourceIdentifier`: SPIFFE ids.
    Uri,
    /// `iPAddress`.
    IpAddress,
}
