//! Updates as a server sends them, in good and bad order.

use std::sync::Arc;
use std::time::Instant;

use protos::any::pack;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, EdsClusterConfig,
};
use protos::envoy::envoy::config::core::v3::Node;
use protos::envoy::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use protos::envoy::envoy::config::core::v3::{AggregatedConfigSource, ConfigSource};
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::service::discovery::v3::DeltaDiscoveryResponse;
use protos::envoy::google::protobuf::Duration;
use xds::client::{Client, Handler, Limits, Subscribe, Verdict};
use xds::{Dialect, Resource, order};

use super::{Builder, Checks, Live};

fn cluster(name: &str, connect_timeout: i64) -> Resource {
    let ads = ConfigSourceSpecifier::Ads(AggregatedConfigSource {});
    let config = ConfigSource { config_source_specifier: Some(ads), ..ConfigSource::default() };
    let cluster = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(config), service_name: String::new() }),
        connect_timeout: Some(Duration { seconds: connect_timeout, nanos: 0 }),
        ..Cluster::default()
    };
    Resource { name: name.to_owned(), version: connect_timeout.to_string(), any: pack(&cluster) }
}

fn endpoints(name: &str) -> Resource {
    let assignment =
        ClusterLoadAssignment { cluster_name: name.to_owned(), ..ClusterLoadAssignment::default() };
    Resource { name: name.to_owned(), version: "1".to_owned(), any: pack(&assignment) }
}

/// A builder behind the client that a stream would have.
struct Stream {
    builder: Builder,
    client: Client,
}

impl Stream {
    fn new(live: &Arc<Live>) -> Stream {
        let checks = Checks { listener: Box::new(|_| Ok(())), cluster: Box::new(|_| Ok(())) };
        let mut builder = Builder::new(live.clone(), checks, true, true);
        let mut client = Client::new(Dialect::Delta, Node::default(), Limits::default());
        builder.subscriptions().into_iter().for_each(|wanted| client.subscribe(wanted, Instant::now()));
        Stream { builder, client }
    }

    fn send(&mut self, type_url: &str, added: Vec<Resource>, removed: &[&str]) -> (Verdict, Vec<Subscribe>) {
        let resources =
            added.into_iter().map(|resource| protos::envoy::envoy::service::discovery::v3::Resource {
                name: resource.name,
                version: resource.version,
                resource: Some(resource.any),
                ..Default::default()
            });
        let response = DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            resources: resources.collect(),
            removed_resources: removed.iter().map(|name| (*name).to_owned()).collect(),
            nonce: "1".to_owned(),
            ..Default::default()
        };
        let update = self.client.receive(response.into()).unwrap();
        let mut subscriptions = Vec::new();
        let verdict = self.builder.update(&update, &mut subscriptions);
        self.client.answer(update, verdict.clone());
        subscriptions.iter().for_each(|wanted| self.client.subscribe(wanted.clone(), Instant::now()));
        (verdict, subscriptions)
    }
}

fn send(
    stream: &mut Stream,
    type_url: &str,
    added: Vec<Resource>,
    removed: &[&str],
) -> (Verdict, Vec<Subscribe>) {
    stream.send(type_url, added, removed)
}

fn builder(live: &Arc<Live>) -> Stream {
    Stream::new(live)
}

#[test]
fn a_cluster_is_used_when_its_endpoints_are_there() {
    let live = Live::new();
    let mut builder = builder(&live);
    let (verdict, wanted) = send(&mut builder, order::CLUSTER, vec![cluster("a", 1)], &[]);
    assert_eq!(verdict, Verdict::Ack);
    assert_eq!(wanted, [Subscribe::to(order::ENDPOINT, ["a"])]);
    assert!(live.load().clusters.is_empty(), "used without endpoints");
    send(&mut builder, order::ENDPOINT, vec![endpoints("a")], &[]);
    assert!(live.load().clusters.contains_key("a"));
    let (_, wanted) = send(&mut builder, order::CLUSTER, vec![], &["a"]);
    assert_eq!(wanted, [Subscribe::from(order::ENDPOINT, ["a"])]);
    assert!(live.load().clusters.is_empty());
}

#[test]
fn an_equal_push_changes_nothing() {
    let live = Live::new();
    let mut builder = builder(&live);
    send(&mut builder, order::CLUSTER, vec![cluster("a", 1)], &[]);
    send(&mut builder, order::ENDPOINT, vec![endpoints("a")], &[]);
    let before = live.load_full();
    send(&mut builder, order::CLUSTER, vec![cluster("a", 1)], &[]);
    send(&mut builder, order::ENDPOINT, vec![endpoints("a")], &[]);
    assert!(Arc::ptr_eq(&before, &live.load()));
    send(&mut builder, order::CLUSTER, vec![cluster("a", 2)], &[]);
    assert!(!Arc::ptr_eq(&before, &live.load()));
}

#[test]
fn a_refused_resource_leaves_the_version_before_and_the_others_go_on() {
    let live = Live::new();
    let mut builder = builder(&live);
    send(&mut builder, order::CLUSTER, vec![cluster("a", 1), cluster("b", 1)], &[]);
    send(&mut builder, order::ENDPOINT, vec![endpoints("a"), endpoints("b")], &[]);
    let (verdict, _) = send(&mut builder, order::CLUSTER, vec![cluster("a", -1), cluster("b", 2)], &[]);
    let Verdict::Nack { detail, rejected } = verdict else { panic!("accepted a negative timeout") };
    assert_eq!(rejected, ["a"]);
    assert!(detail.starts_with("a: connect_timeout: "), "{detail}");
    let timeouts: Vec<u64> =
        live.load().clusters.values().map(|cluster| cluster.connect_timeout.as_secs()).collect();
    assert_eq!(timeouts, [1, 2]);
    let kept = builder.builder.kept().of_type(order::CLUSTER);
    assert_eq!((kept[0].1.version.as_str(), kept[0].1.refusal.is_some()), ("1", true));
}

#[test]
fn a_resource_under_a_wrong_name_is_refused() {
    let live = Live::new();
    let mut builder = builder(&live);
    let wrong = Resource { name: "b".to_owned(), ..cluster("a", 1) };
    let (verdict, _) = send(&mut builder, order::CLUSTER, vec![wrong], &[]);
    assert!(
        matches!(verdict, Verdict::Nack { detail, .. } if detail.contains("\"a\" inside a resource that is called \"b\""))
    );
}
