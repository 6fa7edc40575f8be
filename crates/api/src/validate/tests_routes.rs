//! VirtualService.

use super::tests::{accepted, errors, table};

const GOOD: &str = "apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a, '*.example.com']
  gateways: [mesh, ns/gw]
  exportTo: [., b]
  http:
  - name: one
    match: [{uri: {prefix: /x}, method: {exact: GET}, headers: {x-user: {regex: 'a.*'}}, port: 80, sourceLabels: {app: a}, sourceNamespace: b, queryParams: {q: {}}}]
    route: [{destination: {host: a, subset: v1, port: {number: 80}}, weight: 1}, {destination: {host: b}, weight: 0}]
    timeout: 3s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: '5xx,503', backoff: 25ms}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 0.1}}, abort: {httpStatus: 500, percentage: {value: 1}}}
    headers: {request: {set: {x-a: b}, remove: [x-b]}}
    rewrite: {uri: /}
    corsPolicy: {allowOrigins: [{exact: a}], maxAge: 1h}
  - redirect: {uri: /y, redirectCode: 302}
  - directResponse: {status: 200, body: {string: hello}}
  tls:
  - match: [{sniHosts: [x.example.com]}]
    route: [{destination: {host: a}}]
  tcp:
  - match: [{destinationSubnets: [10.0.0.0/8], port: 90}]
    route: [{destination: {host: a}}]
";

#[test]
fn hosts_and_gateways() {
    table(
        GOOD,
        &[
            ("hosts: [a, ", "hosts: ['', ", "spec.hosts[0]", "empty"),
            ("hosts: [a, ", "hosts: ['a*', ", "spec.hosts[0]", "not a host"),
            ("hosts: [a, ", "hosts: [a, a, ", "spec.hosts[1]", "same host"),
            ("hosts: [a, ", "hosts: [x.example.com, ", "spec.hosts[1]", "same host"),
            ("hosts: [a, ", "hosts: ['*', ", "spec.hosts[0]", "for gateways only"),
            ("hosts: [a, '*.example.com']", "hosts: []", "spec.gateways", "a delegate has only http"),
            ("ns/gw", "ns/g_w", "spec.gateways[1]", "not a gateway"),
            ("[., b]", "['*', b]", "spec.exportTo[0]", "stand alone"),
            ("[., b]", "[b, b]", "spec.exportTo[1]", "twice"),
            ("[., b]", "['~']", "spec.exportTo[0]", "services only"),
        ],
    );
    assert_eq!(
        errors(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {hosts: [a]}\n"
        ),
        ["spec: there is no route"]
    );
    accepted(GOOD, &[("hosts: [a, ", "hosts: [10.0.0.1, ")]);
}

#[test]
fn matches() {
    table(
        GOOD,
        &[
            ("prefix: /x", "prefix: /x, exact: /y", "spec.http[0].match[0].uri", "more than one of"),
            ("prefix: /x", "regex: '('", "spec.http[0].match[0].uri.regex", "not a valid RE2"),
            ("prefix: /x", "regex: '(?=a)'", "spec.http[0].match[0].uri.regex", "not a valid RE2"),
            ("prefix: /x", "regex: 'a{1000}{1000}'", "spec.http[0].match[0].uri.regex", "too large"),
            ("exact: GET", "prefix: ''", "spec.http[0].match[0].method.prefix", "empty"),
            ("regex: 'a.*'", "regex: ''", "spec.http[0].match[0].headers.x-user.regex", "empty"),
            ("x-user:", "'x user':", "spec.http[0].match[0].headers[\"x user\"]", "not a header name"),
            ("port: 80,", "port: 0,", "spec.http[0].match[0].port", "between 1 and 65535"),
            (
                "sourceNamespace: b",
                "sourceNamespace: B",
                "spec.http[0].match[0].sourceNamespace",
                "not a namespace",
            ),
            ("{app: a}", "{app: '*'}", "spec.http[0].match[0].sourceLabels.app", "not a label value"),
        ],
    );
    let long = GOOD.replace("a.*", &"a".repeat(1025));
    assert!(errors(&long)[0].contains("1025 characters"));
    accepted(GOOD, &[("a.*", &"a".repeat(1024)), ("prefix: /x", "prefix: ''"), ("{regex: 'a.*'}", "{}")]);
}

#[test]
fn what_a_route_does() {
    table(
        GOOD,
        &[
            ("  - redirect: {uri: /y, redirectCode: 302}", "  - name: x", "spec.http[1]", "does nothing"),
            (
                "{uri: /y, redirectCode: 302}",
                "{uri: /y}\n    route: [{destination: {host: a}}]",
                "spec.http[1].redirect",
                "not both",
            ),
            (
                "{uri: /y, redirectCode: 302}",
                "{uri: /y}\n    fault: {abort: {httpStatus: 500}}",
                "spec.http[1].fault",
                "has no fault",
            ),
            (
                "redirectCode: 302",
                "redirectCode: 200",
                "spec.http[1].redirect.redirectCode",
                "between 300 and 399",
            ),
            (
                "redirectCode: 302",
                "port: 1, derivePort: FROM_REQUEST_PORT",
                "spec.http[1].redirect.derivePort",
                "not both",
            ),
            ("redirectCode: 302", "prefixRewrite: /", "spec.http[1].redirect.prefixRewrite", "not both"),
            ("redirectCode: 302", "scheme: ftp", "spec.http[1].redirect.scheme", "neither"),
            ("status: 200", "status: 600", "spec.http[2].directResponse.status", "between 200 and 599"),
            (
                "{string: hello}",
                "{string: a, bytes: YQ==}",
                "spec.http[2].directResponse.body",
                "either string or bytes",
            ),
            ("    rewrite: {uri: /}", "    delegate: {name: x}", "spec.http[0].delegate", "not both"),
            ("{uri: /}", "{}", "spec.http[0].rewrite", "changes nothing"),
            (
                "{uri: /}",
                "{uriRegexRewrite: {match: a}}",
                "spec.http[0].rewrite.uriRegexRewrite",
                "both match and rewrite",
            ),
            (
                "set: {x-a: b}",
                "set: {':path': b}",
                "spec.http[0].headers.request.set[\":path\"]",
                "cannot be changed",
            ),
            (
                "set: {x-a: b}",
                "set: {x-a: \"b\\r\\nc: d\"}",
                "spec.http[0].headers.request.set.x-a",
                "line break",
            ),
            (
                "remove: [x-b]",
                "remove: [host]",
                "spec.http[0].headers.request.remove[0]",
                "cannot be changed",
            ),
            ("maxAge: 1h", "maxAge: 1.5s", "spec.http[0].corsPolicy.maxAge", "whole seconds"),
        ],
    );
    accepted(GOOD, &[("set: {x-a: b}", "set: {host: b}")]);
}

#[test]
fn destinations_and_weights() {
    table(
        GOOD,
        &[
            ("weight: 1}", "weight: 0}", "spec.http[0].route", "sum to 0"),
            ("weight: 1}", "weight: -1}", "spec.http[0].route[0].weight", "negative"),
            (
                "{destination: {host: b}, weight: 0}",
                "{weight: 0}",
                "spec.http[0].route[1].destination",
                "missing",
            ),
            (
                "destination: {host: b}",
                "destination: {subset: b}",
                "spec.http[0].route[1].destination.host",
                "missing",
            ),
            (
                "destination: {host: b}",
                "destination: {host: '*'}",
                "spec.http[0].route[1].destination.host",
                "no destination",
            ),
            (
                "destination: {host: b}",
                "destination: {host: b c}",
                "spec.http[0].route[1].destination.host",
                "not a host name",
            ),
            ("subset: v1", "subset: V1", "spec.http[0].route[0].destination.subset", "not a subset name"),
            (
                "number: 80",
                "number: 70000",
                "spec.http[0].route[0].destination.port.number",
                "between 1 and 65535",
            ),
        ],
    );
    accepted(GOOD, &[(", {destination: {host: b}, weight: 0}", ""), ("weight: 1}", "weight: 1000}")]);
}

#[test]
fn times_and_faults() {
    table(
        GOOD,
        &[
            ("timeout: 3s", "timeout: 0s", "spec.http[0].timeout", "too short"),
            ("timeout: 3s", "timeout: -3s", "spec.http[0].timeout", "negative"),
            ("timeout: 3s", "timeout: 3", "spec.http[0].timeout", "expected a string such as \"30s\""),
            ("timeout: 3s", "timeout: 3 seconds", "spec.http[0].timeout", "not a duration"),
            ("timeout: 3s", "timeout: 1.0001s", "spec.http[0].timeout", "finer than a millisecond"),
            ("attempts: 2, ", "", "spec.http[0].retries", "disables retries"),
            ("attempts: 2", "attempts: -2", "spec.http[0].retries.attempts", "negative"),
            ("'5xx,503'", "'5xx,conect-failure'", "spec.http[0].retries.retryOn", "not a condition"),
            ("fixedDelay: 1s, ", "", "spec.http[0].fault.delay", "fixedDelay is missing"),
            ("value: 0.1", "value: 101", "spec.http[0].fault.delay.percentage.value", "between 0 and 100"),
            (
                "httpStatus: 500",
                "httpStatus: 99",
                "spec.http[0].fault.abort.httpStatus",
                "between 200 and 599",
            ),
            (
                "httpStatus: 500",
                "grpcStatus: BUSY",
                "spec.http[0].fault.abort.grpcStatus",
                "not a gRPC status",
            ),
        ],
    );
    accepted(
        GOOD,
        &[("{attempts: 2, perTryTimeout: 1s, retryOn: '5xx,503', backoff: 25ms}", "{attempts: 0}")],
    );
}

#[test]
fn tls_and_tcp() {
    table(
        GOOD,
        &[
            ("sniHosts: [x.example.com]", "sniHosts: []", "spec.tls[0].match[0].sniHosts", "at least one"),
            (
                "sniHosts: [x.example.com]",
                "sniHosts: [b]",
                "spec.tls[0].match[0].sniHosts[0]",
                "not within the hosts",
            ),
            ("10.0.0.0/8", "10.0.0.0/40", "spec.tcp[0].match[0].destinationSubnets[0]", "not an address"),
            ("port: 90", "port: 0", "spec.tcp[0].match[0].port", "between 1 and 65535"),
        ],
    );
}

#[test]
fn delegates() {
    let good = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec: {http: [{route: [{destination: {host: a}}]}]}\n";
    table(
        good,
        &[
            (
                "route: [{destination: {host: a}}]",
                "delegate: {name: b}",
                "spec.http[0].delegate",
                "cannot delegate again",
            ),
            ("spec: {", "spec: {tcp: [{route: [{destination: {host: a}}]}], ", "spec.tcp", "only http"),
        ],
    );
}
