//! `envoy.config.trace.v3`: who makes spans, and where they go.

use super::collector::{read_grpc_collector, read_http_collector};
use super::name::{name, required_name};
use crate::context::{Context, Result, flag, number, refuse, report};
use crate::model::{Collector, CollectorProtocol, HeaderOperations, OpenTelemetry, Tracer, Zipkin};
use protos::any::type_url;
use protos::envoy::envoy::config::core::v3 as core;
use protos::envoy::envoy::config::trace::v3 as pb;
use protos::envoy::envoy::extensions::tracers::opentelemetry::resource_detectors::v3 as detectors;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Envoy's default of `max_cache_size`.
const CACHE: u32 = 1024;
/// Most spans that may wait for a collector.
const MAX_CACHE: u32 = 65_536;
/// Most resource detectors, and attributes of a static one.
const LIMIT: usize = 64;

/// Reads a provider.
pub fn read_tracer(cx: &mut Context, message: &pb::tracing::Http) -> Result<Arc<Tracer>> {
    let pb::tracing::Http { name, config_type } = message;
    let Some(pb::tracing::http::ConfigType::TypedConfig(any)) = config_type else {
        return Err(cx.refused_field("typed_config", format!("is missing (tracer {name:?})")));
    };
    cx.field("typed_config", |cx| {
        if any.type_url == type_url::<pb::OpenTelemetryConfig>() {
            let message = cx.open(any)?;
            Ok(Arc::new(Tracer::OpenTelemetry(read_opentelemetry(cx, &message)?)))
        } else if any.type_url == type_url::<pb::ZipkinConfig>() {
            let message = cx.open(any)?;
            Ok(Arc::new(Tracer::Zipkin(read_zipkin(cx, &message)?)))
        } else {
            let known = "envoy.tracers.opentelemetry and envoy.tracers.zipkin are";
            Err(cx.refused(format!("the tracer {name:?} ({}) is not supported: {known}", any.type_url)))
        }
    })
}

fn read_opentelemetry(cx: &mut Context, message: &pb::OpenTelemetryConfig) -> Result<OpenTelemetry> {
    let pb::OpenTelemetryConfig {
        grpc_service,
        http_service,
        exporter,
        service_name,
        resource_detectors,
        sampler,
        max_cache_size,
        set_telemetry_sdk_resource_attributes,
        set_service_name_resource_attribute,
        set_instrumentation_scope,
    } = message;
    refuse!(cx, "is not supported: use grpc_service or http_service"; exporter);
    refuse!(cx, "samplers are not supported: random_sampling says how many are traced"; sampler);
    let collector = match (grpc_service, http_service) {
        (None, None) => None,
        (Some(grpc), None) => Some(cx.field("grpc_service", |cx| read_grpc_collector(cx, grpc))?),
        (None, Some(http)) => Some(cx.field("http_service", |cx| read_http_collector(cx, http))?),
        (Some(_), Some(_)) => {
            return Err(cx.refused_field("http_service", "stands beside grpc_service: only one may be set"));
        }
    };
    let cache = number(max_cache_size).unwrap_or(CACHE);
    if !(1..=MAX_CACHE).contains(&cache) {
        let reason = format!("{cache} is not between 1 and {MAX_CACHE}");
        return Err(cx.refused_field("max_cache_size", reason));
    }
    let service_name = name(cx, "service_name", service_name)?;
    let mut otel = OpenTelemetry {
        collector,
        service_name: if service_name.is_empty() { "unknown_service:envoy".into() } else { service_name },
        environment_attributes: false,
        static_attributes: BTreeMap::new(),
        max_cache_size: cache as usize,
        sdk_attributes: flag(set_telemetry_sdk_resource_attributes, true),
        service_name_attribute: flag(set_service_name_resource_attribute, true),
        instrumentation_scope: flag(set_instrumentation_scope, true),
    };
    cx.list("resource_detectors", resource_detectors, LIMIT, |cx, it| read_detector(cx, it, &mut otel))?;
    Ok(otel)
}

fn read_detector(
    cx: &mut Context,
    message: &core::TypedExtensionConfig,
    otel: &mut OpenTelemetry,
) -> Result<()> {
    use detectors::{EnvironmentResourceDetectorConfig, StaticConfigResourceDetectorConfig};
    let core::TypedExtensionConfig { name: label, typed_config } = message;
    let any = cx.required("typed_config", typed_config)?;
    cx.field("typed_config", |cx| {
        if any.type_url == type_url::<EnvironmentResourceDetectorConfig>() {
            let EnvironmentResourceDetectorConfig {} = cx.open(any)?;
            otel.environment_attributes = true;
        } else if any.type_url == type_url::<StaticConfigResourceDetectorConfig>() {
            let StaticConfigResourceDetectorConfig { attributes } = cx.open(any)?;
            if attributes.len() > LIMIT {
                let reason = format!("{} entries, the limit is {LIMIT}", attributes.len());
                return Err(cx.refused_field("attributes", reason));
            }
            for (key, value) in &attributes {
                let key = cx.field("attributes", |cx| required_name(cx, "key", key))?;
                let value = cx.entry("attributes", &key, |cx| name(cx, "value", value))?;
                otel.static_attributes.insert(key, value);
            }
        } else if any.type_url == type_url::<detectors::DynatraceResourceDetectorConfig>() {
            cx.note("Dynatrace's files are not read");
        } else {
            return Err(cx.refused(format!("the detector {label:?} ({}) is not supported", any.type_url)));
        }
        Ok(())
    })
}

fn read_zipkin(cx: &mut Context, message: &pb::ZipkinConfig) -> Result<Zipkin> {
    use pb::zipkin_config::{CollectorEndpointVersion as Version, TraceContextOption};
    let pb::ZipkinConfig {
        collector_cluster,
        collector_endpoint,
        trace_id_128bit,
        shared_span_context,
        collector_endpoint_version,
        collector_hostname,
        split_spans_for_request,
        trace_context_option,
        collector_service,
        timestamp_trace_ids,
    } = message;
    refuse!(cx, "is out of use: set spawn_upstream_span"; split_spans_for_request);
    report!(cx, "ids of traces are random"; timestamp_trace_ids);
    match cx.enumeration("collector_endpoint_version", *collector_endpoint_version)? {
        Version::HttpJson => {}
        Version::DeprecatedAndUnavailableDoNotUse | Version::HttpProto | Version::Grpc => {
            return Err(cx.refused_field("collector_endpoint_version", "only HTTP_JSON is supported"));
        }
    }
    let collector = match collector_service {
        Some(service) => {
            report!(cx, "collector_service stands"; collector_cluster, collector_endpoint, collector_hostname);
            cx.field("collector_service", |cx| read_http_collector(cx, service))?
        }
        None => {
            let cluster = required_name(cx, "collector_cluster", collector_cluster)?;
            let path = required_name(cx, "collector_endpoint", collector_endpoint)?;
            if !path.starts_with('/') || path.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
                return Err(cx.refused_field("collector_endpoint", "is not the path of a URI"));
            }
            let host = name(cx, "collector_hostname", collector_hostname)?;
            if host.bytes().any(|byte| !(0x21..0x7f).contains(&byte)) {
                return Err(cx.refused_field("collector_hostname", "is not the name of a host"));
            }
            Collector {
                authority: if host.is_empty() { cluster.clone() } else { host },
                cluster,
                protocol: CollectorProtocol::Http { path },
                timeout: None,
                headers: HeaderOperations::default(),
            }
        }
    };
    let option: TraceContextOption = cx.enumeration("trace_context_option", *trace_context_option)?;
    Ok(Zipkin {
        collector,
        wide_trace_ids: *trace_id_128bit,
        shared_span_context: flag(shared_span_context, true),
        with_w3c: option == TraceContextOption::UseB3WithW3cPropagation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(uri: &str) -> core::HttpService {
        let http_upstream_type = Some(core::http_uri::HttpUpstreamType::Cluster("c".into()));
        let uri = core::HttpUri { uri: uri.into(), timeout: None, http_upstream_type };
        core::HttpService { http_uri: Some(uri), ..Default::default() }
    }

    fn read<M: protos::Message + prost::Name>(config: &M) -> Result<crate::Read<Arc<Tracer>>> {
        let config_type = Some(pb::tracing::http::ConfigType::TypedConfig(protos::any::pack(config)));
        let message = pb::tracing::Http { name: "x".into(), config_type };
        Context::read(|cx| read_tracer(cx, &message))
    }

    #[test]
    fn an_address_is_taken_apart() {
        for (uri, authority, path) in [
            ("http://zipkin.example:9411/api/v2/spans", "zipkin.example:9411", "/api/v2/spans"),
            ("collector.example/v1/traces", "collector.example", "/v1/traces"),
            ("/v1/traces", "c", "/v1/traces"),
            ("https://collector", "collector", "/"),
        ] {
            let collector = Context::read(|cx| read_http_collector(cx, &http(uri))).unwrap().value;
            assert_eq!(&*collector.authority, authority);
            assert_eq!(collector.protocol, CollectorProtocol::Http { path: path.into() });
        }
        assert!(Context::read(|cx| read_http_collector(cx, &http("http://a/b c"))).is_err());
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let exporter = Some(core::TypedExtensionConfig::default());
        let otel = pb::OpenTelemetryConfig { exporter, ..Default::default() };
        assert_eq!(read(&otel).unwrap_err().path, "typed_config.exporter");
        let zipkin = pb::ZipkinConfig { collector_service: Some(http("/x")), ..Default::default() };
        assert_eq!(read(&zipkin).unwrap_err().path, "typed_config.collector_endpoint_version");
        assert!(read(&pb::DatadogConfig::default()).unwrap_err().reason.contains("is not supported"));
        let huge = pb::OpenTelemetryConfig {
            max_cache_size: Some(protos::envoy::google::protobuf::UInt32Value { value: 1 << 30 }),
            ..Default::default()
        };
        assert_eq!(read(&huge).unwrap_err().path, "typed_config.max_cache_size");
    }
}
