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

use config::model;

use super::warming::{Accepted, WARMING_LIMIT, Waiting, next};
use super::{Builder, Checks, Live, Snapshot};

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
        let update = self.client.receive(response.into(), Instant::now()).unwrap();
        let mut subscriptions = Vec::new();
        let verdict = self.builder.update(&update, &mut subscriptions);
        self.client.answer(update, verdict.clone(), Instant::now());
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

fn routes_to(cluster: &str) -> Arc<model::RouteConfiguration> {
    use protos::envoy::envoy::config::route::v3::route::Action;
    use protos::envoy::envoy::config::route::v3::route_action::ClusterSpecifier;
    use protos::envoy::envoy::config::route::v3::route_match::PathSpecifier;
    use protos::envoy::envoy::config::route::v3::{
        Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
    };
    let forward = RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(Action::Route(forward)),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    let message =
        RouteConfiguration { name: "80".to_owned(), virtual_hosts: vec![host], ..Default::default() };
    Arc::new(config::read_route_configuration(&message).unwrap().value)
}

fn read(resource: &Resource) -> Arc<model::Cluster> {
    Arc::new(config::read_cluster(&protos::any::open(&resource.any).unwrap()).unwrap().value)
}

/// What was accepted, with a route to the cluster `a`.
fn accepted() -> Accepted {
    let mut accepted = Accepted { clusters_known: true, ..Accepted::default() };
    let mut cluster = model::Cluster::clone(&read(&cluster("a", 1)));
    cluster.discovery = model::Discovery::Eds { service_name: "a".into() };
    accepted.clusters.insert("a".into(), Arc::new(cluster));
    accepted.routes.insert("80".into(), routes_to("a"));
    accepted
}

#[test]
fn a_route_waits_for_the_endpoints_of_its_clusters_but_not_for_ever() {
    let (mut accepted, mut waiting, now) = (accepted(), Waiting::default(), Instant::now());
    let empty = Snapshot::default();
    let first = next(&accepted, &empty, &mut waiting, now);
    assert!(first.routes.is_empty() && first.clusters.is_empty());
    assert_eq!(waiting.deadline(), Some(now + WARMING_LIMIT));
    let late = next(&accepted, &first, &mut Waiting::default(), now);
    assert!(late.routes.is_empty());
    let over = next(&accepted, &first, &mut waiting, now + WARMING_LIMIT);
    assert!(over.routes.contains_key("80") && over.clusters.contains_key("a"));

    accepted.no_assignments.insert("a".into());
    let known = next(&accepted, &empty, &mut Waiting::default(), now);
    assert!(known.routes.contains_key("80"), "endpoints that do not exist need no waiting");
}

#[test]
fn a_new_version_of_a_route_leaves_the_old_one_in_use_until_it_is_whole() {
    let (mut accepted, mut waiting, now) = (accepted(), Waiting::default(), Instant::now());
    accepted.no_assignments.insert("a".into());
    let old = next(&accepted, &Snapshot::default(), &mut waiting, now);
    let (old_route, mut b) = (old.routes["80"].clone(), model::Cluster::clone(&accepted.clusters["a"]));
    b.name = "b".into();
    b.discovery = model::Discovery::Eds { service_name: "b".into() };
    accepted.clusters.insert("b".into(), Arc::new(b));
    accepted.routes.insert("80".into(), routes_to("b"));
    let during = next(&accepted, &old, &mut waiting, now);
    assert!(Arc::ptr_eq(&during.routes["80"], &old_route));
    accepted.no_assignments.insert("b".into());
    let after = next(&accepted, &during, &mut waiting, now);
    assert!(Arc::ptr_eq(&after.routes["80"], &accepted.routes["80"]));
    assert_eq!(waiting.deadline(), None);
}

#[test]
fn a_cluster_that_the_server_does_not_have_is_not_waited_for() {
    let (mut accepted, now) = (accepted(), Instant::now());
    accepted.routes.insert("80".into(), routes_to("nowhere"));
    let snapshot = next(&accepted, &Snapshot::default(), &mut Waiting::default(), now);
    assert!(snapshot.routes.contains_key("80"));
    accepted.clusters_known = false;
    let snapshot = next(&accepted, &Snapshot::default(), &mut Waiting::default(), now);
    assert!(snapshot.routes.is_empty(), "the list of clusters has not come yet");
}

#[test]
fn a_snapshot_is_restored_whole_and_nothing_waits_for_what_it_does_not_hold() {
    let live = Live::new();
    let mut stream = Stream::new(&live);
    // The cluster takes its endpoints by name, and the snapshot has none.
    stream.builder.restore(&[(order::CLUSTER, vec![cluster("a", 1), cluster("b", 1)])]).unwrap();
    stream.builder.publish();
    assert_eq!(live.load().clusters.len(), 2);
    assert!(stream.builder.waiting().is_empty() && stream.builder.stream().borrow().complete);
    let wanted = stream.builder.subscriptions();
    assert!(wanted.contains(&Subscribe::to(order::ENDPOINT, ["a", "b"])), "{wanted:?}");
}

#[test]
fn a_snapshot_with_one_resource_that_is_refused_is_not_used_at_all() {
    let live = Live::new();
    let mut stream = Stream::new(&live);
    let error =
        stream.builder.restore(&[(order::CLUSTER, vec![cluster("a", 1), cluster("b", -1)])]).unwrap_err();
    assert!(error.starts_with("cds b: connect_timeout: "), "{error}");
    stream.builder.publish();
    assert!(live.load().clusters.is_empty() && !stream.builder.stream().borrow().complete);
    assert!(stream.builder.kept().of_type(order::CLUSTER).is_empty());
    assert_eq!(stream.builder.subscriptions().len(), 2, "only the wildcards");
}
