//! The access logs of one connection manager, TCP proxy or listener, compiled. Nothing is formatted when no log wants it.

use std::io;
use std::sync::Arc;

use config::model::{AccessLog, AccessLogOutput, Node};

use super::captures::Captures;
use super::export::Exports;
use super::log_filter::LogFilter;
use super::log_layout::Layout;
use super::log_records::RecordLog;
use super::log_sink::{LogSink, LogSinks};
use super::log_value::LogContext;
use super::raised::Raised;
use super::request_id;

/// What logs are opened with.
#[derive(Debug, Clone, Copy)]
pub struct Outlets<'a> {
    /// Files.
    pub sinks: &'a LogSinks,
    /// The way to collectors.
    pub exports: &'a Exports,
    /// Who this proxy is.
    pub node: &'a Node,
}

/// Access logs.
#[derive(Debug, Default)]
pub struct AccessLogs {
    logs: Vec<Log>,
    /// What is written whatever the filters say, and where the request's id was put.
    raised: Option<(Arc<Raised>, usize)>,
}

#[derive(Debug)]
struct Log {
    output: Output,
    filter: Option<LogFilter>,
}

#[derive(Debug)]
enum Output {
    Lines(Arc<LogSink>, Layout),
    Records(RecordLog),
}

impl AccessLogs {
    /// Compiles the configured logs and opens their sinks. What they need of heads is added to `captures`.
    ///
    /// # Errors
    /// A sink cannot be opened; the error names it.
    pub fn compile(
        configured: &[AccessLog],
        outlets: Outlets<'_>,
        captures: &mut Captures,
    ) -> io::Result<Self> {
        let mut compiled = Self::default();
        let sinks = outlets.sinks;
        for log in configured {
            let output = match &log.output {
                AccessLogOutput::Lines { sink, format } => {
                    let opened = sinks.get(sink).map_err(|error| {
                        io::Error::new(error.kind(), format!("access log {sink:?}: {error}"))
                    })?;
                    Output::Lines(opened, Layout::compile(format, captures))
                }
                AccessLogOutput::OpenTelemetry(log) => {
                    Output::Records(sinks.records.open(log, outlets.node, outlets.exports, captures))
                }
            };
            let filter = log.filter.as_ref();
            let filter = filter.map(|filter| LogFilter::compile(filter, captures, &sinks.filter_errors));
            if filter.is_some() {
                let id = captures.request_header(request_id::HEADER);
                compiled.raised = Some((sinks.raised.clone(), id));
            }
            compiled.logs.push(Log { output, filter });
        }
        Ok(compiled)
    }

    /// Whether nothing is logged.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty()
    }

    fn is_raised(&self, context: &LogContext<'_>) -> bool {
        let record = context.record;
        self.raised.as_ref().is_some_and(|(raised, slot)| {
            raised.takes(record.start_time, record.request_values.get(*slot).and_then(Option::as_deref))
        })
    }

    /// Writes one line per log whose filter takes the request, into the buffers of that worker.
    pub fn write(&self, context: &LogContext<'_>, worker: usize) {
        for log in &self.logs {
            let taken = log.filter.as_ref().is_none_or(|filter| filter.takes(context));
            if !taken && !self.is_raised(context) {
                continue;
            }
            match &log.output {
                Output::Lines(sink, layout) => sink.write(worker, |line| layout.write(line, context)),
                Output::Records(records) => records.write(context),
            }
        }
    }
}
