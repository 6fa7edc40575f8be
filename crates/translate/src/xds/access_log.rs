//! The access logs that Telemetry and MeshConfig ask for.

use api::MeshConfig;
use api::kinds::extension_provider::{EnvoyOpenTelemetryLog, ExtensionProvider, LogFormat};
use api::kinds::mesh_config::Provider;
use api::kinds::structure::AnyValue;
use api::kinds::telemetry::{AccessLoggingFilter, WorkloadMode};
use protos::envoy::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ExtensionFilter, access_log::ConfigType, access_log_filter::FilterSpecifier,
    extension_filter,
};
use protos::envoy::envoy::config::core::v3::{
    DataSource, GrpcService, SubstitutionFormatString,
    data_source::Specifier,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    substitution_format_string::Format,
};
use protos::envoy::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use protos::envoy::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use protos::envoy::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use protos::envoy::google::protobuf::Struct;
use protos::envoy::opentelemetry::proto::common::v1::{
    AnyValue as OtelValue, KeyValue, KeyValueList, any_value,
};

use crate::kinds::sendable;
use crate::merge::telemetry;
use crate::scope::Scope;
use crate::{names, values};

/// Operators that only our proxy knows.
const OWN: [&str; 4] = ["%TULLE_REASON%", "%TULLE_BLAME%", "%TULLE_HOP%", "%TULLE_PEER%"];

/// Istio's default line.
const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

/// The JSON object that Istio writes where nothing else is asked for.
const DEFAULT_LABELS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
];

/// The loggers of one side of calls: what Telemetry asks for, else `accessLogFile` of the mesh.
pub fn access_logs(scope: &Scope<'_>, side: WorkloadMode) -> Vec<AccessLog> {
    let mesh = scope.world.mesh();
    let in_force = telemetry::telemetries(scope.world, scope.namespace(), &scope.labels);
    let Some(merged) = telemetry::access_logging(mesh, &in_force, side) else {
        return of_mesh(mesh, scope.is_tulle()).into_iter().collect();
    };
    let logging = merged.into_iter().filter(|(_, logging)| !logging.disabled);
    logging
        .filter_map(|(name, logging)| {
            let log = match mesh.provider(name)? {
                Provider::StandardOutput => {
                    file("/dev/stdout", Some(text_format(DEFAULT_FORMAT, scope.is_tulle())), false)
                }
                Provider::Defined(provider) => of_provider(provider, scope)?,
                Provider::Prometheus => return None,
            };
            // `tulle-proxy` evaluates no expressions yet: it writes more than was asked for, never less, and says so.
            let filter = logging.filter.filter(|_| !scope.is_tulle()).map(filter);
            Some(AccessLog { filter, ..log })
        })
        .collect()
}

/// The logger of `accessLogFile`; none without.
fn of_mesh(mesh: &MeshConfig, tulle: bool) -> Option<AccessLog> {
    let path = mesh.access_log_file()?;
    let written = mesh.access_log_format().filter(|text| sendable::format_defect(text).is_none());
    Some(file(path, Some(text_format(written.unwrap_or(DEFAULT_FORMAT), tulle)), false))
}

/// Requests and connections for which an expression holds.
fn filter(written: &AccessLoggingFilter) -> AccessLogFilter {
    let expression = ExpressionFilter { expression: written.expression.clone(), cel_config: None };
    let extension = ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".to_owned(),
        config_type: Some(extension_filter::ConfigType::TypedConfig(protos::any::pack(&expression))),
    };
    AccessLogFilter { filter_specifier: Some(FilterSpecifier::ExtensionFilter(extension)) }
}

/// The logger of a provider; `None` for one that is told about in the MeshConfig's notes.
fn of_provider(provider: &ExtensionProvider, scope: &Scope<'_>) -> Option<AccessLog> {
    if let Some(log) = &provider.envoy_file_access_log {
        let path = if log.path.is_empty() { "/dev/stdout" } else { &log.path };
        return Some(file(
            path,
            Some(file_format(log.log_format.as_ref(), scope.is_tulle())),
            log.omit_empty_values,
        ));
    }
    let otel = provider.envoy_otel_als.as_ref()?;
    // `tulle-proxy` has no such logger and would refuse the listener.
    (!scope.is_tulle()).then(|| open_telemetry(otel, scope))?
}

fn file_format(format: Option<&LogFormat>, tulle: bool) -> Format {
    match format {
        Some(LogFormat { labels: Some(labels), .. }) => {
            let text = |(key, value): (&String, &AnyValue)| match value {
                AnyValue::Text(text) if sendable::format_defect(text).is_none() => {
                    Some((key.clone(), values::text(&known(text, tulle))))
                }
                _ => None,
            };
            let mut fields: Struct = Struct { fields: labels.iter().filter_map(text).collect() };
            if fields.fields.is_empty() {
                fields = values::struct_of(DEFAULT_LABELS.map(|(key, value)| (key, values::text(value))));
            }
            Format::JsonFormat(fields)
        }
        Some(LogFormat { text: Some(text), .. }) if sendable::format_defect(text).is_none() => {
            text_format(text, tulle)
        }
        _ => text_format(DEFAULT_FORMAT, tulle),
    }
}

/// A format that the node understands: Envoy refuses the whole listener for an operator that it does not know.
fn known(text: &str, tulle: bool) -> String {
    let mut text = text.to_owned();
    if !tulle {
        OWN.iter().for_each(|own| text = text.replace(own, "-"));
    }
    text
}

/// A line, with its end.
fn text_format(text: &str, tulle: bool) -> Format {
    let mut text = known(text, tulle);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Format::TextFormatSource(DataSource {
        specifier: Some(Specifier::InlineString(text)),
        ..Default::default()
    })
}

fn file(path: &str, format: Option<Format>, omit_empty_values: bool) -> AccessLog {
    let log_format = SubstitutionFormatString { format, omit_empty_values, ..Default::default() };
    let file = FileAccessLog {
        path: path.to_owned(),
        access_log_format: Some(AccessLogFormat::LogFormat(log_format)),
    };
    AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(ConfigType::TypedConfig(protos::any::pack(&file))),
        ..Default::default()
    }
}

/// Over OpenTelemetry's protocol, to a Service of the mesh.
fn open_telemetry(log: &EnvoyOpenTelemetryLog, scope: &Scope<'_>) -> Option<AccessLog> {
    // `[namespace/]host`: the host alone names the Service.
    let host = log.service.rsplit_once('/').map_or(log.service.as_str(), |(_, host)| host);
    scope.service(host)?;
    let cluster = names::outbound_cluster(log.port, "", host);
    let grpc = EnvoyGrpc { cluster_name: cluster, authority: host.to_owned(), ..Default::default() };
    let log_name = if log.log_name.is_empty() { "otel_envoy_accesslog" } else { &log.log_name };
    let grpc_service =
        GrpcService { target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)), ..Default::default() };
    let format = log.log_format.as_ref();
    let text =
        format.and_then(|it| it.text.as_deref()).filter(|text| sendable::format_defect(text).is_none());
    let string = |text: &str| OtelValue { value: Some(any_value::Value::StringValue(text.to_owned())) };
    let labels = format.and_then(|it| it.labels.as_ref()).into_iter().flatten();
    let attributes = labels.filter_map(|(key, value)| match value {
        AnyValue::Text(text) => {
            Some(KeyValue { key: key.clone(), value: Some(string(text)), ..Default::default() })
        }
        _ => None,
    });
    let config = OpenTelemetryAccessLogConfig {
        grpc_service: Some(grpc_service),
        log_name: log_name.to_owned(),
        body: Some(string(text.unwrap_or(DEFAULT_FORMAT.trim_end()))),
        attributes: Some(KeyValueList { values: attributes.collect() }),
        ..Default::default()
    };
    Some(AccessLog {
        name: "envoy.access_loggers.open_telemetry".to_owned(),
        config_type: Some(ConfigType::TypedConfig(protos::any::pack(&config))),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(mesh: &MeshConfig) -> String {
        let Some(ConfigType::TypedConfig(any)) = of_mesh(mesh, true).unwrap().config_type else { panic!() };
        let file: FileAccessLog = protos::any::open(&any).unwrap();
        let Some(AccessLogFormat::LogFormat(format)) = file.access_log_format else { panic!() };
        let Some(Format::TextFormatSource(source)) = format.format else { panic!() };
        let Some(Specifier::InlineString(text)) = source.specifier else { panic!() };
        text
    }

    #[test]
    fn nothing_is_logged_unless_asked() {
        assert!(of_mesh(&MeshConfig::default(), true).is_none());
    }

    #[test]
    fn the_default_line_ends_and_a_written_one_gets_an_end() {
        let mut mesh = MeshConfig { access_log_file: "/dev/stdout".to_owned(), ..Default::default() };
        assert!(line(&mesh).starts_with("[%START_TIME%]") && line(&mesh).ends_with("%ROUTE_NAME%\n"));
        mesh.access_log_format = "%DURATION%".to_owned();
        assert_eq!(line(&mesh), "%DURATION%\n");
        mesh.access_log_format = "%NO_SUCH_THING%".to_owned();
        assert!(line(&mesh).starts_with("[%START_TIME%]"), "a proxy would refuse its listeners");
    }
}
