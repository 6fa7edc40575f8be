//! What a push keeps and what it changes.

use super::*;
use crate::upstream::host::ActiveRequest;
use crate::upstream::testing::{assignment, cluster, clusters, endpoint, environment};
use std::time::Duration;

const A: &str = "127.0.0.1:1";
const B: &str = "127.0.0.1:2";

#[test]
fn an_equal_push_touches_nothing() {
    let environment = environment();
    let one = clusters(&ClusterSet::default(), &[("a", &[A]), ("b", &[B])], &environment);
    let two = clusters(&one, &[("a", &[A]), ("b", &[A])], &environment);
    assert!(Arc::ptr_eq(one.get("a").unwrap(), two.get("a").unwrap()));
    assert!(!Arc::ptr_eq(one.get("b").unwrap(), two.get("b").unwrap()));
    assert_eq!(one.get("b").unwrap().identity.id, two.get("b").unwrap().identity.id);
}

#[test]
fn a_host_that_stays_keeps_its_state_and_a_new_one_starts_without() {
    let environment = environment();
    let one = clusters(&ClusterSet::default(), &[("a", &[A])], &environment);
    let before = one.get("a").unwrap().hosts().usable()[0].clone();
    let _request = ActiveRequest::begin(&before.runtime);
    let two = clusters(&one, &[("a", &[B, A])], &environment);
    let hosts = two.get("a").unwrap().hosts();
    assert!(Arc::ptr_eq(&hosts.usable()[1], &before));
    assert_eq!(
        (hosts.usable()[0].runtime.active_requests(), hosts.usable()[1].runtime.active_requests()),
        (0, 1)
    );

    let three = clusters(&two, &[("a", &[B])], &environment);
    let four = clusters(&three, &[("a", &[B, A])], &environment);
    let again = &four.get("a").unwrap().hosts().usable()[1].runtime;
    assert_ne!(again.id, before.runtime.id, "a host that went and came back is a new one");
}

#[test]
fn a_new_weight_keeps_the_runtime_state() {
    let environment = environment();
    let configs = [Arc::new(cluster("a"))];
    let build = |previous: &ClusterSet, weight| {
        let assignments = BTreeMap::from([(Arc::from("a"), assignment("a", vec![endpoint(A, weight)]))]);
        ClusterSet::build(previous, &configs, &assignments, &environment).0
    };
    let one = build(&ClusterSet::default(), 1);
    let two = build(&one, 7);
    let (old, new) = (one.get("a").unwrap().hosts(), two.get("a").unwrap().hosts());
    assert_eq!(new.usable()[0].weight(), 7);
    assert!(Arc::ptr_eq(&old.usable()[0].runtime, &new.usable()[0].runtime));
}

#[test]
fn names_become_hosts_when_they_are_resolved_and_keep_them_over_a_push() {
    let environment = environment();
    let mut endpoint = Endpoint::clone(&endpoint(A, 1));
    endpoint.address = Address::Name { host: "db.example".into(), port: 5 };
    let mut config = cluster("dns");
    let names = assignment("dns", vec![Arc::new(endpoint)]);
    config.discovery = Discovery::StrictDns { assignment: names, refresh: Duration::from_secs(5) };
    let build = |previous: &ClusterSet, config: &model::Cluster| {
        ClusterSet::build(previous, &[Arc::new(config.clone())], &BTreeMap::new(), &environment).0
    };
    let one = build(&ClusterSet::default(), &config);
    let cluster = one.get("dns").unwrap();
    assert_eq!(cluster.names(), [("db.example".into(), 5)]);
    assert!(cluster.hosts().usable().is_empty());
    let answer = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        BTreeMap::from([(("db.example".into(), 5), addresses)])
    };
    cluster.set_resolved(&answer(&["10.0.0.1:5", "10.0.0.2:5"]));
    let first = cluster.hosts();
    assert_eq!(first.usable().len(), 2);
    cluster.set_resolved(&answer(&["10.0.0.1:5", "10.0.0.2:5"]));
    assert!(Arc::ptr_eq(&first, &cluster.hosts()), "the same answer changes nothing");
    cluster.set_resolved(&BTreeMap::new());
    assert_eq!(cluster.hosts().usable().len(), 2, "no answer keeps the last good one");

    config.connect_timeout = Duration::from_secs(1);
    let two = build(&one, &config);
    let kept = two.get("dns").unwrap().hosts();
    assert!(Arc::ptr_eq(&kept.usable()[0].runtime, &first.usable()[0].runtime));
}

#[test]
fn a_lower_priority_waits_until_no_higher_host_is_usable() {
    let mut unhealthy = Endpoint::clone(&endpoint(A, 1));
    unhealthy.health = model::Health::Unhealthy;
    let build = |first: Endpoint| {
        let mut both = LoadAssignment::clone(&assignment("a", vec![Arc::new(first)]));
        let mut second = both.localities[0].clone();
        second.priority = 1;
        second.endpoints = vec![endpoint(B, 1)];
        both.localities.push(second);
        let assignments = BTreeMap::from([(Arc::from("a"), Arc::new(both))]);
        let configs = [Arc::new(cluster("a"))];
        let set = ClusterSet::build(&ClusterSet::default(), &configs, &assignments, &environment()).0;
        set.get("a")
            .unwrap()
            .hosts()
            .usable()
            .iter()
            .map(|host| host.address_text.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(build(Endpoint::clone(&endpoint(A, 1))), [A]);
    assert_eq!(build(unhealthy), [B]);
}

#[test]
fn metrics_name_the_service_of_the_cluster() {
    let mut config = cluster("outbound|8080|stable|payment.production.svc.cluster.local");
    let of = |config: &model::Cluster| service(config).map(|s| (s.host, s.name, s.namespace));
    let fqdn = "payment.production.svc.cluster.local".to_owned();
    assert_eq!(of(&config), Some((fqdn, "payment".into(), "production".into())));
    config.name = "outbound|443||api.example.com".into();
    assert_eq!(of(&config), Some(("api.example.com".into(), "api.example.com".into(), "unknown".into())));
    config.name = "inbound|8080||".into();
    assert_eq!(of(&config), None);
    let field = |key: &str, value: &str| (Arc::from(key), Value::String(value.into()));
    let entry = Value::Map(BTreeMap::from([field("host", "h"), field("name", "n"), field("namespace", "s")]));
    let istio = BTreeMap::from([(Arc::from("services"), Value::List(vec![entry]))]);
    config.metadata.insert("istio".into(), Value::Map(istio));
    assert_eq!(of(&config), Some(("h".into(), "n".into(), "s".into())));
}
