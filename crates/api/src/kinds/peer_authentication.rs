//! `PeerAuthentication` (security.istio.io): which traffic a workload accepts.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::WorkloadSelector;

/// The spec of a PeerAuthentication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    /// Workloads of the own namespace; unset: the namespace (or the mesh, in the root namespace).
    pub selector: Option<WorkloadSelector>,
    /// Mode of all ports.
    pub mtls: Option<MutualTls>,
    /// Mode by port of the workload (not of the service); needs a selector.
    pub port_level_mtls: BTreeMap<u32, MutualTls>,
}

/// Istio's `MutualTLS`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MutualTls {
    /// Mode; `UNSET` inherits.
    pub mode: MutualTlsMode,
}

/// What a port accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// Inherited from the parent level.
    #[default]
    Unset,
    /// Plaintext only.
    Disable,
    /// Both.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
