//! `envoy.config.core.v3.Node` of a bootstrap, and the identity block in its metadata.

use super::address::read_locality;
use super::name::name;
use super::value::read_struct;
use crate::context::{Context, Result, report};
use crate::model::{Identity, Node, Value};
use protos::envoy::envoy::config::core::v3 as core;
use std::sync::Arc;

/// The metadata key of the identity block; it is never sent to an xDS server.
const IDENTITY: &str = "TULLE_IDENTITY";

/// Reads who a proxy is.
pub fn read_node(cx: &mut Context, message: &Option<core::Node>) -> Result<(Node, Option<Identity>)> {
    let absent = core::Node::default();
    cx.field("node", |cx| {
        let core::Node {
            id,
            cluster,
            metadata,
            dynamic_parameters,
            locality,
            user_agent_name,
            extensions,
            client_features,
            listening_addresses,
            user_agent_version_type,
        } = message.as_ref().unwrap_or(&absent);
        report!(cx, "the proxy writes it itself"; user_agent_name, user_agent_version_type, extensions, client_features);
        report!(cx, "nothing reads it"; dynamic_parameters, listening_addresses);
        let mut metadata = match metadata {
            Some(metadata) => cx.field("metadata", |cx| read_struct(cx, metadata))?,
            None => Default::default(),
        };
        let identity = match metadata.remove(IDENTITY) {
            Some(block) => Some(cx.field("metadata", |cx| cx.field(IDENTITY, |cx| read_identity(cx, &block)))?),
            None => None,
        };
        let node = Node {
            id: name(cx, "id", id)?,
            cluster: name(cx, "cluster", cluster)?,
            metadata,
            locality: read_locality(cx, locality)?,
        };
        Ok((node, identity))
    })
}

fn read_identity(cx: &mut Context, block: &Value) -> Result<Identity> {
    let Value::Map(map) = block else { return Err(cx.refused("is not a map")) };
    let known = ["ca_address", "token_file", "state_directory", "trust_domain", "lifetime_seconds"];
    if let Some(unknown) = map.keys().find(|key| !known.contains(&&***key)) {
        let unknown = unknown.clone();
        return Err(cx.refused_field(&unknown, format!("is not known: {} are", known.join(", "))));
    }
    let text = |cx: &mut Context, key: &str| -> Result<Option<Arc<str>>> {
        match map.get(key) {
            None => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(_) => Err(cx.refused_field(key, "is not a text, or empty")),
        }
    };
    let required =
        |cx: &mut Context, key: &str| text(cx, key)?.ok_or_else(|| cx.refused_field(key, "is missing"));
    Ok(Identity {
        ca_address: required(cx, "ca_address")?,
        token_file: text(cx, "token_file")?,
        state_directory: required(cx, "state_directory")?,
        trust_domain: required(cx, "trust_domain")?,
        lifetime_seconds: lifetime(cx, map.get("lifetime_seconds"))?,
    })
}

/// A whole number of seconds, at most a day.
fn lifetime(cx: &mut Context, value: Option<&Value>) -> Result<Option<u32>> {
    let whole = |number: f64| (1.0..=86_400.0).contains(&number) && number.fract() == 0.0;
    match value {
        None => Ok(None),
        Some(Value::Number(number)) if whole(*number) => Ok(Some(*number as u32)),
        Some(_) => Err(cx.refused_field("lifetime_seconds", "is not a whole number from 1 to 86400")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::{self as pb, value::Kind};

    fn node(entries: &[(&str, &str)]) -> Option<core::Node> {
        let text = |value: &str| pb::Value { kind: Some(Kind::StringValue(value.into())) };
        let fields = entries.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
        let block = pb::Value { kind: Some(Kind::StructValue(pb::Struct { fields })) };
        let fields = [(IDENTITY.to_owned(), block), ("NAMESPACE".to_owned(), text("production"))].into();
        Some(core::Node {
            metadata: Some(pb::Struct { fields }),
            user_agent_name: "envoy".into(),
            ..Default::default()
        })
    }

    #[test]
    fn the_identity_is_not_part_of_the_node() {
        let entries =
            [("ca_address", "127.0.0.1:15012"), ("state_directory", "/x"), ("trust_domain", "cluster.local")];
        let read = Context::read(|cx| read_node(cx, &node(&entries))).unwrap();
        let (node, identity) = read.value;
        assert_eq!(node.text("NAMESPACE"), Some("production"));
        assert!(!node.metadata.contains_key(IDENTITY));
        assert_eq!(&*identity.unwrap().trust_domain, "cluster.local");
        assert_eq!(read.notes[0].path, "node.user_agent_name");
    }

    #[test]
    fn refuses_half_an_identity_and_typing_errors() {
        let missing = Context::read(|cx| read_node(cx, &node(&[("ca_address", "a")]))).unwrap_err();
        assert_eq!(missing.path, "node.metadata.TULLE_IDENTITY.state_directory");
        let unknown = Context::read(|cx| read_node(cx, &node(&[("ca_adress", "a")]))).unwrap_err();
        assert_eq!(unknown.path, "node.metadata.TULLE_IDENTITY.ca_adress");
    }

    #[test]
    fn a_lifetime_is_a_whole_number_of_seconds_up_to_a_day() {
        let read = |value: Value| Context::read(|cx| lifetime(cx, Some(&value)));
        assert_eq!(read(Value::Number(30.0)).unwrap().value, Some(30));
        for bad in [Value::Number(0.0), Value::Number(1.5), Value::Number(86_401.0), Value::Number(f64::NAN)]
        {
            assert!(read(bad).unwrap_err().path.ends_with("lifetime_seconds"));
        }
        assert!(read(Value::String("30".into())).is_err());
    }
}
