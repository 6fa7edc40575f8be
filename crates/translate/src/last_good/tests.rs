use crate::testing::{MESH, all, apply, delete, frontend, notes, routes_of, targets, world};
use crate::world::{Change, World};
use api::Kind;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;

const PAYMENT: &str = "payment.production.svc.cluster.local";

const RULE: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: payment}
spec:
  host: payment
  trafficPolicy: {loadBalancer: {simple: RANDOM}}
  subsets: [{name: stable, labels: {version: stable}}, {name: canary, labels: {version: canary}}]
";

fn route(subset: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: payment}}\nspec:\n  hosts: [payment]\n  \
         http: [{{route: [{{destination: {{host: payment, subset: {subset}}}}}]}}]\n"
    )
}

fn target(world: &World) -> String {
    targets(&routes_of(world, PAYMENT)[0])[0].0.clone()
}

fn cluster_names(world: &World) -> Vec<String> {
    all::<Cluster>(world, &frontend()).into_iter().map(|cluster| cluster.name).collect()
}

fn cluster(subset: &str) -> String {
    format!("outbound|8080|{subset}|{PAYMENT}")
}

#[test]
fn a_new_version_that_names_a_missing_subset_waits() {
    let good = world(&[MESH, RULE, &route("stable")]);
    let broken = good.with(&apply(&route("green")));
    assert_eq!(target(&broken), cluster("stable"));
    let told = notes(&broken, "VirtualService");
    assert!(told[0].starts_with("spec.http[0].route[0].destination.subset: DestinationRule production/payment has no subset \"green\""), "{told:?}");
    assert!(told[0].contains("the last good version keeps serving"), "{told:?}");
    assert!(notes(&good, "VirtualService").is_empty());
}

#[test]
fn it_takes_effect_when_the_subset_arrives_in_any_order() {
    let good = world(&[MESH, RULE, &route("stable")]);
    let whole_rule = RULE.replace("subsets: [", "subsets: [{name: green, labels: {version: green}}, ");
    let waiting = good.with(&apply(&route("green")));
    let whole = waiting.with(&apply(&whole_rule));
    assert_eq!(target(&whole), cluster("green"));
    assert!(notes(&whole, "VirtualService").is_empty());
    let at_once: Vec<Change> = apply(&route("green")).into_iter().chain(apply(&whole_rule)).collect();
    assert_eq!(target(&good.with(&at_once)), cluster("green"));
}

#[test]
fn several_broken_versions_do_not_wear_the_good_one_out() {
    let mut world = world(&[MESH, RULE, &route("stable")]);
    for subset in ["a", "b", "c"] {
        world = world.with(&apply(&route(subset)));
        assert_eq!(target(&world), cluster("stable"));
    }
    assert_eq!(target(&world.with(&apply(&route("canary")))), cluster("canary"));
}

#[test]
fn what_never_was_whole_is_served_as_written_and_said() {
    let first = world(&[MESH, &route("stable")]);
    assert_eq!(target(&first), cluster("stable"));
    assert!(!cluster_names(&first).contains(&cluster("stable")));
    let told = notes(&first, "VirtualService");
    assert!(told[0].contains("no DestinationRule defines subset") && told[0].contains("503"), "{told:?}");
    // A later version that is as broken replaces it: there is no good one to keep.
    assert_eq!(target(&first.with(&apply(&route("canary")))), cluster("canary"));
}

#[test]
fn a_missing_host_and_a_missing_port_count_as_missing_too() {
    let good = world(&[MESH, RULE, &route("stable")]);
    let elsewhere = route("stable").replace("host: payment, subset: stable", "host: nowhere");
    let broken = good.with(&apply(&elsewhere));
    assert_eq!(target(&broken), cluster("stable"));
    assert!(
        notes(&broken, "VirtualService")[0]
            .contains("no Service is named nowhere.production.svc.cluster.local")
    );
    let port = route("stable").replace("subset: stable", "port: {number: 9}");
    let broken = good.with(&apply(&port));
    assert_eq!(target(&broken), cluster("stable"));
    assert!(notes(&broken, "VirtualService")[0].contains("has no port 9"));
}

#[test]
fn a_subset_that_a_route_still_names_outlives_its_rule() {
    let good = world(&[MESH, RULE, &route("canary")]);
    let shorter = RULE.replace(", {name: canary, labels: {version: canary}}", "");
    let edited = good.with(&apply(&shorter));
    let before = all::<Cluster>(&good, &frontend());
    let after = all::<Cluster>(&edited, &frontend());
    let of = |clusters: &[Cluster], name: &str| clusters.iter().find(|cluster| cluster.name == name).cloned();
    assert!(of(&after, &cluster("canary")).is_some());
    assert_eq!(of(&after, &cluster("canary")), of(&before, &cluster("canary")), "it stays as it was");
    let endpoints: Vec<ClusterLoadAssignment> = all(&edited, &frontend());
    let canary = endpoints.iter().find(|it| it.cluster_name == cluster("canary")).unwrap();
    assert_eq!(canary.endpoints[0].lb_endpoints.len(), 1);
    assert!(notes(&edited, "VirtualService")[0].contains("the subset stays as it was last"));

    let deleted = edited.with(&[delete(Kind::DestinationRule, "payment")]);
    assert_eq!(of(&all(&deleted, &frontend()), &cluster("canary")), of(&before, &cluster("canary")));
    let freed = deleted.with(&[delete(Kind::VirtualService, "payment")]);
    assert!(!cluster_names(&freed).contains(&cluster("canary")), "nobody names it any more");
}

#[test]
fn a_subset_that_no_route_names_goes_with_its_rule() {
    let good = world(&[MESH, RULE, &route("stable")]);
    let shorter = RULE.replace(", {name: canary, labels: {version: canary}}", "");
    assert!(!cluster_names(&good.with(&apply(&shorter))).contains(&cluster("canary")));
}

#[test]
fn a_subset_that_only_some_clients_have_counts_as_there() {
    let selective = RULE.replace(
        "  host: payment\n",
        "  host: payment\n  workloadSelector: {matchLabels: {app: frontend}}\n",
    );
    let good = world(&[MESH, &selective, &route("stable")]);
    assert!(notes(&good, "VirtualService").is_empty());
    let edited = good.with(&apply(&route("canary")));
    assert_eq!(target(&edited), cluster("canary"));
    assert_eq!(target(&edited.with(&apply(&route("green")))), cluster("canary"));
}

#[test]
fn a_deleted_virtual_service_is_gone() {
    let good = world(&[MESH, RULE, &route("stable")]);
    let deleted = good.with(&[delete(Kind::VirtualService, "payment")]);
    assert_eq!(target(&deleted), cluster(""));
}

#[test]
fn worlds_are_values_and_changes_are_incremental() {
    let one = world(&[MESH, RULE, &route("stable")]);
    let two = one.with(&apply(&route("canary")));
    assert_eq!((target(&one), target(&two)), (cluster("stable"), cluster("canary")));
    let three = two.with(&apply(&MESH.replace("127.10.0.2", "127.10.0.9")));
    assert_eq!(target(&three), cluster("canary"));
}
