//! The certificate authority of the mesh: its root, what it signs, and the certificate that `tulled` itself serves.

pub mod authority;
pub mod plugged;
pub mod serving;
pub mod sign;

pub use authority::{Authority, AuthorityError};
pub use serving::ServingCertificate;
pub use sign::{Issued, SignError};

use base::{Spiffe, SpiffeError};

/// Namespace of the control plane's own identity.
pub const CONTROL_NAMESPACE: &str = "istio-system";
/// Service account of the control plane's own identity.
pub const CONTROL_SERVICE_ACCOUNT: &str = "tulled";

/// The identity of the control plane in a trust domain. Nobody else is ever given it.
///
/// # Errors
/// The trust domain has characters that SPIFFE forbids.
pub fn control_identity(trust_domain: &str) -> Result<Spiffe, SpiffeError> {
    Spiffe::new(trust_domain, CONTROL_NAMESPACE, CONTROL_SERVICE_ACCOUNT)
}
