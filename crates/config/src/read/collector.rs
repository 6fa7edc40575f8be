//! Where telemetry goes: `GrpcService` and `HttpService` that name a cluster.

use super::format::read_format;
use super::header_operation::read_header_operations;
use super::name::{header_name, name, required_name};
use crate::context::{Context, Result, refuse, report};
use crate::model::{Collector, CollectorProtocol, HeaderAction, HeaderAdd, HeaderOperations};
use protos::envoy::envoy::config::core::v3 as core;

/// Most entries of `initial_metadata`.
const LIMIT: usize = 100;

/// Reads a gRPC collector.
pub fn read_grpc_collector(cx: &mut Context, message: &core::GrpcService) -> Result<Collector> {
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
    let core::GrpcService { timeout, initial_metadata, retry_policy, target_specifier } = message;
    report!(cx, "what cannot be sent is dropped and counted"; retry_policy);
    let Some(TargetSpecifier::EnvoyGrpc(target)) = target_specifier else {
        return Err(cx.refused_field("google_grpc", "is not supported: use envoy_grpc with a cluster"));
    };
    let add = cx.list("initial_metadata", initial_metadata, LIMIT, |cx, header| {
        let core::HeaderValue { key, value, raw_value } = header;
        refuse!(cx, "write value instead"; raw_value);
        let name = header_name(cx, "key", key, false)?;
        let value = cx.field("value", |cx| read_format(cx, value))?;
        Ok(HeaderAdd { name, value, action: HeaderAction::AppendIfExistsOrAdd, keep_empty: false })
    })?;
    let timeout = cx.limit("timeout", timeout, None)?;
    cx.field("envoy_grpc", |cx| {
        let EnvoyGrpc {
            cluster_name,
            authority,
            retry_policy,
            max_receive_message_length,
            skip_envoy_headers,
        } = target;
        report!(cx, "what cannot be sent is dropped and counted"; retry_policy);
        report!(cx, "the answer is not read beyond its status"; max_receive_message_length);
        report!(cx, "no x-envoy headers are sent"; skip_envoy_headers);
        let cluster = required_name(cx, "cluster_name", cluster_name)?;
        let authority = name(cx, "authority", authority)?;
        let authority = if authority.is_empty() { cluster.clone() } else { authority };
        let headers = HeaderOperations { remove: Vec::new(), add };
        Ok(Collector { cluster, protocol: CollectorProtocol::Grpc, authority, timeout, headers })
    })
}

/// Reads an HTTP collector. The URI is `http://host/path`, `host/path` or `/path`.
pub fn read_http_collector(cx: &mut Context, message: &core::HttpService) -> Result<Collector> {
    let core::HttpService { http_uri, request_headers_to_add, formatters } = message;
    refuse!(cx, "formatter extensions are not supported"; formatters);
    let headers = read_header_operations(cx, "request", request_headers_to_add, &[])?;
    let core::HttpUri { uri, timeout, http_upstream_type } = cx.required("http_uri", http_uri)?;
    cx.field("http_uri", |cx| {
        let Some(core::http_uri::HttpUpstreamType::Cluster(cluster)) = http_upstream_type else {
            return Err(cx.refused_field("cluster", "is missing"));
        };
        let cluster = required_name(cx, "cluster", cluster)?;
        let uri = required_name(cx, "uri", uri)?;
        let rest = uri.split_once("://").map_or(&*uri, |(_, rest)| rest);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.bytes().chain(host.bytes()).any(|byte| !(0x21..0x7f).contains(&byte)) {
            return Err(cx.refused_field("uri", "has a character that a URI may not have"));
        }
        let authority = if host.is_empty() { cluster.clone() } else { host.into() };
        let path = if path.is_empty() { "/" } else { path };
        let timeout = cx.limit("timeout", timeout, None)?;
        let protocol = CollectorProtocol::Http { path: path.into() };
        Ok(Collector { cluster, protocol, authority, timeout, headers })
    })
}
