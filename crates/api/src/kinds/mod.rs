//! The kinds of resources, one file each. Structs carry Istio's message names, fields the YAML names in snake case.

pub mod authorization_policy;
pub mod common;
pub mod custom_tag;
pub mod destination_rule;
pub mod extension_provider;
pub mod http_policy;
pub mod load_balancer;
pub mod mesh_config;
pub mod namespace;
pub mod peer_authentication;
pub mod proxy_config;
pub mod raw;
pub mod service;
pub mod structure;
pub mod telemetry;
pub mod virtual_service;
pub mod workload_entry;
