//! Protobuf JSON (and YAML) of the messages that Tulle supports, by reflection over a pruned descriptor set.
//!
//! The pool weighs some MiB: [`Pool::load`] makes it when a dump or a bootstrap file needs it, and dropping it frees it.
//! Nothing keeps one in a running sidecar.

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::Any;
use crate::any::TYPE_PREFIX;

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Why a message could not be turned into JSON, or text into a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    /// The message's full name.
    pub message: String,
    /// What is wrong, with the place in the text where there is one.
    pub reason: String,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.message, self.reason)
    }
}

impl std::error::Error for JsonError {}

/// The descriptors of the supported messages.
#[derive(Debug, Clone)]
pub struct Pool {
    pool: DescriptorPool,
}

impl Pool {
    /// Decodes the descriptor set.
    ///
    /// # Errors
    /// The embedded set is damaged; the build made it, so this does not happen in a sound binary.
    pub fn load() -> Result<Pool, JsonError> {
        let pool = DescriptorPool::decode(DESCRIPTORS)
            .map_err(|error| JsonError { message: "descriptor set".to_owned(), reason: error.to_string() })?;
        Ok(Pool { pool })
    }

    /// The descriptor of a message, for tests that walk every field.
    pub fn descriptor(&self, full_name: &str) -> Option<MessageDescriptor> {
        self.pool.get_message_by_name(full_name)
    }

    /// JSON of the message inside an `Any`, with `@type` first, nested `Any`s opened. Field names are those of the
    /// proto files (snake_case), as Envoy's `/config_dump` prints them.
    ///
    /// # Errors
    /// A type URL that is not supported, or bytes that are not such a message.
    pub fn any_to_json(&self, any: &Any) -> Result<Value, JsonError> {
        let name = any.type_url.strip_prefix(TYPE_PREFIX).unwrap_or(&any.type_url);
        let body = self.bytes_to_json(name, &any.value)?;
        let mut object = serde_json::Map::new();
        object.insert("@type".to_owned(), Value::String(any.type_url.clone()));
        match body {
            Value::Object(fields) => object.extend(fields),
            other => drop(object.insert("value".to_owned(), other)),
        }
        Ok(Value::Object(object))
    }

    /// JSON of a message.
    ///
    /// # Errors
    /// As [`Pool::any_to_json`].
    pub fn to_json<M: Message + Name>(&self, message: &M) -> Result<Value, JsonError> {
        self.bytes_to_json(&M::full_name(), &message.encode_to_vec())
    }

    fn bytes_to_json(&self, name: &str, bytes: &[u8]) -> Result<Value, JsonError> {
        let fail = |reason: String| JsonError { message: name.to_owned(), reason };
        let dynamic =
            DynamicMessage::decode(self.known(name)?, bytes).map_err(|error| fail(error.to_string()))?;
        let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(true);
        dynamic
            .serialize_with_options(serde_json::value::Serializer, &options)
            .map_err(|error| fail(error.to_string()))
    }

    /// Reads a message from protobuf JSON. Both spellings of field names are accepted; an unknown field is an error.
    ///
    /// # Errors
    /// An unknown field, a wrong type or an unsupported `@type`, with the place as far as it is known.
    pub fn from_json<M: Message + Name + Default>(&self, text: &str) -> Result<M, JsonError> {
        let name = M::full_name();
        let fail = |reason: String| JsonError { message: name.clone(), reason };
        let mut reader = serde_json::Deserializer::from_str(text);
        let dynamic =
            DynamicMessage::deserialize(self.known(&name)?, &mut reader).map_err(|e| fail(e.to_string()))?;
        reader.end().map_err(|error| fail(error.to_string()))?;
        dynamic.transcode_to::<M>().map_err(|error| fail(error.to_string()))
    }

    /// Reads a message from YAML in the protobuf JSON shape, as Envoy's bootstrap files are written.
    ///
    /// # Errors
    /// As [`Pool::from_json`], and text that is not YAML (line and column are named).
    pub fn from_yaml<M: Message + Name + Default>(&self, text: &str) -> Result<M, JsonError> {
        let value: Value = serde_saphyr::from_str(text)
            .map_err(|error| JsonError { message: M::full_name(), reason: error.to_string() })?;
        self.from_json(&value.to_string())
    }

    fn known(&self, name: &str) -> Result<MessageDescriptor, JsonError> {
        self.pool.get_message_by_name(name).ok_or_else(|| JsonError {
            message: name.to_owned(),
            reason: "Tulle does not support this message".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any::pack;
    use crate::envoy::envoy::config::bootstrap::v3::Bootstrap;
    use crate::envoy::envoy::config::listener::v3::{Filter, FilterChain, Listener, filter::ConfigType};
    use crate::envoy::envoy::extensions::filters::network::tcp_proxy::v3::{
        TcpProxy, tcp_proxy::ClusterSpecifier,
    };
    use crate::istio::{DiscoveryMethod, IstioHeaders, PeerMetadataConfig};

    fn listener() -> Listener {
        let tcp = TcpProxy {
            stat_prefix: "in".to_owned(),
            cluster_specifier: Some(ClusterSpecifier::Cluster("inbound|8080||".to_owned())),
            ..Default::default()
        };
        let filter = Filter {
            name: "envoy.filters.network.tcp_proxy".to_owned(),
            config_type: Some(ConfigType::TypedConfig(pack(&tcp))),
        };
        Listener {
            name: "127.0.0.1_80".to_owned(),
            filter_chains: vec![FilterChain { filters: vec![filter], ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn nested_anys_are_opened_and_come_back() {
        let pool = Pool::load().unwrap();
        let json = pool.any_to_json(&pack(&listener())).unwrap();
        assert_eq!(json["@type"], "type.googleapis.com/envoy.config.listener.v3.Listener");
        let inner = &json["filter_chains"][0]["filters"][0]["typed_config"];
        assert_eq!(inner["cluster"], "inbound|8080||");
        let back: Listener = pool.from_json(&pool.to_json(&listener()).unwrap().to_string()).unwrap();
        assert_eq!(back, listener());
    }

    #[test]
    fn a_bootstrap_is_read_from_yaml_and_a_typing_error_is_refused() {
        let pool = Pool::load().unwrap();
        let text =
            "admin: {address: {socketAddress: {address: 127.0.0.1, port_value: 15000}}}\nnode: {id: a}\n";
        let bootstrap: Bootstrap = pool.from_yaml(text).unwrap();
        assert_eq!(bootstrap.node.unwrap().id, "a");
        let error = pool.from_yaml::<Bootstrap>("nodee: {id: a}\n").unwrap_err();
        assert!(error.reason.contains("nodee"), "{error}");
    }

    #[test]
    fn the_filters_of_istio_are_known() {
        let config = PeerMetadataConfig {
            downstream_discovery: vec![DiscoveryMethod { istio_headers: Some(IstioHeaders::default()) }],
            ..Default::default()
        };
        let pool = Pool::load().unwrap();
        let json = pool.any_to_json(&pack(&config)).unwrap();
        assert_eq!(json["downstream_discovery"][0]["istio_headers"], serde_json::json!({}));
        assert_eq!(
            pool.from_json::<PeerMetadataConfig>(&pool.to_json(&config).unwrap().to_string()).unwrap(),
            config
        );
    }

    #[test]
    fn an_unsupported_message_is_named() {
        let any = Any { type_url: "type.googleapis.com/envoy.Nothing".to_owned(), value: Vec::new() };
        assert_eq!(Pool::load().unwrap().any_to_json(&any).unwrap_err().message, "envoy.Nothing");
    }
}
