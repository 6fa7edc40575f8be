//! What a proxy is started with.

use super::{Address, Cluster, Listener, Tracer, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An Envoy bootstrap.
#[derive(Debug, Clone, PartialEq)]
pub struct Bootstrap {
    /// Who this proxy is.
    pub node: Node,
    /// The admin server; none without an address.
    pub admin: Option<Admin>,
    /// Static listeners.
    pub listeners: Vec<Arc<Listener>>,
    /// Static clusters.
    pub clusters: Vec<Arc<Cluster>>,
    /// Where further configuration comes from.
    pub ads: Option<AdsConfig>,
    /// Where the certificates `default` and `ROOTCA` come from (`node.metadata.TULLE_IDENTITY`).
    pub identity: Option<Identity>,
    /// Makes spans for listeners that ask for traces and name nobody.
    pub tracer: Option<Arc<Tracer>>,
    /// Runtime settings that act.
    pub runtime: super::RuntimeSettings,
    /// File to which ejections and returns are written, one JSON object a line
    /// (`cluster_manager.outlier_detection.event_log_path`).
    pub outlier_event_log: Option<Arc<str>>,
}

/// Who a proxy is. The identity block is not part of it: it is never sent to an xDS server.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Unique id.
    pub id: Arc<str>,
    /// Group of proxies (service-cluster).
    pub cluster: Arc<str>,
    /// Free-form metadata without `TULLE_IDENTITY`.
    pub metadata: BTreeMap<Arc<str>, Value>,
    /// Region, zone and sub-zone.
    pub locality: super::Locality,
}

impl Node {
    /// A text field of the metadata.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }
}

/// The admin server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens.
    pub address: Address,
}

/// `dynamic_resources`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdsConfig {
    /// The static cluster of the xDS server.
    pub cluster: Arc<str>,
    /// Delta or state of the world.
    pub protocol: AdsProtocol,
    /// Listeners come from it.
    pub listeners: bool,
    /// Clusters come from it.
    pub clusters: bool,
}

/// The two forms of the ADS stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdsProtocol {
    /// `DELTA_GRPC`.
    Delta,
    /// `GRPC`.
    StateOfTheWorld,
}

/// How this proxy gets its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `host:port` of the signing service.
    pub ca_address: Arc<str>,
    /// File that holds the join token; not needed while a valid certificate is there.
    pub token_file: Option<Arc<str>>,
    /// The workload's own 0700 directory for key and certificates.
    pub state_directory: Arc<str>,
    /// Trust domain of the mesh.
    pub trust_domain: Arc<str>,
    /// Lifetime of the certificates that are asked for, in seconds; a day where nothing is said. The signing service may
    /// shorten it.
    pub lifetime_seconds: Option<u32>,
}
