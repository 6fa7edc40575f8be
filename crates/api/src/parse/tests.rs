//! Whole files: what is accepted, and what each bad input is answered.

use super::*;
use crate::Kind;

/// The two documents every user starts from.
const PAYMENTS: &str = r#"apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: payment-service}
spec:
  host: payment-service.production.svc.cluster.local
  trafficPolicy:
    connectionPool:
      http: {http1MaxPendingRequests: 100, http2MaxRequests: 1000}
      tcp: {maxConnections: 100}
    outlierDetection: {consecutiveGatewayErrors: 5, interval: 30s, baseEjectionTime: 30s, maxEjectionPercent: 50}
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: payment-service}
spec:
  hosts: [payment-service]
  http:
  - match: [{headers: {x-canary-user: {exact: "true"}}}]
    route: [{destination: {host: payment-service, subset: canary}, weight: 100}]
  - route:
    - {destination: {host: payment-service, subset: stable}, weight: 95}
    - {destination: {host: payment-service, subset: canary}, weight: 5}
"#;

fn shown(text: &str) -> Vec<String> {
    parse("a.yaml", text.as_bytes(), "production").problems.iter().map(ToString::to_string).collect()
}

/// A VirtualService whose http block starts on line 6.
fn route(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: a}}\nspec:\n  hosts: [a]\n{http}"
    )
}

#[test]
fn the_payments_documents_are_accepted() {
    let parsed = parse("payment-service.yaml", PAYMENTS.as_bytes(), "production");
    assert_eq!(parsed.problems, []);
    let keys: Vec<String> = parsed.objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(
        keys,
        ["DestinationRule/production/payment-service", "VirtualService/production/payment-service"]
    );
    let Object::DestinationRule(rule) = &parsed.objects[0] else { panic!("a DestinationRule") };
    let policy = rule.spec.traffic_policy.as_ref().expect("policy");
    let pool = policy.connection_pool.as_ref().expect("pool");
    assert_eq!(pool.tcp.as_ref().map(|tcp| tcp.max_connections), Some(100));
    assert_eq!(
        pool.http.as_ref().map(|http| (http.http1_max_pending_requests, http.http2_max_requests)),
        Some((100, 1000))
    );
    let outlier = policy.outlier_detection.as_ref().expect("outlier");
    assert_eq!(outlier.consecutive_gateway_errors, Some(5));
    assert_eq!(outlier.interval, Some(crate::Duration::from_secs(30)));
    let Object::VirtualService(service) = &parsed.objects[1] else { panic!("a VirtualService") };
    assert_eq!(service.spec.http[1].route.iter().map(|to| to.weight).collect::<Vec<_>>(), [95, 5]);
    assert_eq!(
        service.spec.http[0].matches[0].headers.get("x-canary-user"),
        Some(&crate::kinds::common::StringMatch::Exact("true".into()))
    );
    assert_eq!(service.origin.line(), 12);
    assert_eq!(service.origin.position("spec.http[1]"), Some((20, 5)));
    assert_eq!(service.origin.position("spec.http[1].route[0].weight"), Some((21, 62)));
    assert_eq!(service.origin.place("spec.http[1]"), "payment-service.yaml:20");
}

#[test]
fn every_field_of_the_payments_documents_acts_and_one_that_does_not_is_named() {
    let idle = |text: &str| -> Vec<String> {
        let parsed = parse("p.yaml", text.as_bytes(), "production");
        let problems = parsed.objects.iter().flat_map(crate::acting::not_acting);
        problems.map(|p| format!("{}:{}", p.line, p.field)).collect()
    };
    assert_eq!(idle(PAYMENTS), Vec::<String>::new());
    let mirrored = PAYMENTS.replace("  - route:", "  - mirror: {host: a}\n    route:");
    assert_eq!(idle(&mirrored), ["20:spec.http[1].mirror"]);
}

#[test]
fn an_unknown_field_and_a_wrong_type_name_place_and_remedy() {
    let text = PAYMENTS.replace("weight: 95", "wieght: 95").replace("weight: 5}", "weight: five}");
    assert_eq!(
        shown(&text),
        [
            "a.yaml:21:62: error: VirtualService/production/payment-service: spec.http[1].route[0].wieght: unknown field \"wieght\"; did you mean \"weight\"?",
            "a.yaml:22:70: error: VirtualService/production/payment-service: spec.http[1].route[1].weight: expected a whole number, found the text \"five\"",
        ]
    );
    // The other document of the file is not spoilt.
    let parsed = parse("a.yaml", text.as_bytes(), "production");
    assert_eq!(parsed.objects.iter().map(Object::kind).collect::<Vec<_>>(), [Kind::DestinationRule]);
}

#[test]
fn weights_must_not_sum_to_zero() {
    let text = PAYMENTS.replace("weight: 95", "weight: 0").replace("weight: 5}", "weight: 0}");
    assert_eq!(
        shown(&text),
        [
            "a.yaml:20:5: error: VirtualService/production/payment-service: spec.http[1].route: the weights sum to 0: no destination would get a request; give each its weight"
        ]
    );
    assert!(
        shown(&PAYMENTS.replace("weight: 95", "weight: -1"))[0]
            .contains("spec.http[1].route[0].weight: the weight -1 is negative")
    );
}

#[test]
fn a_duplicate_name_names_both_places() {
    let text = format!(
        "{PAYMENTS}---\n{}",
        route("  http: [{route: [{destination: {host: a}}]}]\n").replace("name: a", "name: payment-service")
    );
    let parsed = parse("a.yaml", text.as_bytes(), "production");
    assert_eq!(parsed.objects.len(), 2);
    assert_eq!(
        parsed.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "a.yaml:26:12: error: VirtualService/production/payment-service: metadata.name: VirtualService/production/payment-service is given twice: first at a.yaml:14; rename or remove one of them"
        ]
    );
    // The same name in another namespace, or of another kind, is another resource.
    assert_eq!(
        shown(&text.replace(
            "name: payment-service}\nspec:\n  hosts: [a]",
            "name: payment-service, namespace: b}\nspec:\n  hosts: [a]"
        )),
        Vec::<String>::new()
    );
}

#[test]
fn a_file_that_is_too_large_is_not_looked_at() {
    let bytes = vec![b'#'; 8 * 1024 * 1024 + 1];
    assert_eq!(
        parse("big.yaml", &bytes, "a").problems[0].to_string(),
        "big.yaml: error: the file has 8388609 bytes; at most 8388608 (8 MiB) are read; split it into several files"
    );
    assert!(too_large("big.yaml", 100_000_000).is_some());
    assert!(too_large("small.yaml", 8_388_608).is_none());
}

#[test]
fn invalid_utf8_is_told_by_offset_line_and_column() {
    let problems = parse("a.yaml", b"kind: A\nname: \xc3\xa4\xff\n", "a").problems;
    assert_eq!(
        problems[0].to_string(),
        "a.yaml:2:8: error: the file is not UTF-8: byte 0xff at offset 16; save it as UTF-8"
    );
}

#[test]
fn hostile_structures_are_refused_with_their_line() {
    let deep = format!("kind: A\na: {}", "[".repeat(5000));
    assert!(
        shown(&deep)[0].starts_with("a.yaml:2:")
            && shown(&deep)[0].contains("nested more than 64 levels deep")
    );
    let mut bomb = String::from("kind: A\na: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (name, below) in "bcdefghij".chars().zip("abcdefghi".chars()) {
        bomb.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{below}"); 10].join(",")));
    }
    assert!(shown(&bomb)[0].contains("aliases repeat more than 100000 values"), "{:?}", shown(&bomb));
    assert_eq!(
        shown(&route("  http: []\n  http: []\n")),
        ["a.yaml:7:3: error: the key \"http\" is given twice: first on line 6 column 3; keep one of them"]
    );
    let many = "---\nkind: A\napiVersion: v1\n".repeat(20_001);
    let problems = parse("a.yaml", many.as_bytes(), "a").problems;
    assert_eq!(problems.iter().filter(|problem| problem.is_error()).count(), 1, "too many documents");
    assert!(
        problems.len() <= 502
            && problems.iter().any(|problem| problem.message.contains("more than 20000 documents"))
    );
    assert!(problems.iter().any(|problem| problem.message == "19500 further remarks are not listed"));
    assert!(shown("a: [1\n")[0].starts_with("a.yaml:"));
}

#[test]
fn json_and_lists_are_read() {
    let json = r#"{"apiVersion": "v1", "kind": "List", "metadata": {}, "items": [
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "other"},
   "spec": {"selector": {"app": "a"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}},
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other", "labels": {"istio-injection": "enabled"}}},
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "b"}, "spec": {"ports": [{"prot": 80}]}}
]}"#;
    let parsed = parse("list.json", json.as_bytes(), "default");
    let keys: Vec<String> = parsed.objects.iter().map(|object| object.key().to_string()).collect();
    assert_eq!(keys, ["Service/other/a", "Namespace/other"]);
    assert_eq!(
        parsed.problems[0].to_string(),
        "list.json:5:90: error: Service/default/b: spec.ports[0].prot: unknown field \"prot\"; did you mean \"port\"?"
    );
    assert_eq!(parsed.objects[0].origin().position("spec.ports[0].port"), Some((3, 66)));
    assert!(shown("apiVersion: v1\nkind: List\nitem: []\n")[0].contains("this List has no items"));
    assert_eq!(shown("apiVersion: v1\nkind: List\nitems: []\n"), Vec::<String>::new());
}

#[test]
fn other_kinds_are_told_and_ignored() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n---\napiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: b}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualServce\nmetadata: {name: c}\n";
    let parsed = parse("a.yaml", text.as_bytes(), "x");
    let levels: Vec<Level> = parsed.problems.iter().map(|problem| problem.level).collect();
    assert_eq!(levels, [Level::Info, Level::Info, Level::Warning]);
    assert_eq!(
        parsed.problems[0].to_string(),
        "a.yaml:2:1: info: Deployment/x/a: kind: kind \"Deployment\" is not read by Tulle yet: ignored"
    );
    assert_eq!(parsed.problems[2].suggestion.as_deref(), Some("did you mean \"VirtualService\"?"));
}

#[test]
fn versions_and_heads_are_checked() {
    let text = "apiVersion: networking.istio.io/v2\nkind: VirtualService\nmetadata: {name: a}\n";
    assert_eq!(
        shown(text),
        [
            "a.yaml:1:1: error: VirtualService/production/a: apiVersion: VirtualService of \"networking.istio.io/v2\" is not known; expected \"networking.istio.io/v1\", \"networking.istio.io/v1beta1\" or \"networking.istio.io/v1alpha3\"; did you mean \"networking.istio.io/v1\"?"
        ]
    );
    assert_eq!(shown("a: 1\n"), ["a.yaml:1:1: error: the resource has no kind; add kind: and apiVersion:"]);
    assert_eq!(
        shown("just text\n"),
        ["a.yaml:1:1: error: a resource is a map, and this is not; start with apiVersion: and kind:"]
    );
    assert_eq!(shown("\n---\n# nothing\n---\n"), Vec::<String>::new());
    assert!(
        shown("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspek: {}\n")[0]
            .contains("did you mean \"spec\"?")
    );
}

#[test]
fn what_means_the_same_is_the_same_wherever_it_stands() {
    let one = parse("a.yaml", PAYMENTS.as_bytes(), "production");
    let two = parse("b.yaml", format!("# moved\n{PAYMENTS}").as_bytes(), "production");
    assert!(
        one.objects[1].same_content(&two.objects[1])
            && one.objects[1].origin().line() != two.objects[1].origin().line()
    );
    let three = parse("a.yaml", PAYMENTS.replace("weight: 95", "weight: 94").as_bytes(), "production");
    assert!(!one.objects[1].same_content(&three.objects[1]));
}

#[test]
fn a_null_in_a_policy_is_refused() {
    let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  rules:\n  - from:\n    to: [{operation: {methods: [GET]}}]\n";
    assert_eq!(
        shown(text),
        [
            "a.yaml:6:5: error: AuthorizationPolicy/production/a: spec.rules[0].from: nothing (null) is given, which would mean \"any\"; give a value, or remove the field"
        ]
    );
}
