//! A listener's filter chains, ready for connections.

use std::sync::Arc;

use config::Refused;
use config::model::{Codec, Direction, FilterChain, Listener, ListenerFilter, NetworkFilter};
use runtime::{Drain, DrainWatch};

use super::inspect::Inspectors;
use crate::filter::{HttpChain, Shared};
use crate::tcp::TcpChain;
use crate::telemetry::access_log::AccessLogs;
use crate::telemetry::captures::Captures;
use crate::tls::{Secrets, ServerTls};

/// ALPN name of HTTP/2.
pub const ALPN_HTTP2: &str = "h2";

/// One filter chain with its TLS state. Its connections are told when it is replaced or removed; what becomes of them is
/// the business of [`super::attachment`].
#[derive(Debug)]
pub struct Chain {
    /// The configuration.
    pub config: FilterChain,
    /// TLS termination.
    pub tls: Option<Arc<ServerTls>>,
    /// The HTTP filters, if the chain ends in a connection manager.
    pub http: Option<Arc<HttpChain>>,
    /// The TCP proxy, if the chain ends in one.
    pub tcp: Option<Arc<TcpChain>>,
    drain: Drain,
    watch: DrainWatch,
}

/// What chains are built with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What all HTTP chains share.
    pub shared: Arc<Shared>,
    /// The workload's certificates.
    pub secrets: Arc<Secrets>,
}

impl Chain {
    /// `kept`: the TLS state of an earlier chain with the same TLS context, with its sessions.
    fn build(
        config: &FilterChain,
        direction: Direction,
        parts: &Parts,
        kept: Option<Arc<ServerTls>>,
    ) -> Result<Chain, Refused> {
        check_filters(config)?;
        let refused = |error: std::io::Error| {
            let path = format!("filters[{}].typed_config", config.filters.len().saturating_sub(1));
            Refused { path, reason: error.to_string() }
        };
        let (mut http, mut tcp) = (None, None);
        match config.filters.last() {
            Some(NetworkFilter::Http(manager)) => {
                http = Some(HttpChain::build(manager, direction, &parts.shared).map_err(refused)?);
            }
            Some(NetworkFilter::Tcp(proxy)) => {
                let stats = config.filters.iter().find_map(|filter| match filter {
                    NetworkFilter::Stats(options) => Some(options),
                    _ => None,
                });
                let built = TcpChain::build(proxy, direction, stats, &parts.shared);
                tcp = Some(built.map_err(refused)?);
            }
            _ => {}
        }
        let tls = match &config.tls {
            None => None,
            Some(_) if kept.is_some() => kept,
            Some(options) => {
                let mut options = (**options).clone();
                if let Some(NetworkFilter::Http(manager)) = config.filters.last()
                    && manager.codec == Codec::Http1
                {
                    // Never agree on a protocol that is not spoken here.
                    options.alpn.retain(|name| &**name != ALPN_HTTP2);
                }
                let tls = ServerTls::new(&options, &parts.secrets).map_err(|error| Refused {
                    path: format!("transport_socket.typed_config.{}", error.path),
                    reason: error.reason,
                })?;
                Some(Arc::new(tls))
            }
        };
        let (drain, watch) = Drain::new();
        Ok(Chain { config: config.clone(), tls, http, tcp, drain, watch })
    }

    /// Told when the chain is not the listener's any more.
    pub fn drain(&self) -> &DrainWatch {
        &self.watch
    }

    /// Whether a chain with that configuration can take over this one's TLS state.
    fn shares_tls(&self, config: &FilterChain) -> bool {
        let speaks_http =
            |config: &FilterChain| matches!(config.filters.last(), Some(NetworkFilter::Http(_)));
        self.config.tls == config.tls && speaks_http(&self.config) == speaks_http(config)
    }

    /// Tells the chain's connections that it is gone.
    pub fn start_drain(&self) {
        self.drain.start();
    }
}

fn check_filters(config: &FilterChain) -> Result<(), Refused> {
    if matches!(config.filters.last(), None | Some(NetworkFilter::Rbac(_) | NetworkFilter::Stats(_))) {
        let reason = "the last filter of a chain must be the HTTP connection manager or tcp_proxy";
        return Err(Refused { path: "filters".to_owned(), reason: reason.to_owned() });
    }
    Ok(())
}

/// A listener's configuration with its chains.
#[derive(Debug)]
pub struct ActiveListener {
    /// The configuration.
    pub config: Arc<Listener>,
    /// In the order of the configuration.
    pub chains: Vec<Arc<Chain>>,
    /// Where no chain matches.
    pub default: Option<Arc<Chain>>,
    /// What looks at the first bytes before a chain is chosen.
    pub inspectors: Inspectors,
    /// Connections come by redirection: where they wanted to go is asked of the system.
    pub redirected: bool,
    /// Where the ends of connections are logged.
    pub logs: AccessLogs,
}

impl ActiveListener {
    /// Builds a listener. Chains that are equal in `previous` are taken over, with their connections and TLS sessions.
    ///
    /// # Errors
    /// Path and reason.
    pub fn build(
        config: &Arc<Listener>,
        previous: Option<&ActiveListener>,
        parts: &Parts,
    ) -> Result<ActiveListener, Refused> {
        let previous = previous.filter(|old| old.config.direction == config.direction);
        let chain = |wanted: &FilterChain| {
            let mut old = previous.into_iter().flat_map(ActiveListener::all);
            if let Some(same) = old.clone().find(|old| old.config == *wanted) {
                return Ok(same.clone());
            }
            let kept = old.find(|old| old.shares_tls(wanted)).and_then(|old| old.tls.clone());
            Chain::build(wanted, config.direction, parts, kept).map(Arc::new)
        };
        let within = |path: String| {
            move |refused: Refused| Refused {
                path: format!("{path}.{}", refused.path),
                reason: refused.reason,
            }
        };
        let mut chains = Vec::with_capacity(config.filter_chains.len());
        for (index, wanted) in config.filter_chains.iter().enumerate() {
            chains.push(chain(wanted).map_err(within(format!("filter_chains[{index}]")))?);
        }
        let default = config.default_filter_chain.as_deref().map(chain).transpose();
        let default = default.map_err(within("default_filter_chain".to_owned()))?;
        if chains.is_empty() && default.is_none() {
            let reason = "a listener needs at least one filter chain".to_owned();
            return Err(Refused { path: "filter_chains".to_owned(), reason });
        }
        let inspectors = Inspectors::of(config);
        let redirected = config.listener_filters.contains(&ListenerFilter::OriginalDestination);
        let logs = AccessLogs::compile(&config.access_log, parts.shared.outlets(), &mut Captures::default())
            .map_err(|error| Refused { path: "access_log".to_owned(), reason: error.to_string() })?;
        Ok(ActiveListener { config: config.clone(), chains, default, inspectors, redirected, logs })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Chain>> + Clone {
        self.chains.iter().chain(&self.default)
    }

    /// Tells the connections of chains that `next` did not take over.
    pub fn drain_unless_in(&self, next: Option<&ActiveListener>) {
        for chain in self.all() {
            if !next.is_some_and(|next| next.all().any(|kept| Arc::ptr_eq(kept, chain))) {
                chain.start_drain();
            }
        }
    }
}
