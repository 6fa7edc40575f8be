//! Access logs over OpenTelemetry's protocol: a record per request, on its way to a collector in batches. A collector that
//! is slow, stuck or gone costs records, which are counted, and never time of a request.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use config::model::{Node, OpenTelemetryLog};
use protos::Message;
use protos::otlp::{AnyValue, ArrayValue, KeyValue, KeyValueList, Resource, any_value};
use protos::otlp_logs::{EXPORT_LOGS, ExportLogsServiceRequest, LogRecord, ResourceLogs, ScopeLogs};

use super::captures::Captures;
use super::export::{Counts, Exports, Queue};
use super::families;
use super::log_layout::RecordValue;
use super::log_value::LogContext;
use super::registry::Registry;
use super::trace::span::nanoseconds;

/// Records that may wait for a collector.
const QUEUE: usize = 4096;

/// One log, compiled.
#[derive(Debug)]
pub struct RecordLog {
    queue: Arc<Queue<LogRecord>>,
    body: Option<RecordValue>,
    attributes: Vec<(Arc<str>, RecordValue)>,
}

impl RecordLog {
    /// Queues the record of a request that has ended.
    pub fn write(&self, context: &LogContext<'_>) {
        let (trace_id, span_id) = context.span.map_or_else(Default::default, |(trace, span)| {
            (trace.to_be_bytes().to_vec(), span.to_be_bytes().to_vec())
        });
        self.queue.push(LogRecord {
            time_unix_nano: nanoseconds(context.record.start_time),
            body: self.body.as_ref().map(|body| value(body, context)),
            attributes: fields(&self.attributes, context),
            trace_id,
            span_id,
        });
    }
}

fn fields(of: &[(Arc<str>, RecordValue)], context: &LogContext<'_>) -> Vec<KeyValue> {
    let field = |(key, of): &(Arc<str>, RecordValue)| KeyValue {
        key: key.to_string(),
        value: Some(value(of, context)),
    };
    of.iter().map(field).collect()
}

fn value(of: &RecordValue, context: &LogContext<'_>) -> AnyValue {
    let value = match of {
        RecordValue::Text(text) => any_value::Value::String(text.made(context)),
        RecordValue::List(items) => any_value::Value::List(ArrayValue {
            values: items.iter().map(|item| value(item, context)).collect(),
        }),
        RecordValue::Fields(list) => any_value::Value::Fields(KeyValueList { values: fields(list, context) }),
    };
    AnyValue { value: Some(value) }
}

/// An open queue with the log that it was opened for; gone when no log uses it.
type Opened = (Arc<OpenTelemetryLog>, Weak<Queue<LogRecord>>);

/// The logs in use: those with the same collector and resource share a queue.
#[derive(Debug)]
pub struct RecordLogs {
    registry: Arc<Registry>,
    counts: OnceLock<Arc<Counts>>,
    open: Mutex<Vec<Opened>>,
}

impl RecordLogs {
    /// No log yet; counts are shown in `registry`.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, counts: OnceLock::new(), open: Mutex::default() }
    }

    /// Compiles a log; what it needs of heads is added to `captures`.
    pub fn open(
        &self,
        log: &Arc<OpenTelemetryLog>,
        node: &Node,
        exports: &Exports,
        captures: &mut Captures,
    ) -> RecordLog {
        RecordLog {
            queue: self.queue(log, node, exports),
            body: log.body.as_ref().map(|body| RecordValue::compile(body, captures)),
            attributes: RecordValue::fields(&log.attributes, captures),
        }
    }

    fn queue(&self, log: &Arc<OpenTelemetryLog>, node: &Node, exports: &Exports) -> Arc<Queue<LogRecord>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, queue)| queue.strong_count() > 0);
        let same = |it: &OpenTelemetryLog| {
            it.collector == log.collector
                && it.log_name == log.log_name
                && it.builtin_labels == log.builtin_labels
                && it.resource_attributes == log.resource_attributes
        };
        if let Some(queue) = open.iter().find(|(it, _)| same(it)).and_then(|(_, queue)| queue.upgrade()) {
            return queue;
        }
        let counts = self.counts.get_or_init(|| {
            let counts = Counts::default();
            self.registry.shared_counter(&families::OPENTELEMETRY_LOGS_SENT, Vec::new(), &counts.sent);
            self.registry.shared_counter(&families::OPENTELEMETRY_LOGS_DROPPED, Vec::new(), &counts.dropped);
            Arc::new(counts)
        });
        let resource = resource(log, node);
        let to = (log.collector.clone(), EXPORT_LOGS, "application/x-protobuf");
        let queue = Arc::new(exports.open(QUEUE, to, counts, move |log_records| {
            let scope_logs = vec![ScopeLogs { scope: None, log_records }];
            let resource_logs = vec![ResourceLogs { resource: Some(resource.clone()), scope_logs }];
            ExportLogsServiceRequest { resource_logs }.encode_to_vec()
        }));
        open.push((log.clone(), Arc::downgrade(&queue)));
        queue
    }
}

/// What the configuration says of the resource; no request is there to ask about.
fn resource(log: &OpenTelemetryLog, node: &Node) -> Resource {
    let mut attributes = Vec::new();
    if log.builtin_labels {
        attributes.push(KeyValue::text("log_name", &*log.log_name));
        attributes.push(KeyValue::text("zone_name", &*node.locality.zone));
        attributes.push(KeyValue::text("cluster_name", &*node.cluster));
        attributes.push(KeyValue::text("node_name", &*node.id));
    }
    let mut none = Captures::default();
    for (key, value) in &log.resource_attributes {
        let value = fixed(&RecordValue::compile(value, &mut none));
        attributes.push(KeyValue { key: key.to_string(), value: Some(value) });
    }
    Resource { attributes }
}

fn fixed(of: &RecordValue) -> AnyValue {
    let value = match of {
        RecordValue::Text(text) => any_value::Value::String(text.fixed()),
        RecordValue::List(items) => {
            any_value::Value::List(ArrayValue { values: items.iter().map(fixed).collect() })
        }
        RecordValue::Fields(list) => any_value::Value::Fields(KeyValueList {
            values: list
                .iter()
                .map(|(key, of)| KeyValue { key: key.to_string(), value: Some(fixed(of)) })
                .collect(),
        }),
    };
    AnyValue { value: Some(value) }
}
