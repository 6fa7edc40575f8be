//! SPIFFE ids of workloads, as Istio writes them: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.

use std::fmt;
use std::str::FromStr;

/// The longest id accepted, in bytes (SPIFFE ID specification, section 2.3).
pub const MAX_LENGTH: usize = 2048;

/// Identity of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Spiffe {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

/// Why a text is not the SPIFFE id of a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{value}\" is not the SPIFFE id of a workload: {reason}; expected spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT"
)]
pub struct SpiffeError {
    /// The text, cut to 256 characters.
    pub value: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Spiffe {
    /// Builds an id from its three parts; each is checked against the characters that SPIFFE allows.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, SpiffeError> {
        let text = format!("spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}");
        text.parse()
    }

    /// The trust domain, in lower case as SPIFFE demands.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The Kubernetes namespace, or the name of the folder that stands for one.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The form that `AuthorizationPolicy.source.principals` uses: the id without `spiffe://`.
    pub fn principal(&self) -> String {
        format!("{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl fmt::Display for Spiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for Spiffe {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let fail = |reason| SpiffeError { value: text.chars().take(256).collect(), reason };
        if text.len() > MAX_LENGTH {
            return Err(fail("longer than 2048 bytes"));
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| fail("the scheme is not spiffe://"))?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (trust_domain, ns, namespace, sa, service_account) = (next(), next(), next(), next(), next());
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(fail("the path is not /ns/NAMESPACE/sa/SERVICE_ACCOUNT"));
        }
        let domain_ok =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '_');
        if trust_domain.is_empty() || trust_domain.len() > 255 || !trust_domain.chars().all(domain_ok) {
            return Err(fail("the trust domain has characters other than a-z, 0-9, '.', '-' and '_'"));
        }
        for segment in [namespace, service_account] {
            let segment_ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            if segment.is_empty() || segment == "." || segment == ".." || !segment.chars().all(segment_ok) {
                return Err(fail(
                    "a path segment is empty, a dot segment, or has a character outside a-z A-Z 0-9 . - _",
                ));
            }
        }
        Ok(Spiffe {
            trust_domain: trust_domain.to_owned(),
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let id: Spiffe = "spiffe://cluster.local/ns/production/sa/payment".parse().unwrap();
        assert_eq!(
            (id.trust_domain(), id.namespace(), id.service_account()),
            ("cluster.local", "production", "payment")
        );
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/production/sa/payment");
        assert_eq!(id.principal(), "cluster.local/ns/production/sa/payment");
    }

    #[test]
    fn refuses_everything_else() {
        for bad in [
            "",
            "http://cluster.local/ns/a/sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://Cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/../sa/b",
            "spiffe://cluster.local/ns/a%2fb/sa/b",
            "spiffe://cluster.local/ns/a/sa/b\0",
            "spiffe://cluster.local/sa/a/ns/b",
            "spiffe://user@cluster.local/ns/a/sa/b",
            "spiffe://cluster.local:80/ns/a/sa/b",
        ] {
            assert!(bad.parse::<Spiffe>().is_err(), "{bad:?} was accepted");
        }
        assert!(format!("spiffe://a/ns/{}/sa/b", "x".repeat(2048)).parse::<Spiffe>().is_err());
    }
}
