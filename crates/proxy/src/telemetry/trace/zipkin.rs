//! Spans as Zipkin's JSON, version 2.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::context::{write_id, write_trace_id};
use super::span::{Kind, Span, nanoseconds};

/// Encodes spans of one service.
#[derive(Debug)]
pub struct Encoder {
    endpoint: Value,
}

impl Encoder {
    /// The service is the node's cluster, at the workload's first address.
    pub fn new(service: &str, address: Option<IpAddr>) -> Self {
        let mut endpoint = Map::new();
        endpoint.insert("serviceName".to_owned(), service.into());
        match address {
            Some(IpAddr::V4(ip)) => drop(endpoint.insert("ipv4".to_owned(), ip.to_string().into())),
            Some(IpAddr::V6(ip)) => drop(endpoint.insert("ipv6".to_owned(), ip.to_string().into())),
            None => {}
        }
        Encoder { endpoint: Value::Object(endpoint) }
    }

    /// The message.
    pub fn encode(&self, spans: Vec<Span>) -> Vec<u8> {
        let all: Vec<Value> = spans.into_iter().map(|span| self.message(span)).collect();
        serde_json::to_vec(&all).unwrap_or_default()
    }

    fn message(&self, span: Span) -> Value {
        let Span { context, name, kind, start, end, tags, events, error: _ } = span;
        let (start, end) = (nanoseconds(start) / 1_000, nanoseconds(end) / 1_000);
        let mut trace = Vec::new();
        write_trace_id(&mut trace, context.trace_id, context.wide);
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        put("traceId", digits(trace));
        put("id", id(context.span_id));
        if context.parent_id != 0 {
            put("parentId", id(context.parent_id));
        }
        put("name", name.into());
        let (kind, last) = match kind {
            Kind::Server => ("SERVER", "ss"),
            Kind::Client => ("CLIENT", "cr"),
        };
        put("kind", kind.into());
        put("timestamp", start.into());
        put("duration", end.saturating_sub(start).max(1).into());
        put("localEndpoint", self.endpoint.clone());
        if context.shared {
            put("shared", true.into());
        }
        let mut annotations: Vec<Value> = events
            .into_iter()
            .map(|event| {
                let mut text = event.name.into_owned();
                for (name, value) in event.tags {
                    text.push_str(&format!(" {name}={value}"));
                }
                json!({"timestamp": nanoseconds(event.at) / 1_000, "value": text})
            })
            .collect();
        annotations.push(json!({"timestamp": end, "value": last}));
        put("annotations", annotations.into());
        let tags: Map<String, Value> =
            tags.into_iter().map(|(name, value)| (name.into_owned(), value.into())).collect();
        put("tags", tags.into());
        Value::Object(fields)
    }
}

fn digits(text: Vec<u8>) -> Value {
    String::from_utf8_lossy(&text).into_owned().into()
}

fn id(id: u64) -> Value {
    let mut text = Vec::with_capacity(16);
    write_id(&mut text, id);
    digits(text)
}
