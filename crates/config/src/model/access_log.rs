//! Where requests are logged and how a line looks.

use super::access_log_filter::AccessLogFilter;
use super::format::Format;
use std::sync::Arc;

/// One access log (`envoy.access_loggers.file`, `.stdout`, `.stderr`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Where lines go.
    pub sink: AccessLogSink,
    /// How a line is written.
    pub format: AccessLogFormat,
    /// Which requests are written; `None`: all.
    pub filter: Option<AccessLogFilter>,
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
pub enum AccessLogFormat {
    /// Text; the newline is part of the format.
    Text(Format),
    /// One JSON object a line: field name and value, in order. A value that is a single operator keeps its type
    /// (numbers, null).
    Json(Vec<(Arc<str>, Format)>),
}
