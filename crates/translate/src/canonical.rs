//! Protobuf bytes that are the same in every process, and the version made from them.
//!
//! The generated messages keep protobuf maps in `HashMap`s, whose order differs from map to map and from process to
//! process. [`pack`] encodes a message and then sorts the entries of every map by their bytes, guided by a small table
//! of where maps lie in the messages that this room makes.

use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;
use protos::envoy::envoy::extensions::filters::http::rbac::v3::Rbac;
use protos::envoy::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use protos::envoy::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use protos::{Any, Message};

/// The messages through which the way to a map leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `Cluster.TransportSocketMatch`
    TransportSocketMatch,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    ClusterLoadAssignment,
    /// `LocalityLbEndpoints`
    LocalityLbEndpoints,
    /// `LbEndpoint`
    LbEndpoint,
    /// `envoy.config.route.v3.RouteConfiguration`
    RouteConfiguration,
    /// `VirtualHost`
    VirtualHost,
    /// `Route`
    Route,
    /// `HttpConnectionManager`
    HttpConnectionManager,
    /// `envoy.extensions.filters.http.rbac.v3.RBAC`, and the network filter of that name
    RbacFilter,
    /// `envoy.config.rbac.v3.RBAC`
    RbacRules,
    /// `envoy.config.core.v3.Metadata`
    Metadata,
    /// One entry of a map from string to `Struct`.
    StructEntry,
    /// `google.protobuf.Struct`
    Struct,
    /// One entry of `Struct.fields`.
    ValueEntry,
    /// `google.protobuf.Value`
    Value,
    /// `google.protobuf.ListValue`
    ListValue,
    /// A message or value without maps below it.
    Plain,
}

impl Shape {
    /// Shape of the field with this number, and whether it is a map.
    fn field(self, number: u64) -> (Shape, bool) {
        match (self, number) {
            (Shape::Cluster, 25) | (Shape::LbEndpoint, 3) | (Shape::Route, 4) => (Shape::Metadata, false),
            (Shape::Cluster, 33) => (Shape::ClusterLoadAssignment, false),
            (Shape::Cluster, 36) | (Shape::RbacRules, 2) => (Shape::Plain, true),
            (Shape::Cluster, 43) => (Shape::TransportSocketMatch, false),
            (Shape::TransportSocketMatch, 2) | (Shape::StructEntry, 2) | (Shape::Value, 5) => {
                (Shape::Struct, false)
            }
            (Shape::ClusterLoadAssignment, 2) => (Shape::LocalityLbEndpoints, false),
            (Shape::LocalityLbEndpoints, 2) => (Shape::LbEndpoint, false),
            (Shape::RouteConfiguration, 2) => (Shape::VirtualHost, false),
            (Shape::VirtualHost, 3) => (Shape::Route, false),
            (Shape::HttpConnectionManager, 4) => (Shape::RouteConfiguration, false),
            (Shape::RbacFilter, 1) => (Shape::RbacRules, false),
            (Shape::Metadata, 1) => (Shape::StructEntry, true),
            (Shape::Struct, 1) => (Shape::ValueEntry, true),
            (Shape::ValueEntry, 2) | (Shape::ListValue, 1) => (Shape::Value, false),
            (Shape::Value, 6) => (Shape::ListValue, false),
            _ => (Shape::Plain, false),
        }
    }
}

/// A message that may hold maps.
pub trait Canonical: Message + prost::Name {
    /// Where its maps lie.
    const SHAPE: Shape;
}

impl Canonical for Cluster {
    const SHAPE: Shape = Shape::Cluster;
}
impl Canonical for ClusterLoadAssignment {
    const SHAPE: Shape = Shape::ClusterLoadAssignment;
}
impl Canonical for RouteConfiguration {
    const SHAPE: Shape = Shape::RouteConfiguration;
}
impl Canonical for HttpConnectionManager {
    const SHAPE: Shape = Shape::HttpConnectionManager;
}
impl Canonical for Rbac {
    const SHAPE: Shape = Shape::RbacFilter;
}
impl Canonical for NetworkRbac {
    const SHAPE: Shape = Shape::RbacFilter;
}

/// Packs a message so that equal messages have equal bytes.
pub fn pack<M: Canonical>(message: &M) -> Any {
    let bytes = message.encode_to_vec();
    let mut value = Vec::with_capacity(bytes.len());
    // The bytes were encoded above, so they can be read; were they not, they would go out as they are.
    if sort_maps(&bytes, M::SHAPE, &mut value).is_none() {
        value = bytes;
    }
    Any { type_url: protos::any::type_url::<M>(), value }
}

/// The version of a resource: 64-bit FNV-1a of its type and bytes, in hexadecimal. Not for security.
pub fn version(any: &Any) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in any.type_url.as_bytes().iter().chain(std::iter::once(&0)).chain(&any.value) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    format!("{hash:016x}")
}

/// Copies an encoded message to `out` with the entries of every map sorted; `None` for malformed bytes.
fn sort_maps(mut bytes: &[u8], shape: Shape, out: &mut Vec<u8>) -> Option<()> {
    let mut map: Option<(u64, Vec<Vec<u8>>)> = None;
    while !bytes.is_empty() {
        let start = bytes;
        let key = read_varint(&mut bytes)?;
        let number = key >> 3;
        if map.as_ref().is_some_and(|(open, _)| *open != number) {
            flush(map.take(), out);
        }
        if key & 7 != 2 {
            skip(&mut bytes, key & 7)?;
            out.extend_from_slice(start.get(..start.len() - bytes.len())?);
            continue;
        }
        let length = usize::try_from(read_varint(&mut bytes)?).ok()?;
        let content = bytes.get(..length)?;
        bytes = bytes.get(length..)?;
        let (child, is_map) = shape.field(number);
        let mut sorted = Vec::with_capacity(content.len());
        match child {
            Shape::Plain => sorted.extend_from_slice(content),
            _ => sort_maps(content, child, &mut sorted)?,
        }
        if is_map {
            map.get_or_insert_with(|| (number, Vec::new())).1.push(sorted);
        } else {
            write_field(number, &sorted, out);
        }
    }
    flush(map, out);
    Some(())
}

fn flush(map: Option<(u64, Vec<Vec<u8>>)>, out: &mut Vec<u8>) {
    if let Some((number, mut entries)) = map {
        entries.sort_unstable();
        for entry in &entries {
            write_field(number, entry, out);
        }
    }
}

fn write_field(number: u64, content: &[u8], out: &mut Vec<u8>) {
    write_varint(number << 3 | 2, out);
    write_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

fn skip(bytes: &mut &[u8], wire_type: u64) -> Option<()> {
    match wire_type {
        0 => drop(read_varint(bytes)?),
        1 => *bytes = bytes.get(8..)?,
        5 => *bytes = bytes.get(4..)?,
        _ => return None,
    }
    Some(())
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::{metadata, struct_of, text};
    use protos::envoy::envoy::config::rbac::v3::{Policy, Rbac as Rules};

    fn cluster() -> Cluster {
        let keys: Vec<String> = (0..40).map(|i| format!("key-{i}")).collect();
        let inner = struct_of(keys.iter().map(|key| (key.as_str(), text(key))));
        Cluster {
            name: "c".to_owned(),
            metadata: Some(metadata([("b", inner.clone()), ("a", inner)])),
            ..Default::default()
        }
    }

    #[test]
    fn equal_messages_have_equal_bytes_whatever_the_order_of_their_maps() {
        let first = pack(&cluster());
        for _ in 0..20 {
            assert_eq!(pack(&cluster()), first);
        }
        assert_ne!(
            cluster().encode_to_vec(),
            cluster().encode_to_vec(),
            "the maps are too small to show the trouble"
        );
    }

    #[test]
    fn sorting_loses_nothing() {
        let any = pack(&cluster());
        assert_eq!(Cluster::decode(any.value.as_slice()).unwrap(), cluster());
    }

    #[test]
    fn rbac_policies_are_sorted_too() {
        let rbac = || {
            let policies = (0..40).map(|i| (format!("policy-{i}"), Policy::default())).collect();
            Rbac { rules: Some(Rules { policies, ..Default::default() }), ..Default::default() }
        };
        assert_eq!(pack(&rbac()), pack(&rbac()));
        assert_eq!(Rbac::decode(pack(&rbac()).value.as_slice()).unwrap(), rbac());
    }

    #[test]
    fn versions_follow_content() {
        let any = pack(&cluster());
        let other = pack(&Cluster { name: "d".to_owned(), ..cluster() });
        assert_eq!(version(&any), version(&pack(&cluster())));
        assert_ne!(version(&any), version(&other));
        assert_eq!(
            version(&Any::default()),
            "af63bd4c8601b7df",
            "the hash is the same in every process and version"
        );
    }

    #[test]
    fn malformed_bytes_are_noticed() {
        let mut out = Vec::new();
        assert_eq!(sort_maps(&[0x0a, 0x05, 0x01], Shape::Cluster, &mut out), None);
        assert_eq!(sort_maps(&[0xff; 11], Shape::Cluster, &mut out), None);
    }
}
