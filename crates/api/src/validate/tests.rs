//! One table per kind: a good resource, and one edit of it per rule with the field and the reason it is refused for.

/// The problems of one resource, `field: message`, with those of type first.
pub fn errors(text: &str) -> Vec<String> {
    let parsed = crate::parse("a.yaml", text.as_bytes(), "default");
    let errors = parsed.problems.iter().filter(|problem| problem.is_error());
    let shown: Vec<String> =
        errors.map(|problem| format!("{}: {}", problem.field, problem.message)).collect();
    assert_eq!(
        shown.is_empty(),
        parsed.objects.len() == 1,
        "an object exactly when nothing is wrong: {shown:?}\n{text}"
    );
    shown
}

/// That `good` is accepted, and that each replacement in it is refused at the field and for the reason.
pub fn table(good: &str, edits: &[(&str, &str, &str, &str)]) {
    assert_eq!(errors(good), Vec::<String>::new(), "{good}");
    for (from, to, field, reason) in edits {
        assert!(good.contains(from), "the good resource has no {from:?}");
        let wrong = good.replacen(from, to, 1);
        let errors = errors(&wrong);
        let found =
            errors.iter().any(|error| error.starts_with(&format!("{field}: ")) && error.contains(reason));
        assert!(found, "expected {field}: …{reason}…, found {errors:?}\n{wrong}");
    }
}

/// That each replacement in `good` is accepted too.
pub fn accepted(good: &str, edits: &[(&str, &str)]) {
    for (from, to) in edits {
        assert!(good.contains(from), "the good resource has no {from:?}");
        let other = good.replacen(from, to, 1);
        assert_eq!(errors(&other), Vec::<String>::new(), "{other}");
    }
}

#[test]
fn services() {
    let good = "apiVersion: v1
kind: Service
metadata: {name: a, labels: {app: a}}
spec:
  selector: {app: a}
  clusterIP: 127.10.1.1
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp-x, port: 81, targetPort: web, protocol: TCP, appProtocol: kubernetes.io/h2c}
";
    table(
        good,
        &[
            ("name: a,", "name: a.b,", "metadata.name", "one DNS label"),
            ("name: a,", "name: A_b,", "metadata.name", "lower-case"),
            ("{name: a, ", "{", "metadata.name", "no name"),
            ("{name: a, ", "{name: a, namespace: a.b, ", "metadata.namespace", "not a name"),
            ("labels: {app: a}", "labels: {app: 'a b'}", "metadata.labels.app", "not a label value"),
            ("labels: {app: a}", "labels: {a/b/c: a}", "metadata.labels[\"a/b/c\"]", "not a label key"),
            ("127.10.1.1", "127.10.1", "spec.clusterIP", "neither an IP address"),
            ("port: 80,", "port: 0,", "spec.ports[0].port", "between 1 and 65535"),
            ("port: 80,", "port: 70000,", "spec.ports[0].port", "not between 0 and 65535"),
            ("port: 80,", "port: 81,", "spec.ports[1].port", "given twice"),
            ("name: tcp-x", "name: http", "spec.ports[1].name", "given twice"),
            ("name: tcp-x, ", "", "spec.ports[1]", "no name"),
            ("targetPort: web", "targetPort: '80'", "spec.ports[1].targetPort", "number in quotes"),
            ("targetPort: web", "targetPort: 0", "spec.ports[1].targetPort", "not a port"),
            ("targetPort: web", "targetPort: a_b", "spec.ports[1].targetPort", "not a port name"),
            ("targetPort: web", "targetPort: 1.5", "spec.ports[1].targetPort", "a number or a name"),
            ("protocol: TCP", "protocol: HTTP", "spec.ports[1].protocol", "unknown value"),
            ("selector: {app: a}", "selector: {app: 1}", "spec.selector.app", "expected a string"),
            ("clusterIP: 127.10.1.1", "type: ExternalName", "spec.externalName", "not a host name"),
            ("clusterIP: 127.10.1.1", "clusterIPs: [x]", "spec.clusterIPs[0]", "neither an IP"),
        ],
    );
    accepted(good, &[("clusterIP: 127.10.1.1", "clusterIP: None"), ("protocol: TCP", "protocol: UDP")]);
    assert_eq!(errors("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {}\n").len(), 1);
    accepted(
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: x}\n",
        &[("clusterIP: x", "clusterIP: None")],
    );
}

#[test]
fn namespaces_have_no_namespace() {
    let parsed = crate::parse("a.yaml", b"apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", "default");
    assert_eq!(parsed.objects[0].key().to_string(), "Namespace/a");
    assert_eq!(errors("apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n").len(), 1);
}

#[test]
fn workload_entries() {
    let good = "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: a}
spec: {address: 127.10.0.10, ports: {http: 8080}, labels: {app: a}, locality: r/z/s, serviceAccount: a}
";
    table(
        good,
        &[
            ("address: 127.10.0.10, ", "", "spec.address", "missing"),
            ("127.10.0.10", "127.10.0", "spec.address", "neither an IP address nor a DNS name"),
            ("127.10.0.10", "unix://x", "spec.address", "not an absolute path"),
            ("127.10.0.10", "unix:///x", "spec.ports", "no ports"),
            ("http: 8080", "http: 0", "spec.ports.http", "between 1 and 65535"),
            ("http: 8080", "http: '8080'", "spec.ports.http", "expected a whole number"),
            ("http: 8080", "a_b: 8080", "spec.ports.a_b", "not a port name"),
            ("app: a", "app: '*'", "spec.labels.app", "not a label value"),
            ("r/z/s", "r/z/s/t", "spec.locality", "region/zone/subzone"),
            ("serviceAccount: a", "serviceAccount: A/b", "spec.serviceAccount", "not a name"),
        ],
    );
    accepted(
        good,
        &[
            ("127.10.0.10", "vm-1.example.com"),
            ("127.10.0.10", "'::1'"),
            ("address: 127.10.0.10", "network: n"),
        ],
    );
}
