//! Spans as OTLP: what the resource is, and the message.

use std::collections::BTreeMap;

use config::model::OpenTelemetry;
use protos::Message;
use protos::otlp::{
    ExportTraceServiceRequest, InstrumentationScope, KeyValue, Resource, ResourceSpans, ScopeSpans,
    Span as SpanMessage, SpanEvent, SpanStatus,
};

use super::span::{Kind, Span, Tag, nanoseconds};

/// Who makes the spans.
const NAME: &str = "tulle";
/// W3C's flag for a recorded trace.
const SAMPLED: u32 = 0x1;
/// The next flag is known.
const HAS_REMOTE: u32 = 0x100;
/// The parent is a span of another process.
const REMOTE: u32 = 0x200;
const ERROR: i32 = 2;

/// Encodes spans of one resource.
#[derive(Debug)]
pub struct Encoder {
    resource: Resource,
    scope: Option<InstrumentationScope>,
}

impl Encoder {
    /// What the configuration says of the resource; `environment` is `OTEL_RESOURCE_ATTRIBUTES`.
    pub fn new(config: &OpenTelemetry, environment: &str) -> Self {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let version = env!("CARGO_PKG_VERSION");
        if config.sdk_attributes {
            let texts = [("language", "rust"), ("name", NAME), ("version", version)];
            all.extend(texts.map(|(key, value)| (format!("telemetry.sdk.{key}"), value.to_owned())));
        }
        if config.service_name_attribute {
            all.insert("service.name".to_owned(), config.service_name.to_string());
        }
        if config.environment_attributes {
            all.extend(attributes(environment));
        }
        let texts = config.static_attributes.iter();
        all.extend(texts.map(|(key, value)| (key.to_string(), value.to_string())));
        let attributes = all.into_iter().map(|(key, value)| KeyValue::text(key, value)).collect();
        let scope = InstrumentationScope { name: NAME.to_owned(), version: version.to_owned() };
        Encoder { resource: Resource { attributes }, scope: config.instrumentation_scope.then_some(scope) }
    }

    /// The message.
    pub fn encode(&self, spans: Vec<Span>) -> Vec<u8> {
        let spans = spans.into_iter().map(message).collect();
        let scope_spans = vec![ScopeSpans { scope: self.scope.clone(), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }
}

/// `key=value,key=value`, values percent-encoded; what is no pair is left out.
fn attributes(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    text.split(',').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let key = key.trim();
        (!key.is_empty()).then(|| (key.to_owned(), decoded(value.trim())))
    })
}

fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => super::context::hexadecimal(&[*high, *low]),
            _ => None,
        };
        bytes.push(escaped.map_or(*first, |byte| byte as u8));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn key_values(tags: Vec<Tag>) -> Vec<KeyValue> {
    tags.into_iter().map(|(name, value)| KeyValue::text(name, value)).collect()
}

fn message(span: Span) -> SpanMessage {
    let Span { context, name, kind, start, end, tags, events, error } = span;
    let parent = if context.parent_id == 0 { Vec::new() } else { context.parent_id.to_be_bytes().to_vec() };
    let mut flags = HAS_REMOTE;
    flags |= if context.sampled { SAMPLED } else { 0 };
    flags |= if context.remote_parent { REMOTE } else { 0 };
    SpanMessage {
        trace_id: context.trace_id.to_be_bytes().to_vec(),
        span_id: context.span_id.to_be_bytes().to_vec(),
        trace_state: String::from_utf8_lossy(&context.state).into_owned(),
        parent_span_id: parent,
        name,
        kind: match kind {
            Kind::Server => 2,
            Kind::Client => 3,
        },
        start_time_unix_nano: nanoseconds(start),
        end_time_unix_nano: nanoseconds(end),
        attributes: key_values(tags),
        events: events
            .into_iter()
            .map(|event| SpanEvent {
                time_unix_nano: nanoseconds(event.at),
                name: event.name.into_owned(),
                attributes: key_values(event.tags),
            })
            .collect(),
        status: error.then(|| SpanStatus { message: String::new(), code: ERROR }),
        flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_the_environment() {
        let read: Vec<_> = attributes("a=b, c = d%20e ,nonsense,=x,f=%zz").collect();
        let pairs = [("a", "b"), ("c", "d e"), ("f", "%zz")];
        assert_eq!(read, pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
