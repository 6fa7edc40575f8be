//! What expressions ask about, answered from a request's record (Envoy's attributes).

use std::sync::Arc;

use base::expression::{Attribute, Plain};
use bytes::Bytes;
use config::model;
use decide::expression::{Attributes, EvaluationError, Value, evaluate};

use super::captures::header_of;
use super::labels::Workload;
use super::log_value::LogContext;

/// The value of an expression about a request that has ended.
///
/// # Errors
/// It has none.
pub fn value_of(expression: &model::Expression, context: &LogContext<'_>) -> Result<Value, EvaluationError> {
    evaluate(expression, context)
}

impl Attributes for LogContext<'_> {
    fn attribute(&self, attribute: &Attribute) -> Option<Value> {
        let captures = self.captures;
        match attribute {
            Attribute::Plain(plain) => self.plain(*plain),
            Attribute::RequestHeader(name) => bytes(captures?.request_value(self.record, pseudo(name))),
            Attribute::ResponseHeader(name) => bytes(captures?.response_value(self.record, name)),
            Attribute::ResponseTrailer(name) => bytes(captures?.trailer_value(self.record, name)),
            Attribute::Node(path) => node(self.node, path),
            Attribute::DownstreamPeer(path) => workload(self.caller?, path),
            Attribute::UpstreamPeer(path) => workload(self.called?, path),
            Attribute::Whole(_) | Attribute::Unknown(_) => None,
        }
    }
}

impl LogContext<'_> {
    fn plain(&self, plain: Plain) -> Option<Value> {
        let (record, connection) = (self.record, self.connection);
        if let Some(header) = header_of(plain) {
            let value = self.captures?.request_value(record, header)?;
            return match plain {
                Plain::RequestUrlPath => Some(lossy(split(value).0)),
                Plain::RequestQuery => Some(lossy(split(value).1)),
                _ => Some(lossy(value)),
            };
        }
        let secure = !connection.tls_version.is_empty();
        match plain {
            Plain::RequestProtocol => text(record.protocol).filter(|_| record.protocol != "-"),
            Plain::RequestDuration => {
                let lasted = record.end?.saturating_duration_since(record.begun);
                Some(Value::Duration(i64::try_from(lasted.as_nanos()).unwrap_or(i64::MAX)))
            }
            Plain::RequestSize => number(record.request_body_bytes),
            Plain::RequestTotalSize => number(record.request_body_bytes + record.request_head_bytes),
            Plain::ResponseCode => (record.status != 0).then(|| Value::Int(record.status.into())),
            Plain::ResponseCodeDetails => some_text(&record.details),
            Plain::ResponseFlags => number(record.flags.envoy_bits()),
            Plain::ResponseGrpcStatus => record.grpc_status.map(|status| Value::Int(status.into())),
            Plain::ResponseSize => number(record.response_body_bytes),
            Plain::ResponseTotalSize => number(record.response_body_bytes + record.response_head_bytes),
            Plain::ConnectionMtls => {
                let shown = !connection.peer_uri_sans.is_empty() || !connection.peer_subject.is_empty();
                Some(Value::Bool(secure && shown))
            }
            Plain::ConnectionRequestedServerName => text(&connection.server_name),
            Plain::ConnectionTlsVersion => some_text(connection.tls_version),
            Plain::ConnectionSubjectPeerCertificate => text(&connection.peer_subject).filter(|_| secure),
            Plain::ConnectionUriSanLocalCertificate => first(&connection.local_uri_sans, secure),
            Plain::ConnectionUriSanPeerCertificate => first(&connection.peer_uri_sans, secure),
            Plain::ConnectionTransportFailureReason => some_text(&record.downstream_failure),
            Plain::ConnectionTerminationDetails => some_text(&record.termination),
            Plain::UpstreamAddress => text(record.upstream_host.as_deref()?),
            Plain::UpstreamPort => port(record.upstream_host.as_deref()?),
            Plain::UpstreamLocalAddress => Some(Value::String(record.upstream_local?.to_string())),
            Plain::UpstreamTransportFailureReason => text(&record.transport_failure),
            Plain::UpstreamRequestAttemptCount => Some(Value::Uint(record.attempts.into())),
            Plain::SourceAddress => {
                Some(Value::String(record.client_address.unwrap_or(connection.remote).to_string()))
            }
            Plain::SourcePort => {
                Some(Value::Int(record.client_address.unwrap_or(connection.remote).port().into()))
            }
            Plain::DestinationAddress => Some(Value::String(connection.local.to_string())),
            Plain::DestinationPort => Some(Value::Int(connection.local.port().into())),
            Plain::ClusterName => text(record.upstream_cluster.as_deref()?),
            Plain::RouteName => text(record.route_name.as_deref().unwrap_or_default()),
            Plain::VirtualHostName => text(record.virtual_host.as_deref()?),
            _ => None,
        }
    }
}

/// A header that HTTP/1 calls otherwise.
fn pseudo(name: &str) -> &str {
    if name == "host" { ":authority" } else { name }
}

fn lossy(bytes: &[u8]) -> Value {
    Value::String(String::from_utf8_lossy(bytes).into_owned())
}

fn bytes(value: Option<&Bytes>) -> Option<Value> {
    value.map(|value| lossy(value))
}

fn text(text: &str) -> Option<Value> {
    Some(Value::String(text.to_owned()))
}

fn some_text(value: &str) -> Option<Value> {
    if value.is_empty() { None } else { text(value) }
}

fn first(list: &str, secure: bool) -> Option<Value> {
    text(list.split(',').next().unwrap_or_default()).filter(|_| secure)
}

fn number(number: u64) -> Option<Value> {
    i64::try_from(number).ok().map(Value::Int)
}

/// Path and query of a target, without the mark between them.
fn split(target: &[u8]) -> (&[u8], &[u8]) {
    let target = target.split(|byte| *byte == b'#').next().unwrap_or_default();
    match target.iter().position(|byte| *byte == b'?') {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, b""),
    }
}

fn port(address: &str) -> Option<Value> {
    let address: std::net::SocketAddr = address.parse().ok()?;
    Some(Value::Int(address.port().into()))
}

fn node(node: &model::Node, path: &[Arc<str>]) -> Option<Value> {
    match path {
        [field] if &**field == "id" => text(&node.id),
        [field] if &**field == "cluster" => text(&node.cluster),
        [field, rest @ ..] if &**field == "metadata" => {
            let (key, rest) = rest.split_first()?;
            let value = rest.iter().try_fold(node.metadata.get(key)?, |value, key| value.get(key))?;
            Some(plain_value(value))
        }
        _ => None,
    }
}

fn plain_value(value: &model::Value) -> Value {
    match value {
        model::Value::Null => Value::Null,
        model::Value::Bool(it) => Value::Bool(*it),
        model::Value::Number(it) => Value::Double(*it),
        model::Value::String(it) => Value::String(it.to_string()),
        model::Value::List(items) => Value::List(items.iter().map(plain_value).collect()),
        model::Value::Map(map) => Value::Map(
            map.iter().map(|(key, item)| (Value::String(key.to_string()), plain_value(item))).collect(),
        ),
    }
}

/// A field of a peer's metadata, by Istio's names.
fn workload(workload: &Workload, path: &[Arc<str>]) -> Option<Value> {
    let [field] = path else { return None };
    some_text(match &**field {
        "workload" => &workload.workload,
        "namespace" => &workload.namespace,
        "cluster" => &workload.cluster,
        "app" => &workload.app,
        "version" => &workload.version,
        "service" => &workload.canonical_service,
        "revision" => &workload.canonical_revision,
        _ => return None,
    })
}
