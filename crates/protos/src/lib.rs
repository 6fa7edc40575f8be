//! The protobuf messages that travel between the planes.
//!
//! [`envoy`] re-exports Envoy's messages and services from a crate, so that a swap of that crate touches this file only.
//! What Envoy does not define is written by hand as prost messages: Istio's certificate service ([`istio_ca`]) and
//! Istio's peer metadata and stats filter configurations ([`istio`]), our own reverse stream ([`observe`]), and
//! OpenTelemetry's protocol ([`otlp`]).

pub use envoy_types::pb as envoy;
pub use envoy_types::pb::google::protobuf::Any;
pub use prost::Message;

pub mod any;
pub mod istio;
pub mod istio_ca;
pub mod json;
pub mod observe;
pub mod otlp;
pub mod otlp_logs;
