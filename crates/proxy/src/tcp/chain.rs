//! A TCP proxy ready for connections: its access logs are compiled once.

use std::io;
use std::sync::Arc;

use config::model::{Direction, StatsFilter, TcpProxy};

use super::metrics::Counting;
use crate::filter::Shared;
use crate::telemetry::access_log::AccessLogs;
use crate::telemetry::captures::Captures;
use crate::telemetry::labels::Reporter;
use crate::telemetry::metric_set::MetricSet;
use crate::telemetry::shape::Shape;

/// `envoy.filters.network.tcp_proxy` of one filter chain. Shared by all workers.
#[derive(Debug)]
pub struct TcpChain {
    /// The configuration.
    pub config: Arc<TcpProxy>,
    /// Its access logs.
    pub logs: AccessLogs,
    /// How its connections are counted in Istio's metrics, if they are.
    pub counting: Option<Arc<Counting>>,
}

impl TcpChain {
    /// Builds the chain of a TCP proxy of a listener with that direction; `stats`: `istio.stats`
    /// stands before it with these options.
    ///
    /// # Errors
    /// An access log cannot be opened.
    pub fn build(
        config: &Arc<TcpProxy>,
        direction: Direction,
        stats: Option<&StatsFilter>,
        shared: &Shared,
    ) -> io::Result<Arc<Self>> {
        let logs = AccessLogs::compile(&config.access_log, shared.outlets(), &mut Captures::default())?;
        let counting = stats.map(|options| {
            let shapes = Shape::compile(options, MetricSet::TCP, &shared.registry);
            let interval = options.tcp_reporting_duration;
            Arc::new(Counting { reporter: Reporter::of(direction), interval, shapes })
        });
        Ok(Arc::new(TcpChain { config: config.clone(), logs, counting }))
    }
}
