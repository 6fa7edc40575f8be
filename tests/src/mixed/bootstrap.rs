//! The bootstrap of an Envoy sidecar: as `tulle-proxy`'s, with the secrets from `tulle cert --sds`.

use std::path::Path;

use serde_json::{Value, json};

use super::Dialect;

/// The cluster that the control plane names for secrets.
pub const SECRET_SERVER: &str = "sds-grpc";

/// A sidecar's bootstrap, changed for Envoy.
pub fn for_envoy(mut bootstrap: Value, dialect: Dialect, socket: &Path) -> Value {
    let api = match dialect {
        Dialect::StateOfTheWorld => "GRPC",
        Dialect::Delta => "DELTA_GRPC",
    };
    bootstrap["node"]["metadata"].as_object_mut().unwrap().remove("TULLE_IDENTITY");
    bootstrap["dynamic_resources"]["ads_config"]["api_type"] = json!(api);
    let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
    let secrets = json!({
        "api_config_source": {
            "api_type": api,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": SECRET_SERVER}}],
        },
        "resource_api_version": "V3",
    });
    let tls = &mut clusters[0]["transport_socket"]["typed_config"]["common_tls_context"];
    tls["tls_certificate_sds_secret_configs"][0]["sds_config"] = secrets.clone();
    tls["combined_validation_context"]["validation_context_sds_secret_config"]["sds_config"] = secrets;
    clusters.push(secret_server(socket));
    bootstrap
}

/// The static cluster of the secret server.
pub fn secret_server(socket: &Path) -> Value {
    json!({
        "name": SECRET_SERVER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": SECRET_SERVER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket}}}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
    })
}
