//! The readers, one file for each message. Every message is destructured completely, so that a field that is new in the
//! protobuf crate does not compile until it has an answer.

// Deprecated fields need an answer as well as others.
#![allow(deprecated)]

mod access_log;
mod access_log_filter;
mod address;
mod ads;
mod bootstrap;
mod circuit_breakers;
mod cluster;
mod cluster_balancing;
mod cluster_discovery;
mod collector;
mod config_source;
mod custom_tag;
mod data_source;
mod downstream_tls;
mod expression;
mod filter_chain;
mod filter_config;
mod format;
mod format_operator;
mod header_matcher;
mod header_operation;
mod http2_client;
mod http2_options;
mod http_connection_manager;
mod http_filter;
mod http_options;
mod listener;
mod listener_filter;
mod load_assignment;
mod log_format;
mod metadata;
mod name;
mod node;
mod open_telemetry_log;
mod outlier_detection;
mod outlier_errors;
mod query_matcher;
mod rbac;
mod redirect;
mod retry_policy;
mod route;
mod route_action;
mod route_configuration;
mod route_match;
mod runtime;
mod stats;
mod string_matcher;
mod tcp_proxy;
mod tls;
mod tls_trust;
mod tracer;
mod tracing;
mod transport_socket;
mod upstream_http;
mod upstream_tls;
mod value;
mod virtual_host;
mod weighted_cluster;

use crate::context::{Context, Read, Refused};
use crate::model;
use protos::envoy::envoy::config::{
    bootstrap::v3 as pb_bootstrap, cluster::v3 as pb_cluster, endpoint::v3 as pb_endpoint,
};
use protos::envoy::envoy::config::{listener::v3 as pb_listener, route::v3 as pb_route};

pub use expression::parse_expression;

/// Reads a listener (LDS).
///
/// # Errors
/// The first field that cannot be done as written.
pub fn read_listener(message: &pb_listener::Listener) -> Result<Read<model::Listener>, Refused> {
    Context::read(|cx| listener::read_listener(cx, message))
}

/// Reads a route configuration (RDS).
///
/// # Errors
/// The first field that cannot be done as written.
pub fn read_route_configuration(
    message: &pb_route::RouteConfiguration,
) -> Result<Read<model::RouteConfiguration>, Refused> {
    Context::read(|cx| route_configuration::read_route_configuration(cx, message))
}

/// Reads a cluster (CDS).
///
/// # Errors
/// The first field that cannot be done as written.
pub fn read_cluster(message: &pb_cluster::Cluster) -> Result<Read<model::Cluster>, Refused> {
    Context::read(|cx| cluster::read_cluster(cx, message))
}

/// Reads the endpoints of a cluster (EDS). Every address must be an IP.
///
/// # Errors
/// The first field that cannot be done as written.
pub fn read_load_assignment(
    message: &pb_endpoint::ClusterLoadAssignment,
) -> Result<Read<model::LoadAssignment>, Refused> {
    Context::read(|cx| load_assignment::read_load_assignment(cx, message, false))
}

/// Reads a bootstrap.
///
/// # Errors
/// The first field that cannot be done as written.
pub fn read_bootstrap(message: &pb_bootstrap::Bootstrap) -> Result<Read<model::Bootstrap>, Refused> {
    Context::read(|cx| bootstrap::read_bootstrap(cx, message))
}
