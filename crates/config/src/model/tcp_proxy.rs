//! Forwarding of bytes.

use super::AccessLog;
use std::sync::Arc;
use std::time::Duration;

/// `envoy.filters.network.tcp_proxy`.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpProxy {
    /// Prefix of its metrics.
    pub stat_prefix: Arc<str>,
    /// Where connections go.
    pub cluster: TcpCluster,
    /// A connection without bytes in both directions for so long is closed (Envoy's default 1 h); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// The longest life of a connection; `None`: no bound.
    pub max_connection_duration: Option<Duration>,
    /// Up to so much is added to that, in percent, drawn anew for each connection.
    pub duration_jitter_percent: f64,
    /// Attempts to connect upstream, at least 1.
    pub max_connect_attempts: u32,
    /// Written when the connection ends.
    pub access_log: Vec<AccessLog>,
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpCluster {
    /// Always there.
    One(Arc<str>),
    /// By weight; the sum is above 0.
    Weighted {
        /// Name and weight.
        clusters: Vec<(Arc<str>, u32)>,
        /// Sum of the weights.
        total: u64,
    },
}
