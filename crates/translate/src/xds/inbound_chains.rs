//! The filter chains of an own port: which connections are taken, with TLS or without, as requests or as bytes. The
//! order and the conditions are Istio's.

use api::Resource;
use api::kinds::peer_authentication::MutualTlsMode;
use api::kinds::service::Service;
use protos::envoy::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener};

use crate::kinds::authorization_policy::Rules;
use crate::kinds::service::Protocol;
use crate::names;
use crate::scope::Scope;
use crate::xds::{detection, http_connection_manager, route_configuration, tcp_proxy, transport_socket};

/// What a sidecar offers (ALPN) for requests.
const HTTP_IN_MESH: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// What plain bytes can turn out to be.
pub const HTTP: [&str; 3] = ["http/1.0", "http/1.1", "h2c"];
/// What a sidecar offers for bytes that it does not look into.
const TCP_IN_MESH: [&str; 2] = ["istio-peer-exchange", "istio"];

/// An own port.
#[derive(Debug, Clone, Copy)]
pub struct Target<'w> {
    /// The Service that leads to it.
    pub service: &'w Resource<Service>,
    /// Its number.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// Writes the chains, and the listener filters that they need, into the listener of an own port. `rules` are those for
/// requests and for connections.
pub fn fill(
    listener: &mut Listener,
    scope: &Scope<'_>,
    target: &Target<'_>,
    mode: MutualTlsMode,
    rules: (&Rules, &Rules),
) {
    let name = listener.name.clone();
    let chains = Chains { scope, target, rules, name: &name };
    let (requests, bytes) = (Carried::Requests, Carried::Bytes);
    let carried = if target.protocol.is_http() { requests } else { bytes };
    let undeclared = target.protocol == Protocol::Unknown;
    listener.filter_chains = match (mode, undeclared) {
        (MutualTlsMode::Strict, false) => vec![chains.chain("tls", "", &[], carried, true)],
        (MutualTlsMode::Strict, true) => vec![
            chains.chain("http_tls", "", &HTTP_IN_MESH, requests, true),
            chains.chain("tls", "", &[], bytes, true),
        ],
        (MutualTlsMode::Disable, false) => vec![chains.chain("plain", "", &[], carried, false)],
        (MutualTlsMode::Disable, true) => vec![
            chains.chain("http_plain", "raw_buffer", &HTTP, requests, false),
            // Who has matched the transport is not looked for among chains without one.
            chains.chain("plain", "raw_buffer", &[], bytes, false),
            chains.chain("passthrough", "tls", &[], bytes, false),
        ],
        (MutualTlsMode::Permissive | MutualTlsMode::Unset, false) if target.protocol.is_http() => vec![
            chains.chain("tls", "tls", &[], requests, true),
            chains.chain("plain", "raw_buffer", &[], requests, false),
        ],
        // TLS that is not the mesh's is the app's own.
        (MutualTlsMode::Permissive | MutualTlsMode::Unset, false) => vec![
            chains.chain("tls", "tls", &TCP_IN_MESH, bytes, true),
            chains.chain("plain", "raw_buffer", &[], bytes, false),
            chains.chain("passthrough", "tls", &[], bytes, false),
        ],
        (MutualTlsMode::Permissive | MutualTlsMode::Unset, true) => vec![
            chains.chain("http_tls", "tls", &HTTP_IN_MESH, requests, true),
            chains.chain("http_plain", "raw_buffer", &HTTP, requests, false),
            chains.chain("tls", "tls", &TCP_IN_MESH, bytes, true),
            chains.chain("plain", "raw_buffer", &[], bytes, false),
            chains.chain("passthrough", "tls", &[], bytes, false),
        ],
    };
    let (tls, http) = inspected(&listener.filter_chains);
    if tls {
        listener.listener_filters.push(detection::tls_inspector());
    }
    if http {
        listener.listener_filters.push(detection::http_inspector());
    }
    if !listener.listener_filters.is_empty() && (carried == bytes || undeclared) {
        detection::limit(listener, scope);
    }
}

/// Whether the conditions of the chains need to know of TLS, and of HTTP in plain text.
fn inspected(chains: &[FilterChain]) -> (bool, bool) {
    let conditions = || chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref());
    let http =
        conditions().any(|it| it.application_protocols.iter().any(|name| HTTP.contains(&name.as_str())));
    (conditions().next().is_some(), http)
}

/// What a chain does with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// Takes it apart into requests.
    Requests,
    /// Passes its bytes on.
    Bytes,
}

/// Makes the chains of one listener.
struct Chains<'a, 'w> {
    scope: &'a Scope<'w>,
    target: &'a Target<'w>,
    rules: (&'a Rules, &'a Rules),
    name: &'a str,
}

impl Chains<'_, '_> {
    fn chain(&self, end: &str, transport: &str, alpn: &[&str], carried: Carried, tls: bool) -> FilterChain {
        let (scope, target) = (self.scope, self.target);
        let (filters, protocol) = match carried {
            Carried::Bytes => {
                let cluster = names::inbound_cluster(target.port);
                (tcp_proxy::inbound(scope, cluster, self.rules.1), Protocol::Tcp)
            }
            Carried::Requests => {
                let routes = route_configuration::inbound(scope, target.service, target.port);
                let manager = http_connection_manager::inbound(scope, routes, self.rules.0);
                (vec![tcp_proxy::filter(http_connection_manager::NAME, manager)], target.protocol)
            }
        };
        FilterChain {
            name: format!("{}_{end}", self.name),
            filter_chain_match: condition(transport, alpn),
            filters,
            transport_socket: tls.then(|| transport_socket::downstream(scope, protocol)),
            ..Default::default()
        }
    }
}

/// Which connections a chain takes; `None` takes all.
pub fn condition(transport: &str, alpn: &[&str]) -> Option<FilterChainMatch> {
    let condition = FilterChainMatch {
        transport_protocol: transport.to_owned(),
        application_protocols: alpn.iter().map(|it| (*it).to_owned()).collect(),
        ..Default::default()
    };
    (condition != FilterChainMatch::default()).then_some(condition)
}
