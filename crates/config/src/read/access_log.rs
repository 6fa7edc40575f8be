//! Access logs: file, standard output, standard error.

use super::access_log_filter::read_access_log_filter;
use super::format::read_format;
use super::name::required_name;
use crate::context::{Context, Result, refuse, report};
use crate::model::{AccessLog, AccessLogFormat, AccessLogSink, Format};
use protos::Any;
use protos::envoy::envoy::config::accesslog::v3 as accesslog;
use protos::envoy::envoy::config::core::v3 as core;
use protos::envoy::envoy::extensions::access_loggers::file::v3::{self as file, FileAccessLog};
use protos::envoy::envoy::extensions::access_loggers::stream::v3::{
    self as stream, StderrAccessLog, StdoutAccessLog,
};
use protos::envoy::google::protobuf as pb;
use std::sync::Arc;

/// Most logs of one listener or connection manager.
const LIMIT: usize = 16;
/// Most fields of a JSON line.
const MAX_FIELDS: usize = 200;
/// Envoy's format when none is given.
const DEFAULT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \
    \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n";

/// Reads a list of access logs.
pub fn read_access_logs(cx: &mut Context, logs: &[accesslog::AccessLog]) -> Result<Vec<AccessLog>> {
    cx.list("access_log", logs, LIMIT, read_access_log)
}

fn read_access_log(cx: &mut Context, message: &accesslog::AccessLog) -> Result<AccessLog> {
    let accesslog::AccessLog { name, filter, config_type } = message;
    let Some(accesslog::access_log::ConfigType::TypedConfig(any)) = config_type else {
        return Err(cx.refused_field("typed_config", format!("is missing (access log {name:?})")));
    };
    let (sink, format) = cx.field("typed_config", |cx| read_logger(cx, name, any))?;
    let filter = match filter {
        None => None,
        Some(filter) => Some(cx.field("filter", |cx| read_access_log_filter(cx, filter))?),
    };
    Ok(AccessLog { sink, format, filter })
}

fn read_logger(cx: &mut Context, name: &str, any: &Any) -> Result<(AccessLogSink, AccessLogFormat)> {
    if any.type_url == protos::any::type_url::<FileAccessLog>() {
        use file::file_access_log::AccessLogFormat as Choice;
        let FileAccessLog { path, access_log_format } = cx.open(any)?;
        let sink = match required_name(cx, "path", &path)? {
            path if &*path == "/dev/stdout" => AccessLogSink::Stdout,
            path if &*path == "/dev/stderr" => AccessLogSink::Stderr,
            path => AccessLogSink::File(path),
        };
        let format = match &access_log_format {
            None => default_format(cx)?,
            Some(Choice::Format(text)) => cx.field("format", |cx| text_format(cx, text))?,
            Some(Choice::JsonFormat(map)) => cx.field("json_format", |cx| json_format(cx, map))?,
            Some(Choice::TypedJsonFormat(map)) => cx.field("typed_json_format", |cx| json_format(cx, map))?,
            Some(Choice::LogFormat(format)) => {
                cx.field("log_format", |cx| read_substitution_format(cx, format))?
            }
        };
        Ok((sink, format))
    } else if any.type_url == protos::any::type_url::<StdoutAccessLog>() {
        use stream::stdout_access_log::AccessLogFormat as Choice;
        let StdoutAccessLog { access_log_format } = cx.open(any)?;
        let format = match &access_log_format {
            None => default_format(cx)?,
            Some(Choice::LogFormat(format)) => {
                cx.field("log_format", |cx| read_substitution_format(cx, format))?
            }
        };
        Ok((AccessLogSink::Stdout, format))
    } else if any.type_url == protos::any::type_url::<StderrAccessLog>() {
        use stream::stderr_access_log::AccessLogFormat as Choice;
        let StderrAccessLog { access_log_format } = cx.open(any)?;
        let format = match &access_log_format {
            None => default_format(cx)?,
            Some(Choice::LogFormat(format)) => {
                cx.field("log_format", |cx| read_substitution_format(cx, format))?
            }
        };
        Ok((AccessLogSink::Stderr, format))
    } else {
        Err(cx
            .refused(format!("the access log {name:?} ({}) is not supported: use a file log", any.type_url)))
    }
}

fn default_format(cx: &mut Context) -> Result<AccessLogFormat> {
    text_format(cx, DEFAULT)
}

fn text_format(cx: &mut Context, text: &str) -> Result<AccessLogFormat> {
    // Envoy takes an empty text for "no format given".
    Ok(AccessLogFormat::Text(read_format(cx, if text.is_empty() { DEFAULT } else { text })?))
}

fn json_format(cx: &mut Context, message: &pb::Struct) -> Result<AccessLogFormat> {
    let pb::Struct { fields } = message;
    if fields.len() > MAX_FIELDS {
        return Err(cx.refused(format!("{} fields, the limit is {MAX_FIELDS}", fields.len())));
    }
    let mut out: Vec<(Arc<str>, Format)> = Vec::with_capacity(fields.len());
    for (key, pb::Value { kind }) in fields {
        let Some(pb::value::Kind::StringValue(text)) = kind else {
            return Err(cx.entry("fields", key, |cx| cx.refused("only text values are supported")));
        };
        let format = cx.entry("fields", key, |cx| read_format(cx, text))?;
        out.push((key.as_str().into(), format));
    }
    out.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(AccessLogFormat::Json(out))
}

fn read_substitution_format(
    cx: &mut Context,
    message: &core::SubstitutionFormatString,
) -> Result<AccessLogFormat> {
    use core::substitution_format_string::Format as Choice;
    let core::SubstitutionFormatString {
        omit_empty_values,
        content_type,
        formatters,
        json_format_options,
        format,
    } = message;
    report!(cx, "an absent value is written as - or null"; omit_empty_values);
    report!(cx, "a log line has no content type"; content_type);
    report!(cx, "the fields are sorted by name"; json_format_options);
    refuse!(cx, "formatter extensions are not supported"; formatters);
    match format {
        None => default_format(cx),
        Some(Choice::TextFormat(text)) => cx.field("text_format", |cx| text_format(cx, text)),
        Some(Choice::JsonFormat(map)) => cx.field("json_format", |cx| json_format(cx, map)),
        Some(Choice::TextFormatSource(source)) => {
            let text = super::data_source::read_inline_text(cx, "text_format_source", source)?;
            cx.field("text_format_source", |cx| text_format(cx, &text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(log: FileAccessLog) -> Result<crate::Read<Vec<AccessLog>>> {
        let config_type = Some(accesslog::access_log::ConfigType::TypedConfig(protos::any::pack(&log)));
        let message =
            accesslog::AccessLog { name: "envoy.access_loggers.file".into(), filter: None, config_type };
        Context::read(|cx| read_access_logs(cx, &[message]))
    }

    #[test]
    fn reads_a_file_log() {
        let read = read(FileAccessLog { path: "/dev/stdout".into(), access_log_format: None }).unwrap();
        assert_eq!((&read.value[0].sink, &read.value[0].filter), (&AccessLogSink::Stdout, &None));
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
    fn json(count: usize, value: pb::value::Kind) -> Result<crate::Read<Vec<AccessLog>>> {
        use file::file_access_log::AccessLogFormat as Choice;
        let field = |index| (format!("field-{index:03}"), pb::Value { kind: Some(value.clone()) });
        let fields = (0..count).map(field).collect();
        let format = Some(core::substitution_format_string::Format::JsonFormat(pb::Struct { fields }));
        let log_format = core::SubstitutionFormatString { format, ..Default::default() };
        read(FileAccessLog { path: "/x".into(), access_log_format: Some(Choice::LogFormat(log_format)) })
    }

    #[test]
    fn fields_of_a_json_log_are_texts_in_order_and_bounded() {
        let text = pb::value::Kind::StringValue("%RESPONSE_CODE%".into());
        let logs = json(2, text.clone()).unwrap().value;
        let AccessLogFormat::Json(fields) = &logs[0].format else { panic!("{logs:?}") };
        let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["field-000", "field-001"]);
        assert!(json(MAX_FIELDS, text.clone()).is_ok());
        assert!(json(MAX_FIELDS + 1, text).unwrap_err().reason.contains("the limit is 200"));
        assert!(json(1, pb::value::Kind::BoolValue(true)).unwrap_err().path.contains("field-000"));
    }
}
