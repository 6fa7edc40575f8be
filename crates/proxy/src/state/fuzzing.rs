//! What must hold for any bytes as a sealed snapshot. For the fuzzer and its fixed-seed form; not part of the data plane.

use protos::Message as _;
use protos::envoy::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use protos::envoy::envoy::config::{cluster, endpoint, listener, route};
use xds::order;

use super::sealed::{Content, Saved};
use super::{Builder, Checks, Live};
use crate::identity::seal::{SealKey, open, seal};

/// Contents from which mutations start.
pub fn seeds() -> Vec<Vec<u8>> {
    let cluster = cluster::v3::Cluster {
        name: "a".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        ..Default::default()
    };
    let assignment =
        endpoint::v3::ClusterLoadAssignment { cluster_name: "a".to_owned(), ..Default::default() };
    let listener = listener::v3::Listener { name: "l".to_owned(), ..Default::default() };
    let routes = route::v3::RouteConfiguration { name: "r".to_owned(), ..Default::default() };
    let saved = |type_url: &str, name: &str, value: Vec<u8>| Saved {
        type_url: type_url.to_owned(),
        name: name.to_owned(),
        version: "1".to_owned(),
        value,
    };
    let whole = Content {
        node: String::new(),
        bundle: "00".to_owned(),
        saved: 1,
        resources: vec![
            saved(order::CLUSTER, "a", cluster.encode_to_vec()),
            saved(order::ENDPOINT, "a", assignment.encode_to_vec()),
            saved(order::LISTENER, "l", listener.encode_to_vec()),
            saved(order::ROUTE, "r", routes.encode_to_vec()),
        ],
    };
    let one =
        Content { resources: vec![saved(order::CLUSTER, "a", cluster.encode_to_vec())], ..whole.clone() };
    let content = [whole.encode_to_vec(), one.encode_to_vec(), Vec::new()];
    let sealed = content.iter().map(|content| seal(content, &[&key()])).collect::<Vec<_>>();
    content.into_iter().chain(sealed).collect()
}

fn key() -> SealKey {
    SealKey::of(b"a key that only the test has")
}

/// Any bytes, as a sealed file and as the content of one.
///
/// # Panics
/// A property does not hold.
pub fn snapshot(bytes: &[u8]) {
    let key = key();
    if let Ok(content) = open(bytes, &key) {
        let again = seal(content, &[&key]);
        assert!(again == bytes || bytes.len() > again.len(), "opened what was never sealed");
        assert!(bytes.ends_with(content));
    }
    let sealed = seal(bytes, &[&key]);
    assert_eq!(open(&sealed, &key), Ok(bytes), "what is sealed opens");
    assert!(open(&sealed, &SealKey::of(bytes)).is_err(), "and not with another key");
    let Ok(content) = Content::read(bytes, "") else { return };
    assert_eq!(Content::read(&content.encode_to_vec(), "").as_ref(), Ok(&content));
    let live = Live::new();
    let checks = Checks { listener: Box::new(|_| Ok(())), cluster: Box::new(|_| Ok(())) };
    let mut builder = Builder::new(live.clone(), checks, true, true);
    let whole = builder.restore(&content.by_type()).is_ok();
    builder.publish();
    let snapshot = live.load();
    let empty = snapshot.listeners.is_empty() && snapshot.clusters.is_empty() && snapshot.routes.is_empty();
    assert!(whole || empty, "half a snapshot is in use");
}
