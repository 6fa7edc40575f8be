//! The bootstrap of a sidecar, in Envoy's shape: who it is, where its control plane is, where its admin page is.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

/// What a sidecar is told before it has talked to anybody.
#[derive(Debug, Clone)]
pub struct Sidecar {
    /// Namespace of the workload.
    pub namespace: String,
    /// Name of the workload.
    pub workload: String,
    /// Service account, which makes its identity.
    pub service_account: String,
    /// Labels of the workload.
    pub labels: BTreeMap<String, String>,
    /// The workload's own address; its Istio ports are bound there.
    pub address: IpAddr,
    /// Where the program itself listens.
    pub app_address: IpAddr,
    /// Whether this sidecar listens on the loopback addresses of Services; one sidecar of a machine can.
    pub bind_vips: bool,
    /// Trust domain of the mesh.
    pub trust_domain: String,
    /// `tulled`'s TLS port.
    pub control: SocketAddr,
    /// File with the join token.
    pub token_file: PathBuf,
    /// Folder for key and certificate, 0700.
    pub state_directory: PathBuf,
    /// Where the program shows its metrics: `prometheus.io/*` as a JSON object (`scrape`, `port`, `path`).
    pub app_metrics: Option<String>,
    /// How long its certificates shall live; the control plane's usual time unless given.
    pub lifetime_seconds: Option<u32>,
}

/// Istio's port of the proxy's admin page.
pub const ADMIN_PORT: u16 = 15000;
/// Istio's port of merged metrics and readiness.
pub const STATUS_PORT: u16 = 15020;

impl Sidecar {
    /// The bootstrap as protobuf JSON.
    pub fn bootstrap(&self) -> Value {
        let domain = format!("{}.svc.cluster.local", self.namespace);
        let app = self.labels.get("app").unwrap_or(&self.workload);
        json!({
            "node": {
                "id": format!("sidecar~{}~{}.{}~{domain}", self.address, self.workload, self.namespace),
                "cluster": format!("{app}.{}", self.namespace),
                "metadata": self.metadata(),
            },
            "admin": {"address": socket(SocketAddr::new(self.address, ADMIN_PORT))},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
                },
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {"clusters": [self.control_plane_cluster()]},
        })
    }

    fn identity(&self) -> Value {
        let mut identity = json!({
            "ca_address": self.control.to_string(),
            "token_file": self.token_file,
            "state_directory": self.state_directory,
            "trust_domain": self.trust_domain,
        });
        if let Some(seconds) = self.lifetime_seconds {
            identity["lifetime_seconds"] = seconds.into();
        }
        identity
    }

    fn metadata(&self) -> Value {
        let mut metadata = json!({
            "NAMESPACE": self.namespace,
            "WORKLOAD_NAME": self.workload,
            "SERVICE_ACCOUNT": self.service_account,
            "LABELS": self.labels,
            "INSTANCE_IPS": self.address.to_string(),
            "INTERCEPTION_MODE": "NONE",
            "CLUSTER_ID": "local",
            "MESH_ID": self.trust_domain,
            "TULLE_APP_ADDRESS": self.app_address.to_string(),
            "TULLE_BIND_VIPS": self.bind_vips.to_string(),
            "STATUS_PORT": STATUS_PORT.to_string(),
            "TULLE_IDENTITY": self.identity(),
        });
        if let Some(annotations) = &self.app_metrics {
            metadata["ISTIO_PROMETHEUS_ANNOTATIONS"] = annotations.as_str().into();
        }
        metadata
    }

    fn control_plane_cluster(&self) -> Value {
        let sds = |name: &str| json!({"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}});
        let identity = format!("spiffe://{}/ns/istio-system/sa/tulled", self.trust_domain);
        json!({
            "name": "xds-grpc",
            "type": "STATIC",
            "connect_timeout": "5s",
            "load_assignment": {
                "cluster_name": "xds-grpc",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(self.control)}}]}],
            },
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}},
                },
            },
            "transport_socket": {
                "name": "envoy.transport_sockets.tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                    "sni": "tulled",
                    "common_tls_context": {
                        "alpn_protocols": ["h2"],
                        "tls_certificate_sds_secret_configs": [sds("default")],
                        "combined_validation_context": {
                            "default_validation_context": {
                                "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": identity}}],
                            },
                            "validation_context_sds_secret_config": sds("ROOTCA"),
                        },
                    },
                },
            },
        })
    }
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;

    #[test]
    fn the_bootstrap_is_one_that_envoy_would_read() {
        let sidecar = Sidecar {
            namespace: "production".to_owned(),
            workload: "payment-stable-1".to_owned(),
            service_account: "payment".to_owned(),
            labels: BTreeMap::from([("app".to_owned(), "payment".to_owned())]),
            address: IpAddr::from([127, 10, 0, 21]),
            app_address: IpAddr::from([127, 10, 2, 21]),
            bind_vips: false,
            trust_domain: "cluster.local".to_owned(),
            control: SocketAddr::from(([127, 0, 0, 1], 15012)),
            token_file: "token".into(),
            state_directory: "state".into(),
            app_metrics: None,
            lifetime_seconds: None,
        };
        let text = sidecar.bootstrap().to_string();
        let bootstrap: Bootstrap = protos::json::Pool::load().unwrap().from_json(&text).unwrap();
        let node = bootstrap.node.unwrap();
        assert_eq!(node.id, "sidecar~127.10.0.21~payment-stable-1.production~production.svc.cluster.local");
        assert_eq!(bootstrap.static_resources.unwrap().clusters[0].name, "xds-grpc");
    }
}
