//! The access logs that Telemetry and MeshConfig ask for.

use api::MeshConfig;
use api::kinds::extension_provider::{EnvoyOpenTelemetryLog, ExtensionProvider, LogFormat};
use api::kinds::mesh_config::{AccessLogEncoding, Provider};
use api::kinds::structure::{self, AnyValue, Structure};
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
use protos::envoy::google::protobuf::{Struct, Value, value::Kind};
use protos::envoy::opentelemetry::proto::common::v1::{
    AnyValue as OtelValue, ArrayValue, KeyValue, KeyValueList, any_value,
};

use crate::kinds::format_string;
use crate::merge::telemetry;
use crate::scope::Scope;
use crate::xds::default_access_log::{self, Traffic};
use crate::{names, values};

/// Operators that only our proxy knows.
const OWN: [&str; 5] =
    ["%TULLE_REASON%", "%TULLE_BLAME%", "%TULLE_HOP%", "%TULLE_PEER%", "%VIRTUAL_HOST_NAME%"];

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

/// The loggers of one side of calls: what Telemetry asks for, else `accessLogFile` of the mesh, else, in our proxy,
/// failures and a sample.
pub fn access_logs(scope: &Scope<'_>, side: WorkloadMode, traffic: Traffic) -> Vec<AccessLog> {
    let mesh = scope.world.mesh();
    let in_force = telemetry::telemetries(scope.world, scope.namespace(), &scope.labels);
    let Some(merged) = telemetry::access_logging(mesh, &in_force, side) else {
        let unasked = || scope.is_tulle().then(|| default_access_log::access_log(mesh, traffic))?;
        return of_mesh(mesh, scope.is_tulle()).or_else(unasked).into_iter().collect();
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
            Some(AccessLog { filter: logging.filter.map(filter), ..log })
        })
        .collect()
}

/// The logger of `accessLogFile`; none without.
fn of_mesh(mesh: &MeshConfig, tulle: bool) -> Option<AccessLog> {
    let path = mesh.access_log_file()?;
    let written = mesh.access_log_format();
    let format = match mesh.access_log_encoding {
        AccessLogEncoding::Text => {
            let text = written.filter(|text| format_string::log_defect(text).is_none());
            text_format(text.unwrap_or(DEFAULT_FORMAT), tulle)
        }
        AccessLogEncoding::Json => {
            let object = written.and_then(|text| structure::parse(text).ok());
            labels_format(&object.unwrap_or_default(), tulle)
        }
    };
    Some(file(path, Some(format), false))
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
    open_telemetry(provider.envoy_otel_als.as_ref()?, scope)
}

fn file_format(format: Option<&LogFormat>, tulle: bool) -> Format {
    match format {
        Some(LogFormat { labels: Some(labels), .. }) => labels_format(labels, tulle),
        Some(LogFormat { text: Some(text), .. }) if format_string::log_defect(text).is_none() => {
            text_format(text, tulle)
        }
        _ => text_format(DEFAULT_FORMAT, tulle),
    }
}

/// A JSON object of these labels, or the one that Istio writes where none is left.
fn labels_format(labels: &Structure, tulle: bool) -> Format {
    let mut fields = fields(labels, tulle);
    if fields.fields.is_empty() {
        fields = values::struct_of(DEFAULT_LABELS.map(|(key, value)| (key, values::text(value))));
    }
    Format::JsonFormat(fields)
}

fn fields(labels: &Structure, tulle: bool) -> Struct {
    let field = |(key, label): (&String, &AnyValue)| Some((key.clone(), value(label, tulle)?));
    Struct { fields: labels.iter().filter_map(field).collect() }
}

/// A value with everything in it that proxies know.
fn value(label: &AnyValue, tulle: bool) -> Option<Value> {
    Some(match label {
        AnyValue::Null => Value { kind: Some(Kind::NullValue(0)) },
        AnyValue::Bool(truth) => values::truth(*truth),
        AnyValue::Number(number) => values::float(*number),
        AnyValue::Text(text) => {
            format_string::log_defect(text).is_none().then(|| values::text(&known(text, tulle)))?
        }
        AnyValue::List(items) => values::list(items.iter().filter_map(|item| value(item, tulle)).collect()),
        AnyValue::Map(map) => values::structure(fields(map, tulle)),
    })
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
pub(super) fn text_format(text: &str, tulle: bool) -> Format {
    let mut text = known(text, tulle);
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Format::TextFormatSource(DataSource {
        specifier: Some(Specifier::InlineString(text)),
        ..Default::default()
    })
}

pub(super) fn file(path: &str, format: Option<Format>, omit_empty_values: bool) -> AccessLog {
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
        format.and_then(|it| it.text.as_deref()).filter(|text| format_string::log_defect(text).is_none());
    let tulle = scope.is_tulle();
    let body = OtelValue {
        value: Some(any_value::Value::StringValue(known(text.unwrap_or(DEFAULT_FORMAT.trim_end()), tulle))),
    };
    let labels = format.and_then(|it| it.labels.as_ref());
    let attributes = labels.map(|labels| attributes(labels, tulle)).unwrap_or_default();
    let config = OpenTelemetryAccessLogConfig {
        grpc_service: Some(grpc_service),
        log_name: log_name.to_owned(),
        body: Some(body),
        attributes: Some(KeyValueList { values: attributes }),
        ..Default::default()
    };
    Some(AccessLog {
        name: "envoy.access_loggers.open_telemetry".to_owned(),
        config_type: Some(ConfigType::TypedConfig(protos::any::pack(&config))),
        ..Default::default()
    })
}

/// Attributes of a record: texts, lists and maps, as Envoy takes them.
fn attributes(labels: &Structure, tulle: bool) -> Vec<KeyValue> {
    let attribute = |(key, label): (&String, &AnyValue)| {
        Some(KeyValue { key: key.clone(), value: Some(otel_value(label, tulle)?), ..Default::default() })
    };
    labels.iter().filter_map(attribute).collect()
}

fn otel_value(label: &AnyValue, tulle: bool) -> Option<OtelValue> {
    let value = match label {
        AnyValue::Text(text) => {
            let text = format_string::log_defect(text).is_none().then(|| known(text, tulle))?;
            any_value::Value::StringValue(text)
        }
        AnyValue::Bool(truth) => any_value::Value::StringValue(truth.to_string()),
        AnyValue::Number(number) => any_value::Value::StringValue(number.to_string()),
        AnyValue::Null => return None,
        AnyValue::List(items) => any_value::Value::ArrayValue(ArrayValue {
            values: items.iter().filter_map(|item| otel_value(item, tulle)).collect(),
        }),
        AnyValue::Map(map) => any_value::Value::KvlistValue(KeyValueList { values: attributes(map, tulle) }),
    };
    Some(OtelValue { value: Some(value) })
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
    fn a_mesh_that_asks_for_nothing_has_no_file() {
        assert!(of_mesh(&MeshConfig::default(), true).is_none());
    }

    #[test]
    fn json_is_written_where_it_is_asked_for() {
        let mut mesh = MeshConfig {
            access_log_file: "/dev/stdout".to_owned(),
            access_log_encoding: AccessLogEncoding::Json,
            ..Default::default()
        };
        let fields = |mesh: &MeshConfig| {
            let Some(ConfigType::TypedConfig(any)) = of_mesh(mesh, true).unwrap().config_type else {
                panic!()
            };
            let file: FileAccessLog = protos::any::open(&any).unwrap();
            let Some(AccessLogFormat::LogFormat(format)) = file.access_log_format else { panic!() };
            let Some(Format::JsonFormat(object)) = format.format else { panic!() };
            object
        };
        assert_eq!(fields(&mesh).fields.len(), DEFAULT_LABELS.len());
        mesh.access_log_format = r#"{"code": "%RESPONSE_CODE%", "n": {"list": [1, true, null]}}"#.to_owned();
        let written = fields(&mesh);
        assert_eq!(written.fields.get("code"), Some(&values::text("%RESPONSE_CODE%")));
        assert!(matches!(written.fields["n"].kind, Some(Kind::StructValue(_))));
        mesh.access_log_format = "{".to_owned();
        assert_eq!(fields(&mesh).fields.len(), DEFAULT_LABELS.len());
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
