//! `DynamicResources`: the ADS stream and what comes over it.

use super::config_source::{read_ads_source, read_version};
use super::name::required_name;
use crate::context::{Context, Result, refuse, report};
use crate::model::{AdsConfig, AdsProtocol};
use protos::envoy::envoy::config::bootstrap::v3::bootstrap::DynamicResources;
use protos::envoy::envoy::config::core::v3 as core;
use std::sync::Arc;

/// Reads the dynamic resources.
pub fn read_dynamic_resources(cx: &mut Context, message: &DynamicResources) -> Result<Option<AdsConfig>> {
    let DynamicResources { lds_config, lds_resources_locator, cds_config, cds_resources_locator, ads_config } =
        message;
    refuse!(cx, "xdstp names are not supported"; lds_resources_locator, cds_resources_locator);
    for (field, source) in [("lds_config", lds_config), ("cds_config", cds_config)] {
        if source.is_some() {
            read_ads_source(cx, field, source)?;
        }
    }
    let Some(ads) = ads_config else {
        if lds_config.is_some() || cds_config.is_some() {
            return Err(cx.refused_field("ads_config", "is missing: lds_config and cds_config need it"));
        }
        return Ok(None);
    };
    let (cluster, protocol) = cx.field("ads_config", |cx| read_api_config_source(cx, ads))?;
    Ok(Some(AdsConfig { cluster, protocol, listeners: lds_config.is_some(), clusters: cds_config.is_some() }))
}

fn read_api_config_source(
    cx: &mut Context,
    message: &core::ApiConfigSource,
) -> Result<(Arc<str>, AdsProtocol)> {
    use core::api_config_source::ApiType;
    let core::ApiConfigSource {
        api_type,
        transport_api_version,
        cluster_names,
        grpc_services,
        refresh_delay,
        request_timeout,
        rate_limit_settings,
        set_node_on_first_message_only,
        config_validators,
    } = message;
    refuse!(cx, "is for REST: use grpc_services"; cluster_names);
    refuse!(cx, "validators are not supported"; config_validators);
    report!(cx, "a stream has no polls"; refresh_delay, request_timeout);
    report!(cx, "requests of the stream are paced by the answers"; rate_limit_settings);
    // The node always goes in the first message only, which every server accepts.
    let _ = set_node_on_first_message_only;
    read_version(cx, "transport_api_version", *transport_api_version)?;
    let protocol = match cx.enumeration("api_type", *api_type)? {
        ApiType::Grpc | ApiType::AggregatedGrpc => AdsProtocol::StateOfTheWorld,
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => AdsProtocol::Delta,
        _ => return Err(cx.refused_field("api_type", "is neither GRPC nor DELTA_GRPC")),
    };
    let mut clusters = cx.list("grpc_services", grpc_services, 1, read_grpc_service)?;
    match clusters.pop() {
        Some(cluster) => Ok((cluster, protocol)),
        None => Err(cx.refused_field("grpc_services", "is empty")),
    }
}

fn read_grpc_service(cx: &mut Context, message: &core::GrpcService) -> Result<Arc<str>> {
    use core::grpc_service::{EnvoyGrpc, TargetSpecifier};
    let core::GrpcService { timeout, initial_metadata, retry_policy, target_specifier } = message;
    refuse!(cx, "headers of the stream are not supported"; initial_metadata);
    report!(cx, "a stream has no end"; timeout);
    report!(cx, "a broken stream is opened again by itself"; retry_policy);
    let Some(TargetSpecifier::EnvoyGrpc(target)) = target_specifier else {
        return Err(cx.refused_field("google_grpc", "is not supported: use envoy_grpc with a static cluster"));
    };
    cx.field("envoy_grpc", |cx| {
        let EnvoyGrpc {
            cluster_name,
            authority,
            retry_policy,
            max_receive_message_length,
            skip_envoy_headers,
        } = target;
        report!(cx, "the authority is the cluster's SNI or name"; authority);
        report!(cx, "a broken stream is opened again by itself"; retry_policy);
        report!(cx, "the limit of a message is fixed"; max_receive_message_length);
        report!(cx, "no x-envoy headers are sent"; skip_envoy_headers);
        required_name(cx, "cluster_name", cluster_name)
    })
}
