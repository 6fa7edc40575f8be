//! A listener's filter chains, ready for connections.

use std::sync::Arc;

use config::Refused;
use config::model::{Codec, Direction, FilterChain, Listener, ListenerFilter, NetworkFilter};
use runtime::{Drain, DrainWatch};

use crate::filter::{HttpChain, Shared};
use crate::tls::{Secrets, ServerTls};

/// ALPN name of HTTP/2.
const ALPN_HTTP2: &str = "h2";

/// One filter chain with its TLS state. Its connections end when the chain is replaced or removed.
#[derive(Debug)]
pub struct Chain {
    /// The configuration.
    pub config: FilterChain,
    /// TLS termination.
    pub tls: Option<ServerTls>,
    /// The HTTP filters, if the chain ends in a connection manager.
    pub http: Option<Arc<HttpChain>>,
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
    fn build(config: &FilterChain, direction: Direction, parts: &Parts) -> Result<Chain, Refused> {
        check_filters(config)?;
        let http = match config.filters.last() {
            Some(NetworkFilter::Http(manager)) => {
                Some(HttpChain::build(manager, direction, &parts.shared).map_err(|error| {
                    let path = format!("filters[{}].typed_config", config.filters.len() - 1);
                    Refused { path, reason: error.to_string() }
                })?)
            }
            _ => None,
        };
        let tls = match &config.tls {
            None => None,
            Some(options) => {
                let mut options = (**options).clone();
                if matches!(config.filters.last(), Some(NetworkFilter::Http(_))) {
                    // Never agree on a protocol that this proxy does not speak downstream.
                    options.alpn.retain(|name| &**name != ALPN_HTTP2);
                }
                let tls = ServerTls::new(&options, &parts.secrets).map_err(|error| Refused {
                    path: format!("transport_socket.typed_config.{}", error.path),
                    reason: error.reason,
                })?;
                Some(tls)
            }
        };
        let (drain, watch) = Drain::new();
        Ok(Chain { config: config.clone(), tls, http, drain, watch })
    }

    /// Told when the chain's connections have to end.
    pub fn drain(&self) -> &DrainWatch {
        &self.watch
    }

    /// Ends the chain's connections, each after the request that it is busy with.
    pub fn start_drain(&self) {
        self.drain.start();
    }
}

fn check_filters(config: &FilterChain) -> Result<(), Refused> {
    let refused = |index: usize, field: &str, reason: &str| Refused {
        path: format!("filters[{index}].typed_config{field}"),
        reason: reason.to_owned(),
    };
    for (index, filter) in config.filters.iter().enumerate() {
        match filter {
            NetworkFilter::Http(manager) if manager.codec == Codec::Http2 => {
                return Err(refused(
                    index,
                    ".codec_type",
                    "HTTP2 is not spoken downstream yet; use AUTO or HTTP1",
                ));
            }
            NetworkFilter::Http(_) | NetworkFilter::Tcp(_) | NetworkFilter::Rbac(_) => {}
        }
    }
    if matches!(config.filters.last(), None | Some(NetworkFilter::Rbac(_))) {
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
    /// The first bytes are looked at before a chain is chosen.
    pub inspects: bool,
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
        let chain = |wanted: &FilterChain| match previous
            .and_then(|old| old.all().find(|old| old.config == *wanted))
        {
            Some(same) => Ok(same.clone()),
            None => Chain::build(wanted, config.direction, parts).map(Arc::new),
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
        // Envoy adds the inspector by itself where a match needs it.
        let matched = config.filter_chains.iter().any(|chain| {
            let matcher = &chain.matcher;
            !matcher.transport_protocol.is_empty()
                || !matcher.application_protocols.is_empty()
                || !matcher.server_names.is_empty()
        });
        let inspects = matched || config.listener_filters.contains(&ListenerFilter::TlsInspector);
        Ok(ActiveListener { config: config.clone(), chains, default, inspects })
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Chain>> {
        self.chains.iter().chain(&self.default)
    }

    /// Ends the connections of chains that `next` did not take over.
    pub fn drain_unless_in(&self, next: Option<&ActiveListener>) {
        for chain in self.all() {
            if !next.is_some_and(|next| next.all().any(|kept| Arc::ptr_eq(kept, chain))) {
                chain.start_drain();
            }
        }
    }
}
