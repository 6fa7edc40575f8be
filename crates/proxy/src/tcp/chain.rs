//! A TCP proxy ready for connections: its access logs are compiled once.

use std::io;
use std::sync::Arc;

use config::model::{Direction, TcpProxy};

use crate::filter::Shared;
use crate::telemetry::access_log::AccessLogs;
use crate::telemetry::labels::Reporter;

/// `envoy.filters.network.tcp_proxy` of one filter chain. Shared by all workers.
#[derive(Debug)]
pub struct TcpChain {
    /// The configuration.
    pub config: Arc<TcpProxy>,
    /// Its access logs.
    pub logs: AccessLogs,
    /// Which side of a call this proxy reports, if its connections are counted in Istio's metrics.
    pub reporter: Option<Reporter>,
}

impl TcpChain {
    /// Builds the chain of a TCP proxy of a listener with that direction; `counts`: `istio.stats` stands before it.
    ///
    /// # Errors
    /// An access log cannot be opened.
    pub fn build(
        config: &Arc<TcpProxy>,
        direction: Direction,
        counts: bool,
        shared: &Shared,
    ) -> io::Result<Arc<Self>> {
        let logs = AccessLogs::compile(&config.access_log, &shared.sinks)?;
        let reporter = counts.then(|| Reporter::of(direction));
        Ok(Arc::new(TcpChain { config: config.clone(), logs, reporter }))
    }
}
