use super::*;
use crate::testing::{MESH, frontend, labels, route_origin, routes_of, virtual_host, world};
use crate::world::Change;
use api::MeshConfig;

const PAYMENT: &str = "payment.production.svc.cluster.local";

#[test]
fn export_to_decides_who_sees() {
    for (export_to, client, expected) in [
        (&["*"][..], "b", true),
        (&["."], "a", true),
        (&["."], "b", false),
        (&["b", "c"], "c", true),
        (&["b", "c"], "a", false),
        (&["~"], "a", false),
        (&[], "a", false),
    ] {
        assert_eq!(exported(export_to, "a", client), expected, "{export_to:?} seen from {client}");
    }
}

#[test]
fn a_service_can_be_hidden_by_annotation_and_by_the_mesh() {
    let hidden = MESH.replacen(
        "metadata: {name: payment}",
        "metadata: {name: payment, annotations: {networking.istio.io/exportTo: '.'}}",
        1,
    );
    let world = world(&[&hidden]);
    let service = world.service(PAYMENT).unwrap();
    assert!(service_visible(&world, service, "production") && !service_visible(&world, service, "other"));
    let mesh = MeshConfig { default_service_export_to: vec![".".to_owned()], ..Default::default() };
    let other = world.with(&[Change::Mesh(mesh.into())]);
    let frontend = other.service("frontend.production.svc.cluster.local").unwrap();
    assert!(!service_visible(&other, frontend, "other"));
    assert!(service_visible(&world, frontend, "other"));
}

fn virtual_service(namespace: &str, name: &str, host: &str, extra: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  hosts: ['{host}']\n{extra}  http:\n  - route: [{{destination: {{host: {PAYMENT}}}}}]\n"
    )
}

fn order(world: &World, client: &str) -> Vec<String> {
    virtual_services(world, client, PAYMENT).into_iter().map(|it| it.meta.name.clone()).collect()
}

#[test]
fn the_most_specific_host_comes_first_then_private_then_by_name() {
    let world = world(&[
        MESH,
        &virtual_service("production", "a-wild", "*.svc.cluster.local", ""),
        &virtual_service("production", "c-public", PAYMENT, ""),
        &virtual_service("production", "b-public", PAYMENT, ""),
        &virtual_service("production", "z-private", PAYMENT, "  exportTo: ['.']\n"),
        &virtual_service("other", "y-for-production", PAYMENT, "  exportTo: [production]\n"),
        &virtual_service("other", "hidden", PAYMENT, "  exportTo: ['.']\n"),
        &virtual_service("production", "gateway-only", PAYMENT, "  gateways: [edge]\n"),
    ]);
    assert_eq!(
        order(&world, "production"),
        ["z-private", "y-for-production", "b-public", "c-public", "a-wild"]
    );
    assert_eq!(order(&world, "other"), ["hidden", "b-public", "c-public", "a-wild"]);
}

#[test]
fn the_older_virtual_service_wins_the_whole_host() {
    let aged = |name: &str, time: &str| {
        virtual_service("production", name, PAYMENT, "")
            .replace(&format!("name: {name},"), &format!("name: {name}, creationTimestamp: '{time}',"))
    };
    let young = aged("a", "2026-02-01T00:00:00Z");
    let old = aged("b", "2026-01-01T00:00:00Z");
    let world = world(&[MESH, &young, &old]);
    let routes = routes_of(&world, PAYMENT);
    assert_eq!(routes.len(), 1, "rules of two VirtualServices must not be merged");
    assert_eq!(route_origin(&routes[0]), "VirtualService/production/b#http[0]");
}

fn rule(namespace: &str, name: &str, host: &str, rest: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec:\n  host: '{host}'\n{rest}"
    )
}

fn rules(world: &World, client: &str) -> Vec<String> {
    let merged = destination_rule(world, client, &Labels::new(), PAYMENT);
    merged.rules.iter().map(|rule| rule.meta.name.clone()).collect()
}

#[test]
fn rules_are_looked_for_in_the_clients_namespace_then_the_services_then_the_root() {
    let subset = "  subsets: [{name: v1}]\n";
    let root = rule("istio-system", "root", PAYMENT, subset);
    let owner = rule("production", "owner", PAYMENT, subset);
    let client = rule("other", "client", "*.local", subset);
    assert_eq!(rules(&world(&[MESH, &root]), "other"), ["root"]);
    assert_eq!(rules(&world(&[MESH, &root, &owner]), "other"), ["owner"]);
    // A broad wildcard of the client hides the owner's exact rule.
    let all = world(&[MESH, &root, &owner, &client]);
    assert_eq!(rules(&all, "other"), ["client"]);
    assert_eq!(rules(&all, "third"), ["owner"]);
    let private = rule("production", "private", PAYMENT, "  exportTo: ['.']\n  subsets: [{name: v1}]\n");
    assert_eq!(rules(&world(&[MESH, &root, &private]), "other"), ["root"]);
    assert_eq!(rules(&world(&[MESH, &root, &private]), "production"), ["private"]);
}

#[test]
fn an_exact_rule_for_others_hides_the_wider_one_of_its_namespace_and_a_private_one_does_not() {
    let subset = "  subsets: [{name: v1}]\n";
    let wide = rule("production", "wide", "*.local", subset);
    let root = rule("istio-system", "root", "*.local", subset);
    let exact = |export_to: &str| {
        rule("production", "exact", PAYMENT, &format!("  exportTo: ['{export_to}']\n{subset}"))
    };
    let elsewhere = world(&[MESH, &root, &wide, &exact("elsewhere")]);
    assert_eq!(rules(&elsewhere, "other"), ["root"]);
    assert_eq!(rules(&elsewhere, "elsewhere"), ["exact"]);
    for private in [".", "production"] {
        assert_eq!(rules(&world(&[MESH, &root, &wide, &exact(private)]), "other"), ["wide"], "{private}");
    }
}

#[test]
fn of_the_meshs_default_for_rules_only_the_own_namespace_is_honoured() {
    let owner = rule("production", "owner", PAYMENT, "  subsets: [{name: v1}]\n");
    let with_default = |entry: &str, client: &str| {
        let mesh =
            MeshConfig { default_destination_rule_export_to: vec![entry.to_owned()], ..Default::default() };
        rules(&world(&[MESH, &owner]).with(&[Change::Mesh(mesh.into())]), client)
    };
    assert_eq!(with_default("*", "other"), ["owner"]);
    assert!(with_default(".", "other").is_empty());
    assert_eq!(with_default("other", "third"), ["owner"]);
    for entry in ["*", ".", "other"] {
        assert_eq!(with_default(entry, "production"), ["owner"], "a namespace sees its own rules");
    }
}

#[test]
fn only_the_most_specific_host_of_a_namespace_counts() {
    let wide = rule("production", "a-wide", "*.svc.cluster.local", "  subsets: [{name: wide}]\n");
    let exact = rule("production", "b-exact", PAYMENT, "  subsets: [{name: exact}]\n");
    let world = world(&[MESH, &wide, &exact]);
    let merged = destination_rule(&world, "production", &Labels::new(), PAYMENT);
    assert!(merged.subset("exact").is_some() && merged.subset("wide").is_none());
}

#[test]
fn two_rules_of_a_host_share_subsets_and_the_oldest_policy_counts() {
    let first = rule("production", "a", PAYMENT, "  subsets: [{name: x, labels: {from: a}}]\n");
    let policy = "  trafficPolicy: {loadBalancer: {simple: RANDOM}}\n";
    let second = rule(
        "production",
        "b",
        PAYMENT,
        &format!("{policy}  subsets: [{{name: x, labels: {{from: b}}}}, {{name: y}}]\n"),
    );
    let third = rule("production", "c", PAYMENT, "  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}\n");
    let both = world(&[MESH, &first, &second, &third]);
    let merged = destination_rule(&both, "production", &Labels::new(), PAYMENT);
    assert_eq!(merged.subset("x").unwrap().labels["from"], "a");
    assert!(merged.subset("y").is_some());
    let balancer = merged.traffic_policy.unwrap().load_balancer.as_ref().unwrap();
    assert_eq!(balancer.simple, Some(api::kinds::load_balancer::SimpleLb::Random));
    let elsewhere = rule("production", "b", PAYMENT, "  exportTo: ['.']\n  subsets: [{name: y}]\n");
    let apart = world(&[MESH, &first, &elsewhere]);
    let merged = destination_rule(&apart, "production", &Labels::new(), PAYMENT);
    assert!(merged.subset("y").is_none(), "rules with different exportTo must not be merged");
}

#[test]
fn a_rule_that_selects_the_client_beats_the_others_for_it_alone() {
    let general = rule("production", "a", PAYMENT, "  subsets: [{name: general}]\n");
    let special = "  workloadSelector: {matchLabels: {app: frontend}}\n  subsets: [{name: special}]\n";
    let world = world(&[MESH, &general, &rule("production", "b", PAYMENT, special)]);
    let frontend = destination_rule(&world, "production", &labels(&[("app", "frontend")]), PAYMENT);
    assert!(frontend.subset("special").is_some() && frontend.subset("general").is_none());
    let other = destination_rule(&world, "production", &labels(&[("app", "x")]), PAYMENT);
    assert!(other.subset("general").is_some() && other.subset("special").is_none());
    let foreign = destination_rule(&world, "other", &labels(&[("app", "frontend")]), PAYMENT);
    assert!(foreign.subset("special").is_none(), "a selector holds in its own namespace only");
}

fn policy(yaml: &str) -> TrafficPolicy {
    let text = rule("production", "p", PAYMENT, &format!("  trafficPolicy: {yaml}\n"));
    let objects = crate::testing::objects(&text);
    match &objects[0] {
        api::Object::DestinationRule(rule) => rule.spec.traffic_policy.clone().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_level_policy_replaces_and_a_subset_overlays() {
    let base = policy(
        "{loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}, \
          portLevelSettings: [{port: {number: 9}, loadBalancer: {simple: ROUND_ROBIN}}]}",
    );
    let subset = policy("{outlierDetection: {interval: 1s}}");
    let whole = cluster_policy(Some(&base), None, 8080);
    assert!(whole.load_balancer.is_some() && whole.tls.is_some());
    let level = cluster_policy(Some(&base), None, 9);
    assert!(level.tls.is_none(), "what a port-level policy omits is default, not inherited");
    let overlaid = cluster_policy(Some(&base), Some(&subset), 8080);
    assert!(overlaid.outlier_detection.is_some() && overlaid.tls.is_some());
    let own_level = policy("{portLevelSettings: [{port: {number: 8080}, outlierDetection: {interval: 1s}}]}");
    let replaced = cluster_policy(Some(&base), Some(&own_level), 8080);
    assert!(
        replaced.outlier_detection.is_some() && replaced.tls.is_none() && replaced.load_balancer.is_none()
    );
}

#[test]
fn a_detached_subset_keeps_what_it_inherited() {
    let base = policy(
        "{loadBalancer: {simple: RANDOM}, tls: {mode: DISABLE}, \
          portLevelSettings: [{port: {number: 9}, loadBalancer: {simple: ROUND_ROBIN}}]}",
    );
    let subset = Subset {
        name: "x".to_owned(),
        traffic_policy: Some(policy("{loadBalancer: {simple: LEAST_REQUEST}}")),
        ..Default::default()
    };
    let detached = detached_subset(Some(&base), &subset);
    for port in [9, 8080] {
        let attached = cluster_policy(Some(&base), subset.traffic_policy.as_ref(), port);
        assert_eq!(cluster_policy(None, detached.traffic_policy.as_ref(), port), attached, "port {port}");
    }
}

fn authentication(namespace: &str, name: &str, rest: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {rest}\n"
    )
}

fn mode(texts: &[String], port: u16) -> MutualTlsMode {
    let mut all = vec![MESH];
    all.extend(texts.iter().map(String::as_str));
    mutual_tls_mode(&world(&all), "production", &labels(&[("app", "payment")]), port)
}

#[test]
fn mutual_tls_is_decided_by_port_then_workload_then_namespace_then_mesh() {
    let mesh = authentication("istio-system", "mesh", "{mtls: {mode: STRICT}}");
    let namespace = authentication("production", "ns", "{mtls: {mode: DISABLE}}");
    let workload = authentication(
        "production",
        "w",
        "{selector: {matchLabels: {app: payment}}, mtls: {mode: PERMISSIVE}, portLevelMtls: {9090: {mode: STRICT}}}",
    );
    assert_eq!(mode(&[], 8080), MutualTlsMode::Permissive);
    assert_eq!(mode(std::slice::from_ref(&mesh), 8080), MutualTlsMode::Strict);
    assert_eq!(mode(&[mesh.clone(), namespace.clone()], 8080), MutualTlsMode::Disable);
    let all = [mesh, namespace, workload];
    assert_eq!(mode(&all, 8080), MutualTlsMode::Permissive);
    assert_eq!(mode(&all, 9090), MutualTlsMode::Strict);
}

#[test]
fn unset_asks_the_level_above_and_the_oldest_counts() {
    let mesh = authentication("istio-system", "mesh", "{mtls: {mode: STRICT}}");
    let unset = authentication("production", "a", "{mtls: {mode: UNSET}}");
    let ignored = authentication("production", "b", "{mtls: {mode: DISABLE}}");
    assert_eq!(mode(&[mesh, unset, ignored], 8080), MutualTlsMode::Strict);
}

#[test]
fn a_selector_in_the_root_namespace_or_of_another_workload_has_no_effect() {
    let selector = "{selector: {matchLabels: {app: payment}}, mtls: {mode: STRICT}}";
    assert_eq!(mode(&[authentication("istio-system", "a", selector)], 8080), MutualTlsMode::Permissive);
    let other = "{selector: {matchLabels: {app: frontend}}, mtls: {mode: STRICT}}";
    assert_eq!(mode(&[authentication("production", "a", other)], 8080), MutualTlsMode::Permissive);
    assert_eq!(mode(&[authentication("production", "a", selector)], 8080), MutualTlsMode::Strict);
}

#[test]
fn policies_of_the_root_namespace_hold_everywhere() {
    let policy = |namespace: &str, name: &str, selector: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{selector}}}\n"
        )
    };
    let world = world(&[
        MESH,
        &policy("istio-system", "root", ""),
        &policy("istio-system", "root-payment", "selector: {matchLabels: {app: payment}}"),
        &policy("istio-system", "root-other", "selector: {matchLabels: {app: x}}"),
        &policy("production", "own", ""),
        &policy("other", "foreign", ""),
    ]);
    let found = authorization_policies(&world, "production", &labels(&[("app", "payment")]));
    let names: Vec<&str> = found.iter().map(|policy| policy.meta.name.as_str()).collect();
    assert_eq!(names, ["root", "root-payment", "own"]);
}

#[test]
fn a_wildcard_route_applies_only_where_no_more_specific_one_does() {
    let wild = virtual_service("production", "wild", "*.production.svc.cluster.local", "");
    let world = world(&[MESH, &wild, &virtual_service("production", "exact", PAYMENT, "")]);
    let origin_of = |host: &str| {
        let host = virtual_host(&world, &frontend(), "8080", host).unwrap();
        route_origin(&host.routes[0])
    };
    assert_eq!(origin_of(PAYMENT), "VirtualService/production/exact#http[0]");
    assert_eq!(origin_of("frontend.production.svc.cluster.local"), "VirtualService/production/wild#http[0]");
}
