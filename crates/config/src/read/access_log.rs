//! Access logs: file, standard output, standard error, OpenTelemetry.

use super::access_log_filter::read_access_log_filter;
use super::log_format::{default_format, json_format, read_substitution_format, text_format};
use super::name::required_name;
use super::open_telemetry_log::read_open_telemetry_log;
use crate::context::{Context, Result};
use crate::model::{AccessLog, AccessLogOutput, AccessLogSink};
use protos::Any;
use protos::envoy::envoy::config::accesslog::v3 as accesslog;
use protos::envoy::envoy::extensions::access_loggers::file::v3::{self as file, FileAccessLog};
use protos::envoy::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use protos::envoy::envoy::extensions::access_loggers::stream::v3::{
    self as stream, StderrAccessLog, StdoutAccessLog,
};

/// Most logs of one listener or connection manager.
const LIMIT: usize = 16;

/// Reads a list of access logs.
pub fn read_access_logs(cx: &mut Context, logs: &[accesslog::AccessLog]) -> Result<Vec<AccessLog>> {
    cx.list("access_log", logs, LIMIT, read_access_log)
}

fn read_access_log(cx: &mut Context, message: &accesslog::AccessLog) -> Result<AccessLog> {
    let accesslog::AccessLog { name, filter, config_type } = message;
    let Some(accesslog::access_log::ConfigType::TypedConfig(any)) = config_type else {
        return Err(cx.refused_field("typed_config", format!("is missing (access log {name:?})")));
    };
    let output = cx.field("typed_config", |cx| read_logger(cx, name, any))?;
    let filter = match filter {
        None => None,
        Some(filter) => Some(cx.field("filter", |cx| read_access_log_filter(cx, filter))?),
    };
    Ok(AccessLog { output, filter })
}

fn read_logger(cx: &mut Context, name: &str, any: &Any) -> Result<AccessLogOutput> {
    if any.type_url == protos::any::type_url::<FileAccessLog>() {
        use file::file_access_log::AccessLogFormat as Choice;
        let FileAccessLog { path, access_log_format } = cx.open(any)?;
        let sink = match required_name(cx, "path", &path)? {
            path if &*path == "/dev/stdout" => AccessLogSink::Stdout,
            path if &*path == "/dev/stderr" => AccessLogSink::Stderr,
            path => AccessLogSink::File(path),
        };
        let format = match &access_log_format {
            None => default_format(cx, false)?,
            Some(Choice::Format(text)) => cx.field("format", |cx| text_format(cx, text, false))?,
            Some(Choice::JsonFormat(map)) => cx.field("json_format", |cx| json_format(cx, map, false))?,
            Some(Choice::TypedJsonFormat(map)) => {
                cx.field("typed_json_format", |cx| json_format(cx, map, false))?
            }
            Some(Choice::LogFormat(format)) => {
                cx.field("log_format", |cx| read_substitution_format(cx, format))?
            }
        };
        Ok(AccessLogOutput::Lines { sink, format })
    } else if any.type_url == protos::any::type_url::<StdoutAccessLog>() {
        use stream::stdout_access_log::AccessLogFormat as Choice;
        let StdoutAccessLog { access_log_format } = cx.open(any)?;
        let format = match &access_log_format {
            None => default_format(cx, false)?,
            Some(Choice::LogFormat(format)) => {
                cx.field("log_format", |cx| read_substitution_format(cx, format))?
            }
        };
        Ok(AccessLogOutput::Lines { sink: AccessLogSink::Stdout, format })
    } else if any.type_url == protos::any::type_url::<StderrAccessLog>() {
        use stream::stderr_access_log::AccessLogFormat as Choice;
        let StderrAccessLog { access_log_format } = cx.open(any)?;
        let format = match &access_log_format {
            None => default_format(cx, false)?,
            Some(Choice::LogFormat(format)) => {
                cx.field("log_format", |cx| read_substitution_format(cx, format))?
            }
        };
        Ok(AccessLogOutput::Lines { sink: AccessLogSink::Stderr, format })
    } else if any.type_url == protos::any::type_url::<OpenTelemetryAccessLogConfig>() {
        let message: OpenTelemetryAccessLogConfig = cx.open(any)?;
        Ok(AccessLogOutput::OpenTelemetry(read_open_telemetry_log(cx, &message)?))
    } else {
        Err(cx
            .refused(format!("the access log {name:?} ({}) is not supported: use a file log", any.type_url)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AccessLogLayout, JsonFormat};
    use crate::read::log_format::MAX_FIELDS;
    use protos::envoy::envoy::config::core::v3 as core;
    use protos::envoy::google::protobuf as pb;

    fn read(log: FileAccessLog) -> Result<crate::Read<Vec<AccessLog>>> {
        let config_type = Some(accesslog::access_log::ConfigType::TypedConfig(protos::any::pack(&log)));
        let message =
            accesslog::AccessLog { name: "envoy.access_loggers.file".into(), filter: None, config_type };
        Context::read(|cx| read_access_logs(cx, &[message]))
    }

    #[test]
    fn reads_a_file_log() {
        let read = read(FileAccessLog { path: "/dev/stdout".into(), access_log_format: None }).unwrap();
        assert!(matches!(&read.value[0].output, AccessLogOutput::Lines { sink: AccessLogSink::Stdout, .. }));
        assert_eq!(read.value[0].filter, None);
        assert!(read.notes.is_empty(), "{:?}", read.notes);
    }

    #[test]
    fn refuses_unknown_operators() {
        use file::file_access_log::AccessLogFormat as Choice;
        let log_format = core::SubstitutionFormatString {
            format: Some(core::substitution_format_string::Format::TextFormat("%WASM%".into())),
            ..Default::default()
        };
        let log = FileAccessLog { path: "/x".into(), access_log_format: Some(Choice::LogFormat(log_format)) };
        let refused = read(log).unwrap_err();
        assert_eq!(refused.path, "access_log[0].typed_config.log_format.text_format");
        assert!(refused.reason.contains("%WASM%"));
    }

    fn json(
        fields: impl IntoIterator<Item = (String, pb::value::Kind)>,
    ) -> Result<crate::Read<Vec<AccessLog>>> {
        use file::file_access_log::AccessLogFormat as Choice;
        let field = |(name, kind)| (name, pb::Value { kind: Some(kind) });
        let fields = fields.into_iter().map(field).collect();
        let format = Some(core::substitution_format_string::Format::JsonFormat(pb::Struct { fields }));
        let log_format = core::SubstitutionFormatString { format, ..Default::default() };
        read(FileAccessLog { path: "/x".into(), access_log_format: Some(Choice::LogFormat(log_format)) })
    }

    #[test]
    fn fields_of_a_json_log_are_in_order_and_bounded() {
        use pb::value::Kind;
        let count = |count: usize| {
            json((0..count).map(|it| (format!("field-{it:03}"), Kind::StringValue("%RESPONSE_CODE%".into()))))
        };
        let logs = count(2).unwrap().value;
        let AccessLogOutput::Lines { format, .. } = &logs[0].output else { panic!("{logs:?}") };
        let AccessLogLayout::Json(JsonFormat::Object(fields)) = &format.layout else { panic!("{logs:?}") };
        let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["field-000", "field-001"]);
        assert!(count(MAX_FIELDS).is_ok());
        assert!(count(MAX_FIELDS + 1).unwrap_err().reason.contains("the limit is 200"));
    }

    #[test]
    fn values_of_a_json_log_keep_their_types() {
        use pb::value::Kind;
        let list = vec![pb::Value { kind: Some(Kind::NumberValue(5.0)) }, pb::Value { kind: None }];
        let fields = [
            ("a".to_owned(), Kind::BoolValue(true)),
            ("b".to_owned(), Kind::NumberValue(1.5)),
            ("c".to_owned(), Kind::ListValue(pb::ListValue { values: list })),
            ("d".to_owned(), Kind::NumberValue(12_345_678_901.0)),
        ];
        let logs = json(fields).unwrap().value;
        let AccessLogOutput::Lines { format, .. } = &logs[0].output else { panic!("{logs:?}") };
        let fixed = |text: &str| JsonFormat::Fixed(text.into());
        let expected = vec![
            ("a".into(), fixed("true")),
            ("b".into(), fixed("1.5")),
            ("c".into(), JsonFormat::List(vec![fixed("5"), JsonFormat::Null])),
            ("d".into(), fixed("12345678901")),
        ];
        assert_eq!(format.layout, AccessLogLayout::Json(JsonFormat::Object(expected)));
        let mut deep = Kind::BoolValue(true);
        for _ in 0..20 {
            deep = Kind::ListValue(pb::ListValue { values: vec![pb::Value { kind: Some(deep) }] });
        }
        assert!(json([("a".to_owned(), deep)]).unwrap_err().reason.contains("deep"));
    }
}
