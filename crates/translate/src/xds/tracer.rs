//! Who gets the spans: the tracer of a provider, and the cluster that it sends to.

use api::Resource;
use api::kinds::extension_provider::{HttpHeader, OpenTelemetry, Zipkin};
use api::kinds::service::Service;
use protos::Any;
use protos::envoy::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, TypedExtensionConfig, grpc_service,
    header_value_option::HeaderAppendAction, http_uri::HttpUpstreamType,
};
use protos::envoy::envoy::config::trace::v3::{
    OpenTelemetryConfig, ZipkinConfig, tracing::Http, tracing::http::ConfigType, zipkin_config,
};
use protos::envoy::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::{
    DynatraceResourceDetectorConfig, EnvironmentResourceDetectorConfig,
};
use protos::envoy::google::protobuf::Duration;

use crate::host;
use crate::kinds::service;
use crate::merge::tracing::TracingProvider;
use crate::names;
use crate::scope::Scope;
use crate::values;
use crate::world::World;

/// The tracer of a provider; `None` when this proxy knows no such service, or the provider makes no traces.
pub fn tracer(scope: &Scope<'_>, provider: TracingProvider<'_>) -> Option<Http> {
    match provider {
        TracingProvider::Zipkin(address) => {
            let (name, port) = address.rsplit_once(':')?;
            let (host, cluster) = lookup(scope, name, port.parse().ok()?)?;
            Some(zipkin(&host, cluster, &Zipkin::default()))
        }
        TracingProvider::Extension(provider) => match (&provider.zipkin, &provider.opentelemetry) {
            (Some(config), _) => {
                let (host, cluster) = lookup(scope, &config.service, config.port)?;
                Some(zipkin(&host, cluster, config))
            }
            (_, Some(config)) => {
                let (host, cluster) = lookup(scope, &config.service, config.port)?;
                Some(opentelemetry(scope, host, cluster, config))
            }
            (None, None) => None,
        },
    }
}

/// The Service that `[namespace/]host` names, and its cluster.
fn lookup(scope: &Scope<'_>, name: &str, port: u32) -> Option<(String, String)> {
    let service = find(scope, name)?;
    service::port(&service.spec, u16::try_from(port).ok()?)?;
    let fqdn = service::fqdn(service);
    Some((fqdn.clone(), names::outbound_cluster(port, "", &fqdn)))
}

/// Whether the mesh has the Service that `[namespace/]host` names, with that port.
pub fn is_known(world: &World, name: &str, port: u32) -> bool {
    let number = u16::try_from(port).unwrap_or_default();
    candidates(world.mesh().root_namespace(), name)
        .iter()
        .any(|fqdn| world.service(fqdn).is_some_and(|it| service::port(&it.spec, number).is_some()))
}

/// Full names that may be meant, the likeliest first: `zipkin.istio-system` is what people write for an address.
fn candidates(root: &str, name: &str) -> [String; 2] {
    let (namespace, name) = name.split_once('/').unwrap_or((root, name));
    [host::expand(name, namespace), format!("{name}.svc.cluster.local")]
}

fn find<'w>(scope: &Scope<'w>, name: &str) -> Option<&'w Resource<Service>> {
    let all = candidates(scope.world.mesh().root_namespace(), name);
    all.iter().find_map(|fqdn| scope.service(fqdn)).map(AsRef::as_ref)
}

fn http(name: &str, config: Any) -> Http {
    Http { name: name.to_owned(), config_type: Some(ConfigType::TypedConfig(config)) }
}

fn zipkin(host: &str, cluster: String, config: &Zipkin) -> Http {
    use zipkin_config::{CollectorEndpointVersion, TraceContextOption};
    let path = if config.path.is_empty() { "/api/v2/spans" } else { &config.path };
    let with_w3c =
        config.trace_context_option == api::kinds::extension_provider::TraceContextOption::B3WithW3c;
    let option =
        if with_w3c { TraceContextOption::UseB3WithW3cPropagation } else { TraceContextOption::UseB3 };
    let timeout = config.timeout.map(values::duration);
    let service = HttpService {
        http_uri: Some(HttpUri {
            uri: format!("http://{host}{path}"),
            timeout: timeout.or(Some(Duration { seconds: 5, nanos: 0 })),
            http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
        }),
        request_headers_to_add: added(&config.headers),
        ..Default::default()
    };
    let config = ZipkinConfig {
        trace_id_128bit: !config.enable64bit_trace_id,
        shared_span_context: values::boolean(false),
        collector_endpoint_version: CollectorEndpointVersion::HttpJson as i32,
        trace_context_option: option as i32,
        collector_service: Some(service),
        ..Default::default()
    };
    http("envoy.tracers.zipkin", protos::any::pack(&config))
}

fn opentelemetry(scope: &Scope<'_>, host: String, cluster: String, config: &OpenTelemetry) -> Http {
    let mut tracer =
        OpenTelemetryConfig { service_name: scope.node.service_cluster.clone(), ..Default::default() };
    match &config.http {
        Some(service) => {
            let timeout = service.timeout.map(values::duration);
            tracer.http_service = Some(HttpService {
                http_uri: Some(HttpUri {
                    uri: format!("{host}/{}", service.path.trim_start_matches('/')),
                    // Envoy wants one.
                    timeout: timeout.or(Some(Duration { seconds: 3, nanos: 0 })),
                    http_upstream_type: Some(HttpUpstreamType::Cluster(cluster)),
                }),
                request_headers_to_add: added(&service.headers),
                ..Default::default()
            });
        }
        None => {
            let target =
                grpc_service::EnvoyGrpc { cluster_name: cluster, authority: host, ..Default::default() };
            let grpc = config.grpc.as_ref();
            let metadata = grpc.map(|grpc| pairs(&grpc.initial_metadata).collect()).unwrap_or_default();
            tracer.grpc_service = Some(GrpcService {
                timeout: grpc.and_then(|grpc| grpc.timeout).map(values::duration),
                initial_metadata: metadata,
                target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(target)),
                ..Default::default()
            });
        }
    }
    if let Some(detectors) = &config.resource_detectors {
        let name = |kind: &str| format!("envoy.tracers.opentelemetry.resource_detectors.{kind}");
        let mut add = |kind: &str, config: Any| {
            let detector = TypedExtensionConfig { name: name(kind), typed_config: Some(config) };
            tracer.resource_detectors.push(detector);
        };
        if detectors.environment.is_some() {
            add("environment", protos::any::pack(&EnvironmentResourceDetectorConfig {}));
        }
        if detectors.dynatrace.is_some() {
            add("dynatrace", protos::any::pack(&DynatraceResourceDetectorConfig {}));
        }
    }
    http("envoy.tracers.opentelemetry", protos::any::pack(&tracer))
}

/// Headers with a value of their own. A value of the control plane's environment is not read: it is reported.
fn pairs(headers: &[HttpHeader]) -> impl Iterator<Item = HeaderValue> + '_ {
    headers.iter().filter_map(|header| {
        let value = header.value.clone()?;
        Some(HeaderValue { key: header.name.clone(), value, ..Default::default() })
    })
}

fn added(headers: &[HttpHeader]) -> Vec<HeaderValueOption> {
    pairs(headers)
        .map(|header| HeaderValueOption {
            header: Some(header),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
            ..Default::default()
        })
        .collect()
}
