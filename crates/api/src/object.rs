//! A resource of any kind that Tulle reads, its metadata and its key.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::kinds::authorization_policy::AuthorizationPolicy;
use crate::kinds::destination_rule::DestinationRule;
use crate::kinds::namespace::Namespace;
use crate::kinds::peer_authentication::PeerAuthentication;
use crate::kinds::service::Service;
use crate::kinds::telemetry::Telemetry;
use crate::kinds::virtual_service::VirtualService;
use crate::kinds::workload_entry::WorkloadEntry;
use crate::origin::Origin;

/// Kubernetes' `metadata`. What only its API server uses is known and not kept.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Name, unique within kind and namespace.
    pub name: String,
    /// Namespace; never empty after parsing, but for a Namespace.
    pub namespace: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// RFC 3339 time; empty for a resource of a file. "Oldest first" goes by it, then by name and namespace.
    pub creation_timestamp: String,
    /// Counted up by the API server with each change of the spec.
    pub generation: i64,
    /// Version in the API server.
    pub resource_version: String,
    /// Unique id in the API server.
    pub uid: String,
    generate_name: IgnoredAny,
    self_link: IgnoredAny,
    deletion_timestamp: IgnoredAny,
    deletion_grace_period_seconds: IgnoredAny,
    owner_references: IgnoredAny,
    finalizers: IgnoredAny,
    managed_fields: IgnoredAny,
}

/// A resource of one kind.
#[derive(Debug, Clone, Default)]
pub struct Resource<S> {
    /// Name, namespace, labels, annotations.
    pub meta: ObjectMeta,
    /// What its author asks for.
    pub spec: S,
    /// Where it was written.
    pub origin: Origin,
}

impl<S: PartialEq> Resource<S> {
    /// Whether both mean the same, wherever they were written: a moved line or a comment changes nothing.
    pub fn same_content(&self, other: &Self) -> bool {
        self.meta == other.meta && self.spec == other.spec
    }
}

/// What names a resource: kind, namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind.
    pub kind: Kind,
    /// Namespace; empty for a Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for Key {
    /// `VirtualService/production/payment-service`; a Namespace is `Namespace/production`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident in [$($version:literal),+],)+) => {
        /// A kind that Tulle reads.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)+ }

        impl Kind {
            /// Every kind that is read.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),+];

            /// As `kind:` in YAML.
            pub const fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind)),+ }
            }

            /// The `apiVersion`s that are accepted, best first.
            pub const fn api_versions(self) -> &'static [&'static str] {
                match self { $(Kind::$kind => &[$($version),+]),+ }
            }
        }

        /// A resource of any kind that Tulle reads. Cheap to clone.
        #[derive(Debug, Clone)]
        pub enum Object { $($(#[$doc])* $kind(Arc<Resource<$kind>>),)+ }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind),+ }
            }

            /// Its metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Object::$kind(resource) => &resource.meta),+ }
            }

            /// Where it was written.
            pub fn origin(&self) -> &Origin {
                match self { $(Object::$kind(resource) => &resource.origin),+ }
            }

            /// Whether both mean the same, wherever they were written.
            pub fn same_content(&self, other: &Object) -> bool {
                match (self, other) {
                    $((Object::$kind(one), Object::$kind(two)) => Arc::ptr_eq(one, two) || one.same_content(two),)+
                    _ => false,
                }
            }
        }
    };
}

kinds! {
    /// Core Service.
    Service in ["v1"],
    /// Core Namespace.
    Namespace in ["v1"],
    /// One workload instance outside a pod.
    WorkloadEntry in ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"],
    /// Routes to a host.
    VirtualService in ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"],
    /// How a service is called.
    DestinationRule in ["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"],
    /// Which traffic a workload accepts.
    PeerAuthentication in ["security.istio.io/v1", "security.istio.io/v1beta1"],
    /// Who may call what.
    AuthorizationPolicy in ["security.istio.io/v1", "security.istio.io/v1beta1"],
    /// Metrics, traces and access logs of workloads.
    Telemetry in ["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"],
}

impl Kind {
    /// The kind with this name.
    pub fn parse(name: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Object {
    /// What names it.
    pub fn key(&self) -> Key {
        let meta = self.meta();
        Key { kind: self.kind(), namespace: meta.namespace.clone(), name: meta.name.clone() }
    }
}
