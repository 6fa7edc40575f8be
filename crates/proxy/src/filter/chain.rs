//! The HTTP filters of a connection manager, built when the configuration is applied.

use std::fmt;
use std::io;
use std::sync::Arc;

use config::model::{Direction, HttpConnectionManager, HttpFilterKind};

use super::exchange::Exchange;
use super::local_reply::LocalReply;
use super::peer_metadata::PeerMetadata;
use super::rbac::Rbac;
use super::router::Router;
use super::stats::Stats;
use super::tracing::ChainTracing;
use super::worker::Shared;
use crate::http::{RequestHead, ResponseHead};
use crate::telemetry::access_log::AccessLogs;
use crate::telemetry::captures::Captures;
use crate::telemetry::labels::Reporter;
use crate::upstream::Attempt;

/// What a filter wants to happen with a request.
#[derive(Debug)]
pub enum Verdict {
    /// The next filter is asked.
    Continue,
    /// The request ends here with that answer.
    Reply(Box<LocalReply>),
}

/// One HTTP filter. Hooks never wait: what takes time belongs off the request path or into the router.
pub trait Filter: Send + Sync + fmt::Debug {
    /// Called once per request, in the order of the chain, after the route was chosen and before anything is sent.
    fn on_request(&self, _head: &mut RequestHead, _exchange: &mut Exchange) -> Verdict {
        Verdict::Continue
    }

    /// Called before each try, in the order of the chain, when host and connection are known.
    fn on_attempt(&self, _head: &mut RequestHead, _attempt: &Attempt<'_>, _exchange: &mut Exchange) {}

    /// Called once per response, in reverse order, also for answers of the proxy.
    fn on_response(&self, _head: &mut ResponseHead, _exchange: &mut Exchange) {}

    /// Called once when request and response have ended, whichever way.
    fn on_end(&self, _exchange: &Exchange) {}
}

/// A connection manager ready for use. Shared by all workers.
#[derive(Debug)]
pub struct HttpChain {
    /// The configuration.
    pub config: Arc<HttpConnectionManager>,
    /// Which side of a call this proxy reports.
    pub reporter: Reporter,
    /// Its access logs.
    pub logs: AccessLogs,
    /// What is taken from heads for logs and labels.
    pub captures: Captures,
    /// Its traces; `None`: it has nothing to do with them.
    pub tracing: Option<ChainTracing>,
    /// The last filter.
    pub router: Router,
    filters: Vec<Box<dyn Filter>>,
}

impl HttpChain {
    /// Builds the chain of a connection manager of a listener with that direction.
    ///
    /// # Errors
    /// An access log cannot be opened.
    pub fn build(
        config: &Arc<HttpConnectionManager>,
        direction: Direction,
        shared: &Shared,
    ) -> io::Result<Arc<Self>> {
        let mut filters: Vec<Box<dyn Filter>> = Vec::new();
        let mut router = Router::default();
        let mut captures = Captures::default();
        for filter in &config.http_filters {
            match &filter.kind {
                HttpFilterKind::Rbac(rbac) => filters.push(Box::new(Rbac::new(rbac))),
                HttpFilterKind::PeerMetadata(options) => filters.push(Box::new(PeerMetadata::new(*options))),
                HttpFilterKind::Stats(options) => {
                    filters.push(Box::new(Stats::new(options, &shared.registry, &mut captures)))
                }
                HttpFilterKind::Router(options) => router = Router::new(*options),
            }
        }
        let reporter = Reporter::of(direction);
        let logs = AccessLogs::compile(&config.access_log, shared.outlets(), &mut captures)?;
        let tracing = ChainTracing::build(config, direction, shared);
        Ok(Arc::new(Self { config: config.clone(), reporter, logs, captures, tracing, router, filters }))
    }

    /// The filters before the router, in order.
    pub fn filters(&self) -> impl DoubleEndedIterator<Item = &dyn Filter> {
        self.filters.iter().map(|filter| &**filter)
    }
}
