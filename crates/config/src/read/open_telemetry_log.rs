//! Access logs over OpenTelemetry's protocol.

use std::sync::Arc;

use protos::envoy::envoy::extensions::access_loggers::grpc::v3::CommonGrpcAccessLogConfig;
use protos::envoy::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use protos::envoy::opentelemetry::proto::common::v1::{
    AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value,
};

use super::collector::{read_grpc_collector, read_http_collector};
use super::format::read_log_text;
use super::name::name;
use crate::context::{Context, Result, refuse, report};
use crate::model::{Collector, LogText, OpenTelemetryLog};

/// Most values of a record.
const LIMIT: usize = 200;
/// How deep lists and fields may stand in one another.
const DEPTH: usize = 16;

/// Reads the logger.
#[allow(deprecated, reason = "Envoy still takes the fields of common_config")]
pub(super) fn read_open_telemetry_log(
    cx: &mut Context,
    message: &OpenTelemetryAccessLogConfig,
) -> Result<Arc<OpenTelemetryLog>> {
    let OpenTelemetryAccessLogConfig {
        common_config,
        http_service,
        grpc_service,
        // These four are read by `rest`.
        disable_builtin_labels: _,
        resource_attributes: _,
        body: _,
        attributes: _,
        resource_detectors,
        stat_prefix,
        formatters,
        log_name,
        buffer_flush_interval,
        buffer_size_bytes,
        filter_state_objects_to_log,
        custom_tags,
    } = message;
    refuse!(cx, "formatter extensions are not supported"; formatters);
    refuse!(cx, "write the values as attributes"; custom_tags);
    report!(cx, "no resource is detected: write resource_attributes"; resource_detectors);
    report!(cx, "the counters have fixed names"; stat_prefix);
    report!(cx, "a batch is sent after a second or 256 records"; buffer_flush_interval, buffer_size_bytes);
    report!(cx, "there is no such state"; filter_state_objects_to_log);
    let common = common_config.as_ref().map(|common| cx.field("common_config", |cx| read_common(cx, common)));
    let common = common.transpose()?;
    let collector = match (grpc_service, http_service, common) {
        (Some(grpc), None, None) => cx.field("grpc_service", |cx| read_grpc_collector(cx, grpc))?,
        (None, Some(http), None) => cx.field("http_service", |cx| read_http_collector(cx, http))?,
        (None, None, Some((collector, common_name))) => {
            let log_name = if log_name.is_empty() { &common_name } else { log_name.as_str() };
            return rest(cx, (collector, log_name), message);
        }
        _ => return Err(cx.refused("exactly one of grpc_service, http_service and common_config is wanted")),
    };
    rest(cx, (collector, log_name), message)
}

/// The older place of the collector and the name.
fn read_common(cx: &mut Context, message: &CommonGrpcAccessLogConfig) -> Result<(Collector, Arc<str>)> {
    let CommonGrpcAccessLogConfig {
        log_name,
        grpc_service,
        transport_api_version,
        buffer_flush_interval,
        buffer_size_bytes,
        filter_state_objects_to_log,
        grpc_stream_retry_policy,
        custom_tags,
    } = message;
    refuse!(cx, "write the values as attributes"; custom_tags);
    report!(cx, "the protocol has one version"; transport_api_version);
    report!(cx, "a batch is sent after a second or 256 records"; buffer_flush_interval, buffer_size_bytes);
    report!(cx, "there is no such state"; filter_state_objects_to_log);
    report!(cx, "what cannot be sent is dropped and counted"; grpc_stream_retry_policy);
    let log_name = name(cx, "log_name", log_name)?;
    let grpc = cx.required("grpc_service", grpc_service)?;
    Ok((cx.field("grpc_service", |cx| read_grpc_collector(cx, grpc))?, log_name))
}

/// What a record says.
fn rest(
    cx: &mut Context,
    (collector, log_name): (Collector, &str),
    message: &OpenTelemetryAccessLogConfig,
) -> Result<Arc<OpenTelemetryLog>> {
    let mut seen = 0;
    let mut fields = |cx: &mut Context, field: &str, of: &Option<KeyValueList>| match of {
        None => Ok(Vec::new()),
        Some(list) => cx.field(field, |cx| read_fields(cx, list, &mut seen, DEPTH)),
    };
    let resource_attributes = fields(cx, "resource_attributes", &message.resource_attributes)?;
    let attributes = fields(cx, "attributes", &message.attributes)?;
    let body = match &message.body {
        None => None,
        Some(body) => Some(cx.field("body", |cx| read_value(cx, body, &mut seen, DEPTH))?),
    };
    Ok(Arc::new(OpenTelemetryLog {
        collector,
        log_name: name(cx, "log_name", log_name)?,
        builtin_labels: !message.disable_builtin_labels,
        resource_attributes,
        body,
        attributes,
    }))
}

fn counted(cx: &Context, seen: &mut usize, more: usize) -> Result<()> {
    *seen += more;
    if *seen > LIMIT {
        return Err(cx.refused(format!("{seen} values; at most {LIMIT} are allowed")));
    }
    Ok(())
}

fn read_fields(
    cx: &mut Context,
    message: &KeyValueList,
    seen: &mut usize,
    depth: usize,
) -> Result<Vec<(Arc<str>, LogText)>> {
    let KeyValueList { values } = message;
    counted(cx, seen, values.len())?;
    let mut read = Vec::with_capacity(values.len());
    for KeyValue { key, value, key_strindex } in values {
        let value = cx.entry("values", key, |cx| {
            refuse!(cx, "belongs to profiles"; key_strindex);
            match value {
                None => Err(cx.refused("has no value")),
                Some(value) => read_value(cx, value, seen, depth),
            }
        })?;
        read.push((key.as_str().into(), value));
    }
    Ok(read)
}

fn read_value(cx: &mut Context, message: &AnyValue, seen: &mut usize, depth: usize) -> Result<LogText> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(cx.refused(format!("values stand in one another more than {DEPTH} deep")));
    };
    match &message.value {
        Some(Value::StringValue(text)) => Ok(LogText::Text(read_log_text(cx, text)?)),
        Some(Value::ArrayValue(ArrayValue { values })) => {
            counted(cx, seen, values.len())?;
            let read = |(index, value)| cx.index(index, |cx| read_value(cx, value, seen, depth));
            Ok(LogText::List(values.iter().enumerate().map(read).collect::<Result<_>>()?))
        }
        Some(Value::KvlistValue(list)) => Ok(LogText::Fields(read_fields(cx, list, seen, depth)?)),
        _ => Err(cx.refused("only texts, lists and fields are values of a record, as in Envoy")),
    }
}
