//! `MeshConfig`: settings of the whole mesh. Accessor methods give Istio's defaults.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::common::LabelSelector;
use super::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy, OutlierDetection, TcpKeepalive,
};
use super::extension_provider::ExtensionProvider;
use super::http_policy::HttpRetry;
use super::load_balancer::{LocalityLbSetting, ZoneAwareLbSetting};
use super::proxy_config::ProxyConfig;
use crate::duration::Duration;

/// Settings of the whole mesh.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// Port of captured outbound traffic; see [`MeshConfig::proxy_listen_port`].
    pub proxy_listen_port: i32,
    /// Port of captured inbound traffic; see [`MeshConfig::proxy_inbound_listen_port`].
    pub proxy_inbound_listen_port: i32,
    /// Port of the HTTP proxy listener; 0: off.
    pub proxy_http_port: i32,
    /// See [`MeshConfig::connect_timeout`].
    pub connect_timeout: Option<Duration>,
    /// Wait for the first bytes when the protocol is not known; unset: off.
    pub protocol_detection_timeout: Option<Duration>,
    /// Keep-alive probes to upstreams.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Of idle HBONE connections; default 1h.
    pub hbone_idle_timeout: Option<Duration>,
    /// Ingress class that is read.
    pub ingress_class: String,
    /// Service whose address is written to Ingress status.
    pub ingress_service: String,
    /// Which Ingress resources are read.
    pub ingress_controller_mode: IngressControllerMode,
    /// Gateway that serves Ingress.
    pub ingress_selector: String,
    /// See [`MeshConfig::enable_tracing`].
    pub enable_tracing: Option<bool>,
    /// File of the access log (`/dev/stdout`); empty: off.
    pub access_log_file: String,
    /// Format; empty: Istio's default line.
    pub access_log_format: String,
    /// Text or JSON.
    pub access_log_encoding: AccessLogEncoding,
    /// Also send the access log to the proxy's access log service.
    pub enable_envoy_access_log_service: bool,
    /// No listener access logs.
    pub disable_envoy_listener_log: bool,
    /// Defaults of proxies.
    pub default_config: Option<ProxyConfig>,
    /// Calls to hosts the mesh does not know.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Calls to ports no service knows.
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// Further sources of configuration.
    pub config_sources: Vec<ConfigSource>,
    /// See [`MeshConfig::enable_auto_mtls`].
    pub enable_auto_mtls: Option<bool>,
    /// See [`MeshConfig::trust_domain`].
    pub trust_domain: String,
    /// Further names of the own trust domain.
    pub trust_domain_aliases: Vec<String>,
    /// Further roots.
    pub ca_certificates: Vec<CertificateData>,
    /// See [`MeshConfig::default_service_export_to`].
    pub default_service_export_to: Vec<String>,
    /// See [`MeshConfig::default_virtual_service_export_to`].
    pub default_virtual_service_export_to: Vec<String>,
    /// See [`MeshConfig::default_destination_rule_export_to`].
    pub default_destination_rule_export_to: Vec<String>,
    /// See [`MeshConfig::root_namespace`].
    pub root_namespace: String,
    /// Locality balancing of all services.
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// Zone-aware balancing of all services.
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Interval of DNS queries; default 60s.
    pub dns_refresh_rate: Option<Duration>,
    /// Whether HTTP/1 is upgraded to HTTP/2; unset: no.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// Pattern of inbound cluster statistics.
    pub inbound_cluster_stat_name: String,
    /// Pattern of outbound cluster statistics.
    pub outbound_cluster_stat_name: String,
    /// Long out of use.
    pub certificates: Vec<Certificate>,
    /// Settings by service host.
    pub service_settings: Vec<ServiceSettings>,
    /// Scope of services by selector.
    pub service_scope_configs: Vec<ServiceScopeConfig>,
    /// See [`MeshConfig::enable_prometheus_merge`].
    pub enable_prometheus_merge: Option<bool>,
    /// See [`MeshConfig::verify_certificate_at_client`].
    pub verify_certificate_at_client: Option<bool>,
    /// External certificate authority.
    pub ca: Option<Ca>,
    /// Providers that policies and Telemetry name.
    pub extension_providers: Vec<ExtensionProvider>,
    /// Providers that are used when none is named.
    pub default_providers: Option<DefaultProviders>,
    /// Namespaces that are watched; one must match; none: all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Normalisation of paths.
    pub path_normalization: Option<ProxyPathNormalization>,
    /// Retries of routes that set none.
    pub default_http_retry_policy: Option<HttpRetry>,
    /// TLS between proxies.
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<TlsConfig>,
    /// TLS elsewhere.
    pub tls_defaults: Option<TlsConfig>,
    /// Baseline below DestinationRules.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// Who sees ServiceEntries.
    pub service_entry_visibility: Option<ServiceEntryVisibility>,
}

/// A provider by its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Provider<'a> {
    /// An entry of `extensionProviders`.
    Defined(&'a ExtensionProvider),
    /// Built in: `prometheus`.
    Prometheus,
    /// Built in: `envoy`, Istio's line on standard output.
    StandardOutput,
}

/// Which Ingress resources are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum IngressControllerMode {
    /// As `STRICT`.
    #[default]
    Unspecified,
    /// None.
    Off,
    /// Those without a class too.
    Default,
    /// Those with the own class.
    Strict,
}

/// Encoding of the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccessLogEncoding {
    /// A line of text.
    #[default]
    Text,
    /// A JSON object.
    Json,
}

/// Calls to hosts the mesh does not know.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// Mode. Istio's enum starts with `REGISTRY_ONLY`, so an empty block asks for it.
    pub mode: OutboundTrafficPolicyMode,
    /// TLS of dynamic destinations.
    pub tls: Option<ClientTlsSettings>,
}

/// Calls to hosts the mesh does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundTrafficPolicyMode {
    /// Refused with 502.
    #[default]
    RegistryOnly,
    /// Passed on.
    AllowAny,
    /// Passed on by the name that is asked for.
    AllowAnyDynamicDns,
}

/// Calls to ports no service knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundTrafficPolicy {
    /// Mode.
    pub mode: InboundTrafficPolicyMode,
}

/// Where inbound calls are passed to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundTrafficPolicyMode {
    /// The workload's own address.
    #[default]
    Passthrough,
    /// 127.0.0.1.
    Localhost,
}

/// A further source of configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigSource {
    /// Address.
    pub address: String,
    /// TLS to it.
    pub tls_settings: Option<ClientTlsSettings>,
    /// `SERVICE_REGISTRY`.
    pub subscribed_resources: Vec<String>,
}

/// A further root.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateData {
    /// Certificates.
    pub pem: Option<String>,
    /// Where a SPIFFE bundle is served.
    pub spiffe_bundle_url: Option<String>,
    /// Kubernetes signers.
    pub cert_signers: Vec<String>,
    /// Trust domains it is for.
    pub trust_domains: Vec<String>,
}

/// A certificate to make (long out of use).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificate {
    /// Secret to write.
    pub secret_name: String,
    /// Names.
    pub dns_names: Vec<String>,
}

/// Settings by service host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// The settings.
    pub settings: Option<ServiceSettingsSettings>,
    /// Hosts; a leading wildcard is allowed.
    pub hosts: Vec<String>,
}

/// Settings of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettingsSettings {
    /// Endpoints of the client's own cluster only.
    pub cluster_local: bool,
}

/// Scope of services by selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceScopeConfig {
    /// Namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Services.
    pub services_selector: Option<LabelSelector>,
    /// `LOCAL` or `GLOBAL`.
    pub scope: String,
}

/// External certificate authority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ca {
    /// Its address.
    pub address: String,
    /// TLS to it.
    pub tls_settings: Option<ClientTlsSettings>,
    /// Default 10s.
    pub request_timeout: Option<Duration>,
    /// Whether the control plane asks it; default true.
    pub istiod_side: Option<bool>,
}

/// Providers that are used when none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultProviders {
    /// Of traces.
    pub tracing: Vec<String>,
    /// Of metrics; where none is said, the default stands.
    pub metrics: Option<Vec<String>>,
    /// Of access logs.
    pub access_logging: Vec<String>,
}

/// Normalisation of paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyPathNormalization {
    /// Kind.
    pub normalization: NormalizationType,
}

/// Kind of normalisation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum NormalizationType {
    /// As `BASE`.
    #[default]
    Default,
    /// None.
    None,
    /// RFC 3986, and `\` to `/`.
    Base,
    /// Also `//` to `/`.
    MergeSlashes,
    /// Also `%2F` and `%5C` decoded first.
    DecodeAndMergeSlashes,
}

/// TLS settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsConfig {
    /// Lowest version.
    pub min_protocol_version: TlsProtocol,
    /// Curves.
    pub ecdh_curves: Vec<String>,
    /// Suites.
    pub cipher_suites: Vec<String>,
}

/// TLS version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum TlsProtocol {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "TLS_AUTO")]
    Auto,
    /// TLS 1.2.
    #[serde(rename = "TLSV1_2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

/// Baseline below DestinationRules.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    /// Limits.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection.
    pub outlier_detection: Option<OutlierDetection>,
}

/// Who sees ServiceEntries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryVisibility {
    /// `PUBLIC` or `PRIVATE`.
    pub default_visibility: String,
    /// Whether it holds for sidecars.
    pub apply_to_sidecars: bool,
    /// Exceptions.
    pub policies: Vec<ServiceEntryVisibilityPolicy>,
}

/// An exception.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryVisibilityPolicy {
    /// `PUBLIC` or `PRIVATE`.
    pub visibility: String,
    /// Namespaces it is for.
    pub matching_rules: Vec<ServiceEntryMatchingRule>,
}

/// Namespaces of an exception.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntryMatchingRule {
    /// By label.
    pub namespace_selector: Option<LabelSelector>,
}

/// `value`, or `default` when it is empty.
fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

/// `value` as a port, or `default` when it is unset.
fn port_or(value: i32, default: u16) -> u16 {
    u16::try_from(value).ok().filter(|port| *port != 0).unwrap_or(default)
}

/// `values`, or `["*"]` when there are none.
fn export_or_all(values: &[String]) -> Vec<&str> {
    if values.is_empty() { vec!["*"] } else { values.iter().map(String::as_str).collect() }
}

/// Our own variable among `defaultConfig.proxyMetadata`: a percentage, or `off`.
pub const ACCESS_LOG_SAMPLE: &str = "TULLE_ACCESS_LOG_SAMPLE";

/// What a variable says that is a percentage or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// Nothing.
    Unset,
    /// Neither a percentage nor `off`.
    Malformed,
    /// `off`
    Off,
    /// A share.
    Millionths(u32),
}

impl MeshConfig {
    /// Namespace whose policies hold for the mesh; default `istio-system`.
    pub fn root_namespace(&self) -> &str {
        or(&self.root_namespace, "istio-system")
    }

    /// Trust domain of all identities; default `cluster.local`.
    pub fn trust_domain(&self) -> &str {
        or(&self.trust_domain, "cluster.local")
    }

    /// Port of captured outbound traffic; default 15001.
    pub fn proxy_listen_port(&self) -> u16 {
        port_or(self.proxy_listen_port, 15001)
    }

    /// Port of captured inbound traffic; default 15006.
    pub fn proxy_inbound_listen_port(&self) -> u16 {
        port_or(self.proxy_inbound_listen_port, 15006)
    }

    /// Port of the HTTP proxy listener, when there is one.
    pub fn proxy_http_port(&self) -> Option<u16> {
        u16::try_from(self.proxy_http_port).ok().filter(|port| *port != 0)
    }

    /// Time to connect; default 10s.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.unwrap_or(Duration::from_secs(10))
    }

    /// Whether clients use mutual TLS where the server can; default yes.
    pub fn enable_auto_mtls(&self) -> bool {
        self.enable_auto_mtls.unwrap_or(true)
    }

    /// Whether traces are made; default yes.
    pub fn enable_tracing(&self) -> bool {
        self.enable_tracing.unwrap_or(true)
    }

    /// Whether the app's metrics are served with the proxy's; default yes.
    pub fn enable_prometheus_merge(&self) -> bool {
        self.enable_prometheus_merge.unwrap_or(true)
    }

    /// Whether `SIMPLE` TLS without roots uses those of the system; default yes.
    pub fn verify_certificate_at_client(&self) -> bool {
        self.verify_certificate_at_client.unwrap_or(true)
    }

    /// Calls to hosts the mesh does not know; default `ALLOW_ANY` when the block is absent.
    pub fn outbound_traffic_policy_mode(&self) -> OutboundTrafficPolicyMode {
        self.outbound_traffic_policy
            .as_ref()
            .map_or(OutboundTrafficPolicyMode::AllowAny, |policy| policy.mode)
    }

    /// Where inbound calls are passed to; default the workload's own address.
    pub fn inbound_traffic_policy_mode(&self) -> InboundTrafficPolicyMode {
        self.inbound_traffic_policy.as_ref().map_or_else(Default::default, |policy| policy.mode)
    }

    /// Normalisation of paths; default `BASE`, never [`NormalizationType::Default`].
    pub fn path_normalization(&self) -> NormalizationType {
        match self.path_normalization.as_ref().map(|block| block.normalization) {
            None | Some(NormalizationType::Default) => NormalizationType::Base,
            Some(other) => other,
        }
    }

    /// `exportTo` of Services that set none; default `["*"]`.
    pub fn default_service_export_to(&self) -> Vec<&str> {
        export_or_all(&self.default_service_export_to)
    }

    /// `exportTo` of VirtualServices that set none; default `["*"]`.
    pub fn default_virtual_service_export_to(&self) -> Vec<&str> {
        export_or_all(&self.default_virtual_service_export_to)
    }

    /// `exportTo` of DestinationRules that set none; default `["*"]`.
    pub fn default_destination_rule_export_to(&self) -> Vec<&str> {
        export_or_all(&self.default_destination_rule_export_to)
    }

    /// Providers of metrics where no Telemetry names any; default `prometheus`, as Istio's installation sets it.
    pub fn default_metrics_providers(&self) -> Vec<&str> {
        match self.default_providers.as_ref().and_then(|it| it.metrics.as_ref()) {
            None => vec!["prometheus"],
            Some(providers) => providers.iter().map(String::as_str).collect(),
        }
    }

    /// Providers of access logs where no Telemetry names any; default none.
    pub fn default_access_logging_providers(&self) -> Vec<&str> {
        let providers = self.default_providers.iter().flat_map(|it| &it.access_logging);
        providers.map(String::as_str).collect()
    }

    /// Providers of traces where no Telemetry names any; default none.
    pub fn default_tracing_providers(&self) -> Vec<&str> {
        self.default_providers.iter().flat_map(|it| &it.tracing).map(String::as_str).collect()
    }

    /// What the provider with this name is, without case; a built-in one where nobody defined it.
    pub fn provider(&self, name: &str) -> Option<Provider<'_>> {
        let defined = self.extension_providers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
        match defined {
            Some(provider) => Some(Provider::Defined(provider)),
            None if name.eq_ignore_ascii_case("prometheus") => Some(Provider::Prometheus),
            None if name.eq_ignore_ascii_case("envoy") => Some(Provider::StandardOutput),
            None => None,
        }
    }

    /// Format of the access log, when the user gave one.
    pub fn access_log_format(&self) -> Option<&str> {
        Some(self.access_log_format.as_str()).filter(|format| !format.is_empty())
    }

    /// File of the access log, when it is on.
    pub fn access_log_file(&self) -> Option<&str> {
        Some(self.access_log_file.as_str()).filter(|file| !file.is_empty())
    }

    /// How many successes are logged where nobody asks for access logs: our own variable `TULLE_ACCESS_LOG_SAMPLE`.
    pub fn access_log_sample(&self) -> Variable {
        let Some(text) = self.proxy_metadata().and_then(|all| all.get(ACCESS_LOG_SAMPLE)) else {
            return Variable::Unset;
        };
        match text.trim().parse::<f64>() {
            _ if text.trim().eq_ignore_ascii_case("off") => Variable::Off,
            // The range is looked at before.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            Ok(percent) if (0.0..=100.0).contains(&percent) => {
                Variable::Millionths((percent * 10_000.0) as u32)
            }
            _ => Variable::Malformed,
        }
    }

    /// Variables of proxies (`defaultConfig.proxyMetadata`).
    pub fn proxy_metadata(&self) -> Option<&BTreeMap<String, String>> {
        self.default_config.as_ref().map(|config| &config.proxy_metadata)
    }
}
