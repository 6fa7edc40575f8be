//! DestinationRule, PeerAuthentication, AuthorizationPolicy.

use super::tests::{accepted, errors, table};

const RULE: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: a}
spec:
  host: a.b.svc.cluster.local
  trafficPolicy:
    loadBalancer: {simple: ROUND_ROBIN}
    connectionPool:
      tcp: {maxConnections: 1, connectTimeout: 1s, idleTimeout: 0s}
      http: {http1MaxPendingRequests: 1, http2KeepAlive: {interval: 1s, timeout: 1s}}
    outlierDetection: {consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 100}
    tls: {mode: ISTIO_MUTUAL}
    portLevelSettings: [{port: {number: 80}, tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k}}]
  subsets:
  - {name: v1, labels: {version: v1}, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}}
  - {name: v2, labels: {version: v2}}
  workloadSelector: {matchLabels: {app: a}}
";

#[test]
fn destination_rules() {
    table(
        RULE,
        &[
            ("  host: a.b.svc.cluster.local\n", "", "spec.host", "missing"),
            ("a.b.svc.cluster.local", "'a.*'", "spec.host", "not a host"),
            ("name: v2", "name: v1", "spec.subsets[1].name", "given twice"),
            ("name: v2", "name: ''", "spec.subsets[1].name", "no name"),
            ("name: v2", "name: V2", "spec.subsets[1].name", "not a subset name"),
            ("version: v2", "version: 2", "spec.subsets[1].labels.version", "expected a string"),
            ("labels: {version: v2}", "trafficPolicy: {}", "spec.subsets[1].trafficPolicy", "empty"),
            (
                "maxConnections: 1",
                "maxConnections: -1",
                "spec.trafficPolicy.connectionPool.tcp.maxConnections",
                "negative",
            ),
            (
                "connectTimeout: 1s",
                "connectTimeout: 1us",
                "spec.trafficPolicy.connectionPool.tcp.connectTimeout",
                "too short",
            ),
            (
                "http1MaxPendingRequests: 1",
                "http1MaxPendingRequests: -1",
                "spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests",
                "negative",
            ),
            (
                "interval: 1s, timeout: 1s",
                "interval: 1s",
                "spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout",
                "missing",
            ),
            (
                "http1MaxPendingRequests: 1",
                "h2UpgradePolicy: UPGRADE, useClientProtocol: true",
                "spec.trafficPolicy.connectionPool.http.useClientProtocol",
                "cannot be kept",
            ),
            (
                "interval: 1s, baseEjectionTime",
                "interval: 0s, baseEjectionTime",
                "spec.trafficPolicy.outlierDetection.interval",
                "too short",
            ),
            (
                "maxEjectionPercent: 100",
                "maxEjectionPercent: 101",
                "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "between 0 and 100",
            ),
            (
                "consecutive5xxErrors: 5",
                "consecutive5xxErrors: -5",
                "spec.trafficPolicy.outlierDetection.consecutive5xxErrors",
                "not between 0",
            ),
            (
                "consecutive5xxErrors: 5",
                "consecutiveLocalOriginFailures: 5",
                "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures",
                "splitExternal",
            ),
            (
                "mode: ISTIO_MUTUAL",
                "mode: ISTIO_MUTUAL, privateKey: /k",
                "spec.trafficPolicy.tls.privateKey",
                "not allowed with ISTIO_MUTUAL",
            ),
            ("mode: ISTIO_MUTUAL", "mode: mutual", "spec.trafficPolicy.tls.mode", "unknown value"),
            (
                "mode: MUTUAL, clientCertificate: /c",
                "mode: MUTUAL",
                "spec.trafficPolicy.portLevelSettings[0].tls.clientCertificate",
                "needs clientCertificate",
            ),
            (
                "mode: ISTIO_MUTUAL",
                "mode: SIMPLE, credentialName: x, caCertificates: /c",
                "spec.trafficPolicy.tls.caCertificates",
                "beside credentialName",
            ),
            ("port: {number: 80}, ", "", "spec.trafficPolicy.portLevelSettings[0].port", "missing"),
            (
                "simple: ROUND_ROBIN",
                "simple: ROUND_ROBIN, consistentHash: {useSourceIp: true}",
                "spec.trafficPolicy.loadBalancer.consistentHash",
                "not both",
            ),
            (
                "simple: ROUND_ROBIN",
                "simple: RANDOM, warmup: {duration: 1s}",
                "spec.trafficPolicy.loadBalancer.warmup",
                "warm endpoints up",
            ),
            (
                "simple: ROUND_ROBIN",
                "localityLbSetting: {distribute: [{from: a, to: {b: 50}}]}",
                "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",
                "sum to 50",
            ),
            (
                "simple: ROUND_ROBIN",
                "localityLbSetting: {failover: [{from: a, to: a}]}",
                "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0]",
                "both",
            ),
            (
                "httpHeaderName: x",
                "httpHeaderName: x, useSourceIp: true",
                "spec.subsets[0].trafficPolicy.loadBalancer.consistentHash",
                "exactly one key",
            ),
            (
                "httpHeaderName: x",
                "httpHeaderName: x, maglev: {tableSize: 100}",
                "spec.subsets[0].trafficPolicy.loadBalancer.consistentHash.maglev.tableSize",
                "prime",
            ),
            ("{app: a}", "{app: '*'}", "spec.workloadSelector.matchLabels.app", "no wildcards"),
        ],
    );
    accepted(
        RULE,
        &[
            ("a.b.svc.cluster.local", "'*.local'"),
            ("httpHeaderName: x", "httpHeaderName: x, maglev: {tableSize: 65537}"),
        ],
    );
}

#[test]
fn peer_authentications() {
    let good = "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  mtls: {mode: STRICT}
  portLevelMtls: {8080: {mode: DISABLE}}
";
    table(
        good,
        &[
            ("  selector: {matchLabels: {app: a}}\n", "", "spec.portLevelMtls", "need a selector"),
            ("{matchLabels: {app: a}}", "{}", "spec.portLevelMtls", "need a selector"),
            ("8080: {mode: DISABLE}", "0: {mode: DISABLE}", "spec.portLevelMtls.0", "between 1 and 65535"),
            ("8080: {mode: DISABLE}", "http: {mode: DISABLE}", "spec.portLevelMtls.http", "as the key"),
            ("8080: {mode: DISABLE}", "", "spec.portLevelMtls", "empty"),
            ("mode: STRICT", "mode: STRCT", "spec.mtls.mode", "unknown value"),
            ("{mode: STRICT}", "STRICT", "spec.mtls", "expected a map"),
            ("{app: a}", "{app: a*}", "spec.selector.matchLabels.app", "no wildcards"),
        ],
    );
}

const POLICY: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  action: ALLOW
  rules:
  - from:
    - source: {principals: [cluster.local/ns/production/sa/frontend], ipBlocks: [10.0.0.0/8]}
    to:
    - operation: {methods: [GET], ports: ['8080'], paths: ['/a/{*}/b', '/c*']}
    when:
    - {key: 'request.headers[x-user]', values: [a], notValues: [b]}
    - {key: source.ip, values: [10.0.0.1]}
";

#[test]
fn authorization_policies() {
    table(
        POLICY,
        &[
            ("action: ALLOW", "action: Allow", "spec.action", "unknown value"),
            ("action: ALLOW", "action: CUSTOM", "spec.provider", "needs provider.name"),
            ("action: ALLOW", "provider: {name: x}", "spec.provider", "only action CUSTOM"),
            ("action: ALLOW", "targetRef: {kind: Gateway, name: g}", "spec.targetRef", "not both"),
            ("{app: a}", "{app: '*'}", "spec.selector.matchLabels.app", "no wildcards"),
            (
                "- source: {principals: [cluster.local/ns/production/sa/frontend], ipBlocks: [10.0.0.0/8]}",
                "- {}",
                "spec.rules[0].from[0].source",
                "source is empty",
            ),
            (
                "- operation: {methods: [GET], ports: ['8080'], paths: ['/a/{*}/b', '/c*']}",
                "- operation: {}",
                "spec.rules[0].to[0].operation",
                "operation is empty",
            ),
            ("methods: [GET]", "methods: []", "spec.rules[0].to[0].operation.methods", "list is empty"),
            ("methods: [GET]", "methods: ['']", "spec.rules[0].to[0].operation.methods[0]", "value is empty"),
            ("methods: [GET]", "method: [GET]", "spec.rules[0].to[0].operation.method", "unknown field"),
            ("methods: [GET]", "methods: GET", "spec.rules[0].to[0].operation.methods", "expected a list"),
            ("'8080'", "'808080'", "spec.rules[0].to[0].operation.ports[0]", "not a port"),
            ("'8080'", "8080", "spec.rules[0].to[0].operation.ports[0]", "expected a string"),
            ("/a/{*}/b", "/a{*}/b", "spec.rules[0].to[0].operation.paths[0]", "a whole segment"),
            ("/a/{*}/b", "/{**}/{*}", "spec.rules[0].to[0].operation.paths[0]", "must be the last one"),
            ("/a/{*}/b", "/{*}/b*", "spec.rules[0].to[0].operation.paths[0]", "mixes a template"),
            (
                "10.0.0.0/8",
                "10.0.0.0/80",
                "spec.rules[0].from[0].source.ipBlocks[0]",
                "neither an IP address",
            ),
            (
                "[cluster.local/",
                "[spiffe://cluster.local/",
                "spec.rules[0].from[0].source.principals[0]",
                "would never match",
            ),
            (
                "ipBlocks: [10.0.0.0/8]",
                "serviceAccounts: [a/b]",
                "spec.rules[0].from[0].source.serviceAccounts",
                "cannot stand beside",
            ),
            ("'request.headers[x-user]'", "request.header", "spec.rules[0].when[0].key", "not an attribute"),
            ("'request.headers[x-user]'", "''", "spec.rules[0].when[0].key", "no key"),
            (", values: [a], notValues: [b]", "", "spec.rules[0].when[0]", "neither values nor notValues"),
            ("[10.0.0.1]", "[ten]", "spec.rules[0].when[1].values[0]", "neither an IP address"),
        ],
    );
    let empty =
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec: {}\n";
    table(
        empty,
        &[
            ("{}", "{action: DENY}", "spec.rules", "never happens"),
            ("{}", "{rules: [{from: []}]}", "spec.rules[0].from", "list is empty"),
            ("{}", "{rules: [{when: []}]}", "spec.rules[0].when", "list is empty"),
            ("{}", "{rules: [~]}", "spec.rules[0]", "found nothing"),
        ],
    );
    accepted(empty, &[("{}", "{rules: [{}]}"), ("{}", "{action: DENY, rules: [{}]}"), ("spec: {}", "spec:")]);
}

#[test]
fn principals_that_never_match_are_told() {
    let text = POLICY.replace("cluster.local/ns/production/sa/frontend", "frontend");
    assert_eq!(errors(&text), Vec::<String>::new());
    let warnings = crate::parse("a.yaml", text.as_bytes(), "default").problems;
    assert!(warnings[0].message.contains("TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT"), "{warnings:?}");
}

const TELEMETRY: &str = "apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: a}
spec:
  selector: {matchLabels: {app: a}}
  tracing:
  - match: {mode: CLIENT}
    providers: [{name: zipkin}]
    randomSamplingPercentage: 10.5
    customTags: {a: {literal: {value: x}}, b: {environment: {name: E}}, c: {header: {name: h}}, d: {formatter: {value: '%REQ(X)%'}}}
    disableSpanReporting: false
    useRequestIdForTraceSampling: true
    enableIstioTags: true
    disableContextPropagation: false
  metrics:
  - providers: [{name: prometheus}]
    reportingInterval: 10s
    overrides:
    - match: {metric: REQUEST_COUNT, mode: SERVER}
      disabled: false
      tagOverrides: {path: {value: request.path}, source_app: {operation: REMOVE}}
    - match: {customMetric: mine}
  accessLogging:
  - match: {mode: SERVER}
    providers: [{name: envoy}]
    disabled: false
    filter: {expression: response.code >= 400}
";

#[test]
fn telemetries() {
    table(
        TELEMETRY,
        &[
            ("app: a", "app: '*'", "spec.selector.matchLabels.app", "wildcard"),
            ("name: zipkin", "name: ''", "spec.tracing[0].providers[0].name", "no name"),
            ("10.5", "100.5", "spec.tracing[0].randomSamplingPercentage", "between 0 and 100"),
            ("{literal: {value: x}}", "{}", "spec.tracing[0].customTags.a", "exactly one"),
            (
                "{literal: {value: x}}",
                "{literal: {value: ''}}",
                "spec.tracing[0].customTags.a.literal.value",
                "empty",
            ),
            ("{name: E}", "{}", "spec.tracing[0].customTags.b.environment.name", "empty"),
            ("name: prometheus", "name: ''", "spec.metrics[0].providers[0].name", "no name"),
            (
                "reportingInterval: 10s",
                "reportingInterval: 1us",
                "spec.metrics[0].reportingInterval",
                "too short",
            ),
            ("REQUEST_COUNT", "REQUESTS", "spec.metrics[0].overrides[0].match.metric", "unknown value"),
            (
                "{customMetric: mine}",
                "{customMetric: ''}",
                "spec.metrics[0].overrides[1].match.customMetric",
                "empty",
            ),
            (
                "{customMetric: mine}",
                "{customMetric: a, metric: REQUEST_SIZE}",
                "spec.metrics[0].overrides[1].match.customMetric",
                "not both",
            ),
            (
                "path: {value",
                "pa-th: {value",
                "spec.metrics[0].overrides[0].tagOverrides.pa-th",
                "not a label",
            ),
            (
                "{value: request.path}",
                "{}",
                "spec.metrics[0].overrides[0].tagOverrides.path.value",
                "needs a value",
            ),
            (
                "{operation: REMOVE}",
                "{operation: REMOVE, value: x}",
                "spec.metrics[0].overrides[0].tagOverrides.source_app.value",
                "has no value",
            ),
            ("name: envoy", "name: ''", "spec.accessLogging[0].providers[0].name", "no name"),
            ("response.code >= 400", "''", "spec.accessLogging[0].filter.expression", "empty"),
            (
                "  tracing:",
                "  targetRefs: [{kind: Gateway, name: g}]\n  tracing:",
                "spec.targetRefs[0]",
                "not both",
            ),
        ],
    );
    accepted(
        TELEMETRY,
        &[
            ("mode: SERVER", "mode: CLIENT_AND_SERVER"),
            ("telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"),
        ],
    );
}
