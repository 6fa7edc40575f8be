//! `envoy.config.listener.v3.Listener`.

use super::access_log::read_access_logs;
use super::address::read_address;
use super::filter_chain::read_filter_chain;
use super::listener_filter::read_listener_filter;
use super::metadata::read_metadata;
use super::name::required_name;
use crate::context::{Context, Result, answers, flag, number, refuse, refuse_true, report};
use crate::model::{Direction, Listener};
use protos::envoy::envoy::config::core::v3::TrafficDirection;
use protos::envoy::envoy::config::listener::v3 as pb;
use std::sync::Arc;
use std::time::Duration;

/// Most chains of one listener.
const LIMIT: usize = 1000;

/// Reads a listener.
pub fn read_listener(cx: &mut Context, message: &pb::Listener) -> Result<Listener> {
    answers! { cx, message => pb::Listener {
        act {
            name, address, filter_chains, default_filter_chain, metadata, deprecated_v1,
            listener_filters, listener_filters_timeout, continue_on_listener_filters_timeout, traffic_direction, enable_reuse_port, tcp_backlog_size, bind_to_port, access_log,
        }
        refuse "is not supported: write one listener for each address" { additional_addresses }
        refuse "is not supported: write filter_chains with filter_chain_match" {
            fcds_config, filter_chain_matcher,
        }
        refuse "socket options are not supported" { socket_options }
        refuse "UDP is not supported" { udp_listener_config }
        refuse "is for gRPC clients: a proxy needs filter_chains" { api_listener }
        refuse "internal listeners are not supported" { listener_specifier }
        refuse_true "is not supported" { use_original_dst, transparent, freebind }
        report "buffers are bounded by themselves" {
            per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
        }
        report "metrics are named after the listener" { stat_prefix, stats_matcher }
        report "a listener drains when it is removed or the proxy ends" { drain_type }
        report "the system's setting stands" { tcp_fast_open_queue_length, tcp_keepalive, enable_mptcp }
        report "every worker accepts from its own socket" {
            connection_balance_config, reuse_port, max_connections_to_accept_per_socket_event,
        }
        report "there is no overload manager" { ignore_global_conn_limit, bypass_overload_manager }
    } }
    cx.report_set(
        "enable_reuse_port",
        &!flag(enable_reuse_port, true),
        "every worker accepts from its own socket",
    );
    read_metadata(cx, metadata, &[])?;
    let address = cx.required("address", address)?;
    let direction = match cx.enumeration("traffic_direction", *traffic_direction)? {
        TrafficDirection::Unspecified => Direction::Unspecified,
        TrafficDirection::Inbound => Direction::Inbound,
        TrafficDirection::Outbound => Direction::Outbound,
    };
    let filter_chains = cx.list("filter_chains", filter_chains, LIMIT, read_filter_chain)?;
    let default_filter_chain = match default_filter_chain {
        Some(chain) => Some(Arc::new(cx.field("default_filter_chain", |cx| read_filter_chain(cx, chain))?)),
        None => None,
    };
    if filter_chains.is_empty() && default_filter_chain.is_none() {
        return Err(cx.refused_field("filter_chains", "is empty: every connection would be closed"));
    }
    for (index, chain) in filter_chains.iter().enumerate() {
        if filter_chains[..index].iter().any(|earlier| earlier.matcher == chain.matcher) {
            let reason = "has the same match as an earlier chain";
            return Err(cx.field("filter_chains", |cx| {
                cx.index(index, |cx| cx.refused_field("filter_chain_match", reason))
            }));
        }
    }
    let old_bind = deprecated_v1
        .as_ref()
        .is_none_or(|pb::listener::DeprecatedV1 { bind_to_port }| flag(bind_to_port, true));
    let timeout =
        cx.limit("listener_filters_timeout", listener_filters_timeout, Some(Duration::from_secs(15)))?;
    Ok(Listener {
        name: required_name(cx, "name", name)?,
        address: cx.field("address", |cx| read_address(cx, address, false))?,
        bind_to_port: flag(bind_to_port, old_bind),
        direction,
        listener_filters: cx.list("listener_filters", listener_filters, 16, read_listener_filter)?,
        listener_filters_timeout: timeout,
        continue_on_listener_filters_timeout: *continue_on_listener_filters_timeout,
        filter_chains,
        default_filter_chain,
        tcp_backlog_size: number(tcp_backlog_size),
        access_log: read_access_logs(cx, access_log)?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::NetworkFilter;
    use protos::envoy::envoy::config::core::v3 as core;

    /// A socket address.
    pub fn socket(ip: &str, port: u32) -> core::Address {
        let port_specifier = Some(core::socket_address::PortSpecifier::PortValue(port));
        let socket = core::SocketAddress { address: ip.into(), port_specifier, ..Default::default() };
        core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
    }

    /// A network filter with that configuration.
    pub fn network<M: protos::Message + prost::Name>(config: &M) -> pb::Filter {
        let config_type = Some(pb::filter::ConfigType::TypedConfig(protos::any::pack(config)));
        pb::Filter { name: "filter".into(), config_type }
    }

    /// An outbound listener with one HTTP chain.
    pub fn listener() -> pb::Listener {
        let manager = crate::read::http_connection_manager::tests::manager();
        let chain = pb::FilterChain { filters: vec![network(&manager)], ..Default::default() };
        pb::Listener {
            name: "127.1.0.1_8080".into(),
            address: Some(socket("127.1.0.1", 8080)),
            traffic_direction: 2,
            filter_chains: vec![chain],
            ..Default::default()
        }
    }

    fn read(change: impl FnOnce(&mut pb::Listener)) -> Result<crate::Read<Listener>> {
        let mut message = listener();
        change(&mut message);
        Context::read(|cx| read_listener(cx, &message))
    }

    #[test]
    fn reads_a_listener() {
        let read = read(|_| ()).unwrap();
        assert!(read.notes.is_empty(), "{:?}", read.notes);
        assert_eq!(read.value.direction, Direction::Outbound);
        assert!(read.value.bind_to_port);
        assert_eq!(read.value.listener_filters_timeout, Some(Duration::from_secs(15)), "Envoy's default");
        assert!(matches!(read.value.filter_chains[0].filters[..], [NetworkFilter::Http(_)]));
    }

    #[test]
    fn refuses_with_the_whole_path() {
        let refused = read(|message| {
            let manager = protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager {
                http_filters: vec![],
                ..crate::read::http_connection_manager::tests::manager()
            };
            message.filter_chains[0].filters = vec![network(&manager)];
        });
        assert_eq!(refused.unwrap_err().path, "filter_chains[0].filters[0].typed_config.http_filters");
        assert_eq!(read(|message| message.filter_chains.clear()).unwrap_err().path, "filter_chains");
        assert_eq!(read(|message| message.name.clear()).unwrap_err().path, "name");
        let twice = read(|message| message.filter_chains.push(message.filter_chains[0].clone()));
        assert_eq!(twice.unwrap_err().path, "filter_chains[1].filter_chain_match");
    }

    #[test]
    fn reports_what_it_leaves() {
        let read = read(|message| message.enable_mptcp = true).unwrap();
        assert_eq!(read.notes[0].path, "enable_mptcp");
    }

    #[test]
    fn an_unknown_network_filter_is_refused_by_name() {
        let refused = read(|message| {
            let any = protos::Any { type_url: "type.googleapis.com/x.Mongo".into(), value: Vec::new() };
            message.filter_chains[0].filters[0].config_type = Some(pb::filter::ConfigType::TypedConfig(any));
        });
        assert!(refused.unwrap_err().reason.contains("x.Mongo"));
    }
}
