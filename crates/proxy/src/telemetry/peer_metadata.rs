//! Who a peer is, in two headers: `x-envoy-peer-metadata` (base64 of a protobuf Struct) and its node id.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use config::model::{Node, Value as NodeValue};
use protos::Message;
use protos::envoy::google::protobuf::{Struct, Value, value::Kind};

use super::labels::Workload;

/// The metadata.
pub const HEADER: &str = "x-envoy-peer-metadata";
/// The node id that the metadata belongs to.
pub const HEADER_ID: &str = "x-envoy-peer-metadata-id";
/// The longest metadata header that is looked at, in bytes.
pub const MAX_HEADER: usize = 16 * 1024;

const MAX_LABELS: usize = 128;

/// This workload as it tells itself to its peers: encoded once.
#[derive(Debug, Clone)]
pub struct OwnMetadata {
    /// Value of [`HEADER`].
    pub header: Bytes,
    /// Value of [`HEADER_ID`].
    pub id: Bytes,
    /// What the own metrics say.
    pub workload: Workload,
}

impl OwnMetadata {
    /// From the node of the bootstrap, with Istio's metadata keys.
    pub fn from_node(node: &Node) -> Self {
        let labels: BTreeMap<String, String> = match node.metadata.get("LABELS") {
            Some(NodeValue::Map(map)) => map
                .iter()
                .filter_map(|(key, value)| Some((key.to_string(), value.as_str()?.to_owned())))
                .collect(),
            _ => BTreeMap::new(),
        };
        let mut fields = Vec::new();
        for key in ["NAME", "NAMESPACE", "OWNER", "WORKLOAD_NAME", "CLUSTER_ID"] {
            if let Some(text) = node.text(key) {
                fields.push((key, text.to_owned()));
            }
        }
        let message = encode(&fields, &labels);
        let workload = workload(
            |key: &str| fields.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str()),
            &labels,
        );
        Self {
            header: BASE64_STANDARD.encode(message).into(),
            id: Bytes::from(node.id.to_string()),
            workload,
        }
    }
}

fn encode(fields: &[(&str, String)], labels: &BTreeMap<String, String>) -> Vec<u8> {
    let text = |value: &String| Value { kind: Some(Kind::StringValue(value.clone())) };
    let labels = Struct { fields: labels.iter().map(|(key, value)| (key.clone(), text(value))).collect() };
    let mut message: Struct =
        Struct { fields: fields.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect() };
    message.fields.insert("LABELS".to_owned(), Value { kind: Some(Kind::StructValue(labels)) });
    message.encode_to_vec()
}

/// The workload that a peer's metadata header describes; `None` when it is too long or malformed.
pub fn decode(header: &[u8]) -> Option<Workload> {
    if header.len() > MAX_HEADER {
        return None;
    }
    let bytes = BASE64_STANDARD.decode(header).ok()?;
    let message = Struct::decode(bytes.as_slice()).ok()?;
    let text = |value: Option<&Value>| match value.and_then(|value| value.kind.as_ref()) {
        Some(Kind::StringValue(text)) => Some(bounded(text)),
        _ => None,
    };
    let labels = match message.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
        Some(Kind::StructValue(labels)) => labels
            .fields
            .iter()
            .take(MAX_LABELS)
            .filter_map(|(key, value)| Some((key.clone(), text(Some(value))?)))
            .collect(),
        _ => BTreeMap::new(),
    };
    let fields: BTreeMap<&str, String> = ["NAMESPACE", "WORKLOAD_NAME", "CLUSTER_ID"]
        .into_iter()
        .filter_map(|key| Some((key, text(message.fields.get(key))?)))
        .collect();
    Some(workload(|key| fields.get(key).map(String::as_str), &labels))
}

/// Label values are names: a longer one is cut (253 characters is the longest DNS name).
fn bounded(text: &str) -> String {
    text.chars().take(253).collect()
}

fn workload<'a>(field: impl Fn(&str) -> Option<&'a str>, labels: &BTreeMap<String, String>) -> Workload {
    let label = |key: &str| labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let or_unknown =
        |value: Option<&str>| value.filter(|text| !text.is_empty()).unwrap_or("unknown").to_owned();
    let name = field("WORKLOAD_NAME");
    let service = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
    let revision = ["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"];
    Workload {
        workload: or_unknown(name),
        namespace: or_unknown(field("NAMESPACE")),
        app: or_unknown(label("app")),
        version: or_unknown(label("version")),
        canonical_service: or_unknown(service.into_iter().find_map(label).or(name)),
        canonical_revision: revision.into_iter().find_map(label).unwrap_or("latest").to_owned(),
        cluster: or_unknown(field("CLUSTER_ID")),
    }
}

/// The workload that Istio's endpoint metadata names: `name;namespace;canonical-name;canonical-revision;cluster`.
pub fn from_endpoint(text: &str) -> Option<Workload> {
    let mut parts = text.split(';').map(|part| if part.is_empty() { "unknown" } else { part });
    let mut next = || parts.next().map(bounded);
    let (workload, namespace) = (next()?, next()?);
    let (canonical_service, canonical_revision) = (next()?, next()?);
    let cluster = next().unwrap_or_else(|| "unknown".to_owned());
    let unknown = || "unknown".to_owned();
    Some(Workload {
        workload,
        namespace,
        app: unknown(),
        version: unknown(),
        canonical_service,
        canonical_revision,
        cluster,
    })
}

/// Remembers the last peer, so that a connection whose peer says the same again decodes nothing.
#[derive(Debug, Default)]
pub struct PeerCache {
    last: std::cell::RefCell<Option<(Bytes, Option<super::intern::Interned<Workload>>)>>,
}

impl PeerCache {
    /// The workload that the header describes; `None` when it cannot be read.
    pub fn get(
        &self,
        header: &[u8],
        registry: &super::Registry,
    ) -> Option<super::intern::Interned<Workload>> {
        let mut last = self.last.borrow_mut();
        if let Some((bytes, workload)) = &*last
            && bytes == header
        {
            return workload.clone();
        }
        let workload = decode(header).map(|workload| registry.workloads.intern(Arc::new(workload)));
        // The bytes are copied: the received slice would keep the whole read buffer alive.
        *last = Some((Bytes::copy_from_slice(header.get(..MAX_HEADER).unwrap_or(header)), workload.clone()));
        workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)]) -> Node {
        let text = |value: &str| NodeValue::String(value.into());
        let labels = labels.iter().map(|(key, value)| ((*key).into(), text(value))).collect();
        Node {
            id: "sidecar~127.0.1.1~payment.production~production.svc.cluster.local".into(),
            cluster: "payment.production".into(),
            metadata: BTreeMap::from([
                ("NAME".into(), text("payment-1")),
                ("NAMESPACE".into(), text("production")),
                ("WORKLOAD_NAME".into(), text("payment")),
                ("CLUSTER_ID".into(), text("here")),
                ("LABELS".into(), NodeValue::Map(labels)),
            ]),
            locality: Default::default(),
        }
    }

    #[test]
    fn a_peer_reads_what_this_workload_writes() {
        let own = OwnMetadata::from_node(&node(&[("app", "pay"), ("version", "v2")]));
        let expected = Workload {
            workload: "payment".into(),
            namespace: "production".into(),
            app: "pay".into(),
            version: "v2".into(),
            canonical_service: "pay".into(),
            canonical_revision: "v2".into(),
            cluster: "here".into(),
        };
        assert_eq!(own.workload, expected);
        assert_eq!(decode(&own.header), Some(expected));
    }

    #[test]
    fn canonical_names_follow_istios_order() {
        let labels = [
            ("app", "a"),
            ("app.kubernetes.io/name", "b"),
            ("service.istio.io/canonical-name", "c"),
            ("version", "1"),
            ("app.kubernetes.io/version", "2"),
            ("service.istio.io/canonical-revision", "3"),
        ];
        let canonical = |labels: &[(&str, &str)]| {
            let workload = OwnMetadata::from_node(&node(labels)).workload;
            (workload.canonical_service, workload.canonical_revision)
        };
        assert_eq!(canonical(&labels), ("c".into(), "3".into()));
        assert_eq!(canonical(&[labels[0], labels[1], labels[3], labels[4]]), ("b".into(), "2".into()));
        assert_eq!(canonical(&[labels[0], labels[3]]), ("a".into(), "1".into()));
        assert_eq!(canonical(&[]), ("payment".into(), "latest".into()));
    }

    #[test]
    fn what_a_stranger_sends_is_bounded_and_never_trusted_to_be_well_formed() {
        assert_eq!(decode(b"%%%"), None);
        assert_eq!(decode(BASE64_STANDARD.encode([0xff; 40]).as_bytes()), None);
        assert_eq!(decode(&vec![b'A'; MAX_HEADER + 1]), None);
        assert_eq!(decode(b"").map(|peer| peer.workload), Some("unknown".into()));
        let long = OwnMetadata::from_node(&node(&[("app", &"x".repeat(3_000))]));
        assert_eq!(decode(&long.header).map(|peer| peer.app.len()), Some(253));
    }

    #[test]
    fn endpoint_metadata_has_five_parts() {
        let workload = from_endpoint("payment;production;pay;v2;here").unwrap();
        assert_eq!((workload.workload.as_str(), workload.canonical_service.as_str()), ("payment", "pay"));
        assert_eq!((workload.canonical_revision.as_str(), workload.cluster.as_str()), ("v2", "here"));
        assert_eq!(workload.app, "unknown");
        assert_eq!(from_endpoint("").map(|w| w.workload), None);
    }
}
