//! `FilterChain`, its match and its network filters.

use super::address::{read_cidr_range, read_port};
use super::http_connection_manager::read_http_connection_manager;
use super::metadata::read_metadata;
use super::name::name;
use super::rbac::read_network_rbac;
use super::stats::read_stats;
use super::tcp_proxy::read_tcp_proxy;
use super::transport_socket::read_downstream_socket;
use crate::context::{Context, Result, flag, number, refuse};
use crate::model::{FilterChain, FilterChainMatch, NetworkFilter, SourceType};
use protos::any::type_url;
use protos::envoy::envoy::config::listener::v3 as listener;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use protos::envoy::envoy::extensions::filters::network::rbac::v3::Rbac;
use protos::envoy::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use protos::istio::StatsConfig;
use std::sync::Arc;

/// Most items of one list of a match.
const LIMIT: usize = 1000;

/// Reads a chain.
pub fn read_filter_chain(cx: &mut Context, message: &listener::FilterChain) -> Result<FilterChain> {
    let listener::FilterChain {
        filter_chain_match,
        filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout,
        name: chain_name,
    } = message;
    cx.refuse_set("use_proxy_proto", &flag(use_proxy_proto, false), "PROXY protocol is not supported")?;
    read_metadata(cx, metadata, &[])?;
    let matcher = match filter_chain_match {
        Some(message) => cx.field("filter_chain_match", |cx| read_match(cx, message))?,
        None => FilterChainMatch::default(),
    };
    let filters = cx.list("filters", filters, 16, read_filter)?;
    let last = |filter: &NetworkFilter| matches!(filter, NetworkFilter::Http(_) | NetworkFilter::Tcp(_));
    match filters.split_last() {
        Some((end, others)) if last(end) && !others.iter().any(last) => {}
        _ => {
            let reason =
                "the last filter must be an HTTP connection manager or a TCP proxy, and the others must not";
            return Err(cx.refused_field("filters", reason));
        }
    }
    let timeout = cx.limit("transport_socket_connect_timeout", transport_socket_connect_timeout, None)?;
    Ok(FilterChain {
        name: name(cx, "name", chain_name)?,
        matcher,
        tls: read_downstream_socket(cx, transport_socket)?.map(Arc::new),
        transport_socket_connect_timeout: timeout,
        filters,
    })
}

fn read_match(cx: &mut Context, message: &listener::FilterChainMatch) -> Result<FilterChainMatch> {
    use listener::filter_chain_match::ConnectionSourceType;
    let listener::FilterChainMatch {
        destination_port,
        prefix_ranges,
        address_suffix,
        suffix_len,
        direct_source_prefix_ranges,
        source_type,
        source_prefix_ranges,
        source_ports,
        server_names,
        transport_protocol,
        application_protocols,
    } = message;
    refuse!(cx, "is not supported, nor by Envoy"; address_suffix, suffix_len);
    if !matches!(transport_protocol.as_str(), "" | "tls" | "raw_buffer") {
        let reason = format!("{transport_protocol:?} is neither tls nor raw_buffer");
        return Err(cx.refused_field("transport_protocol", reason));
    }
    let source_type = match cx.enumeration("source_type", *source_type)? {
        ConnectionSourceType::Any => SourceType::Any,
        ConnectionSourceType::SameIpOrLoopback => SourceType::SameIpOrLoopback,
        ConnectionSourceType::External => SourceType::External,
    };
    let destination_port = match number(destination_port) {
        Some(port) => Some(read_port(cx, "destination_port", port)?),
        None => None,
    };
    Ok(FilterChainMatch {
        destination_port,
        prefix_ranges: cx.list("prefix_ranges", prefix_ranges, LIMIT, read_cidr_range)?,
        server_names: cx.list("server_names", server_names, LIMIT, |cx, text| read_server_name(cx, text))?,
        transport_protocol: transport_protocol.as_str().into(),
        application_protocols: cx.list(
            "application_protocols",
            application_protocols,
            LIMIT,
            |cx, text| name(cx, "protocol", text),
        )?,
        direct_source_prefix_ranges: cx.list(
            "direct_source_prefix_ranges",
            direct_source_prefix_ranges,
            LIMIT,
            read_cidr_range,
        )?,
        source_type,
        source_prefix_ranges: cx.list(
            "source_prefix_ranges",
            source_prefix_ranges,
            LIMIT,
            read_cidr_range,
        )?,
        source_ports: cx
            .list("source_ports", source_ports, LIMIT, |cx, port| read_port(cx, "port", *port))?,
    })
}

/// A wildcard stands for whole labels at the beginning, as in Envoy.
fn read_server_name(cx: &mut Context, text: &str) -> Result<Arc<str>> {
    let bare = text.strip_prefix("*.").unwrap_or(text);
    if bare.is_empty() || bare.len() > 253 || bare.contains('*') {
        let shown: String = text.chars().take(64).collect();
        return Err(cx.refused(format!("{shown:?} is neither a DNS name nor *.NAME")));
    }
    Ok(text.to_ascii_lowercase().into())
}

fn read_filter(cx: &mut Context, message: &listener::Filter) -> Result<NetworkFilter> {
    let listener::Filter { name, config_type } = message;
    let any = match config_type {
        Some(listener::filter::ConfigType::TypedConfig(any)) => any,
        Some(listener::filter::ConfigType::ConfigDiscovery(_)) => {
            return Err(cx.refused_field("config_discovery", "filter configuration by ECDS is not supported"));
        }
        None => return Err(cx.refused_field("typed_config", format!("is missing (filter {name:?})"))),
    };
    cx.field("typed_config", |cx| {
        let url = any.type_url.as_str();
        if url == type_url::<HttpConnectionManager>() {
            let message: HttpConnectionManager = cx.open(any)?;
            Ok(NetworkFilter::Http(Arc::new(read_http_connection_manager(cx, &message)?)))
        } else if url == type_url::<TcpProxy>() {
            let message: TcpProxy = cx.open(any)?;
            Ok(NetworkFilter::Tcp(Arc::new(read_tcp_proxy(cx, &message)?)))
        } else if url == type_url::<Rbac>() {
            let message: Rbac = cx.open(any)?;
            Ok(NetworkFilter::Rbac(Arc::new(read_network_rbac(cx, &message)?)))
        } else if url == type_url::<StatsConfig>() {
            let message: StatsConfig = cx.open(any)?;
            Ok(NetworkFilter::Stats(read_stats(cx, &message)?))
        } else {
            Err(cx.refused(format!("the network filter {name:?} ({url}) is not supported: take it out")))
        }
    })
}
