//! Settings that Envoy takes from its runtime and that act here.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The runtime settings of a bootstrap's static layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// Downstream connections of the process; `overload.global_downstream_max_connections`.
    pub max_connections: Option<u64>,
    /// Downstream connections of a listener by its name; `envoy.resource_limits.listener.NAME.connection_limit`.
    pub listener_connections: BTreeMap<Arc<str>, u64>,
    /// Whether a host that refuses, resets or goes away is passed over for a moment while there are others;
    /// `tulle.upstream.pass_over_unreachable_hosts`. Envoy has nothing like it.
    pub pass_over_unreachable_hosts: bool,
}

impl Default for RuntimeSettings {
    fn default() -> Self {
        RuntimeSettings {
            max_connections: None,
            listener_connections: BTreeMap::new(),
            pass_over_unreachable_hosts: true,
        }
    }
}
