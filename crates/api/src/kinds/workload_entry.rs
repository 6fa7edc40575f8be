//! `WorkloadEntry` (networking.istio.io): one workload instance outside a pod.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The spec of a WorkloadEntry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// IP address or DNS name; may be empty when `network` is set.
    pub address: String,
    /// Port name to port number; beats the service's target port and number.
    pub ports: BTreeMap<String, u32>,
    /// Labels that services and policies select by.
    pub labels: BTreeMap<String, String>,
    /// Network the address belongs to.
    pub network: String,
    /// `region/zone/subzone`.
    pub locality: String,
    /// Share of traffic; unset and 0 count as 1.
    pub weight: u32,
    /// Account that gives the identity; in the entry's own namespace.
    pub service_account: String,
}
