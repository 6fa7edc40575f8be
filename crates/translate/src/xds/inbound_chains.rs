//! The filter chains of an own port: which connections are taken, with TLS or without, as requests or as bytes. The
//! order and the conditions are Istio's.

use api::Resource;
use api::kinds::peer_authentication::MutualTlsMode;
use api::kinds::service::Service;
use protos::envoy::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use protos::envoy::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;

use protos::envoy::google::protobuf::Duration;

use crate::kinds::authorization_policy::Rules;
use crate::kinds::service::Protocol;
use crate::names;
use crate::scope::Scope;
use crate::xds::{http_connection_manager, route_configuration, tcp_proxy, transport_socket};

/// What a sidecar offers (ALPN) for bytes that it does not look into.
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
    let tcp = !target.protocol.is_http();
    let filters = if tcp {
        tcp_proxy::inbound(scope, names::inbound_cluster(target.port), rules.1)
    } else {
        let routes = route_configuration::inbound(scope, target.service, target.port);
        let manager = http_connection_manager::inbound(scope, routes, rules.0);
        vec![tcp_proxy::filter(http_connection_manager::NAME, manager)]
    };
    let name = listener.name.clone();
    let chain = |end: &str, transport: &str, alpn: &[&str], tls: bool| FilterChain {
        name: format!("{name}_{end}"),
        filter_chain_match: condition(transport, alpn),
        filters: Vec::<Filter>::clone(&filters),
        transport_socket: tls.then(|| transport_socket::downstream(scope, target.protocol)),
        ..Default::default()
    };
    listener.filter_chains = match mode {
        MutualTlsMode::Strict => vec![chain("tls", "", &[], true)],
        MutualTlsMode::Disable => vec![chain("plain", "", &[], false)],
        MutualTlsMode::Permissive | MutualTlsMode::Unset => {
            listener.listener_filters = vec![tls_inspector()];
            if tcp {
                // A server that speaks first must not wait for a caller that does not speak.
                listener.listener_filters_timeout = Some(Duration { seconds: 0, nanos: 100_000_000 });
                listener.continue_on_listener_filters_timeout = true;
            }
            match tcp {
                false => vec![chain("tls", "tls", &[], true), chain("plain", "raw_buffer", &[], false)],
                // TLS that is not the mesh's is the app's own.
                true => vec![
                    chain("tls", "tls", &TCP_IN_MESH, true),
                    chain("plain", "raw_buffer", &[], false),
                    chain("passthrough", "tls", &[], false),
                ],
            }
        }
    };
}

fn condition(transport: &str, alpn: &[&str]) -> Option<FilterChainMatch> {
    let condition = FilterChainMatch {
        transport_protocol: transport.to_owned(),
        application_protocols: alpn.iter().map(|it| (*it).to_owned()).collect(),
        ..Default::default()
    };
    (condition != FilterChainMatch::default()).then_some(condition)
}

fn tls_inspector() -> ListenerFilter {
    let config = protos::any::pack(&TlsInspector::default());
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}
