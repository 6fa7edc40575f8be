//! Where requests are logged and how a line looks.

use super::access_log_filter::AccessLogFilter;
use super::format::Format;
use super::tracing::Collector;
use std::sync::Arc;

/// One access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// What is written, and where to.
    pub output: AccessLogOutput,
    /// Which requests are written; `None`: all.
    pub filter: Option<AccessLogFilter>,
}

/// What is written, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogOutput {
    /// Lines (`envoy.access_loggers.file`, `.stdout`, `.stderr`).
    Lines {
        /// Where they go.
        sink: AccessLogSink,
        /// How one is written.
        format: AccessLogFormat,
    },
    /// Records over OpenTelemetry's protocol (`envoy.access_loggers.open_telemetry`).
    OpenTelemetry(Arc<OpenTelemetryLog>),
}

/// An access log over OpenTelemetry's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTelemetryLog {
    /// Where it goes.
    pub collector: Collector,
    /// Its name; an attribute of the resource.
    pub log_name: Arc<str>,
    /// `log_name`, `zone_name`, `cluster_name` and `node_name` are attributes of the resource.
    pub builtin_labels: bool,
    /// Further attributes of the resource, without values of requests.
    pub resource_attributes: Vec<(Arc<str>, LogText)>,
    /// The body of a record.
    pub body: Option<LogText>,
    /// The attributes of a record.
    pub attributes: Vec<(Arc<str>, LogText)>,
}

/// A value of a record: texts all the way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogText {
    /// A text.
    Text(Format),
    /// Values in order.
    List(Vec<LogText>),
    /// Values by name.
    Fields(Vec<(Arc<str>, LogText)>),
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AccessLogSink {
    /// Standard output (`/dev/stdout`).
    Stdout,
    /// Standard error (`/dev/stderr`).
    Stderr,
    /// A file, opened for appending.
    File(Arc<str>),
}

/// How a line is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogFormat {
    /// Its parts.
    pub layout: AccessLogLayout,
    /// A value that is missing is written as nothing, not as `-`; a field of a JSON object that has none is left out.
    pub omit_empty_values: bool,
}

/// The parts of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogLayout {
    /// Text; the newline is part of the format.
    Text(Format),
    /// One JSON object a line.
    Json(JsonFormat),
}

/// A value of a JSON line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JsonFormat {
    /// What stands there is written: a number, a truth or null, as JSON.
    Fixed(Arc<str>),
    /// Null: left out where missing values are.
    Null,
    /// A text. One that is a single operator keeps its type (numbers, null).
    Text(Format),
    /// Values in order.
    List(Vec<JsonFormat>),
    /// Fields by name, sorted.
    Object(Vec<(Arc<str>, JsonFormat)>),
}
