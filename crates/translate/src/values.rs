//! Small protobuf values that every xDS type is made of.

use std::net::IpAddr;

use protos::envoy::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, Metadata,
    SocketAddress, address, api_config_source, config_source, grpc_service, socket_address,
};
use protos::envoy::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use protos::envoy::google::protobuf::{
    BoolValue, Duration, ListValue, Struct, UInt32Value, Value, value::Kind,
};

/// A `google.protobuf.BoolValue`.
pub fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// A `google.protobuf.UInt32Value`.
pub fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A protobuf duration.
pub fn duration(value: api::Duration) -> Duration {
    Duration { seconds: value.seconds(), nanos: value.nanos() }
}

/// A text as a protobuf value.
pub fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// A number as a protobuf value.
pub fn float(value: f64) -> Value {
    Value { kind: Some(Kind::NumberValue(value)) }
}

/// A truth value as a protobuf value.
pub fn truth(value: bool) -> Value {
    Value { kind: Some(Kind::BoolValue(value)) }
}

/// A list as a protobuf value.
pub fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

/// A struct as a protobuf value.
pub fn structure(value: Struct) -> Value {
    Value { kind: Some(Kind::StructValue(value)) }
}

/// A struct of these fields.
pub fn struct_of<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Struct {
    Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}

/// Envoy metadata of these filters.
pub fn metadata<'a>(filters: impl IntoIterator<Item = (&'a str, Struct)>) -> Metadata {
    let filter_metadata = filters.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Metadata { filter_metadata, ..Default::default() }
}

/// Metadata that says which resource of the user a thing comes from.
pub fn origin(origin: &str) -> Option<Metadata> {
    Some(metadata([("tulle", struct_of([("origin", text(origin))]))]))
}

/// A TCP socket address.
pub fn socket_address(address: IpAddr, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

/// "Ask the stream that this came from". What waits for the answer waits as long as it takes; `tulle-proxy` always
/// does, and is not told.
pub fn ads(tulle: bool) -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: (!tulle).then(Duration::default),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// "Ask the secret server beside you", which is a cluster of the proxy's own bootstrap: no private key travels on the
/// stream that this came from.
pub fn secret_server(cluster: &str) -> ConfigSource {
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: cluster.to_owned(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let source = ApiConfigSource {
        api_type: api_config_source::ApiType::Grpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![service],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    ConfigSource {
        initial_fetch_timeout: Some(Duration::default()),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(source)),
        ..Default::default()
    }
}

/// A matcher for the whole text.
pub fn exact(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(value.into())), ignore_case: false }
}

/// A matcher for the beginning.
pub fn prefix(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Prefix(value.into())), ignore_case: false }
}

/// A matcher for the end.
pub fn suffix(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Suffix(value.into())), ignore_case: false }
}

/// A matcher for a part.
pub fn contains(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Contains(value.into())), ignore_case: false }
}

/// A matcher for the whole text by RE2 expression.
pub fn regex(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(regex_matcher(value))), ignore_case: false }
}

/// An RE2 expression; it must match the whole text.
pub fn regex_matcher(value: impl Into<String>) -> RegexMatcher {
    RegexMatcher { regex: value.into(), ..Default::default() }
}
