//! Which fields act in this version. The one table of it: a field that is not listed here is accepted and reported.
//!
//! Patterns: `[]` is any entry of a list, `*` any key, `**` everything below. A field acts when a pattern names it;
//! what stands above a named field is only its container.

use crate::object::{Kind, Object};
use crate::origin::Origin;
use crate::path;
use crate::problem::{Level, Problem};
use crate::report::Report;

/// What happens with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The mesh does what it says.
    Acts,
    /// It is sent to the proxies; `tulle-proxy` accepts it and does not act on it yet.
    Passed,
}

use State::{Acts, Passed};

type Table = &'static [(&'static str, State)];

const SERVICE: Table = &[
    ("spec.clusterIP", Acts),
    ("spec.clusterIPs[]", Acts),
    ("spec.type", Acts),
    ("spec.selector.*", Acts),
    ("spec.ports[].name", Acts),
    ("spec.ports[].port", Acts),
    ("spec.ports[].targetPort", Acts),
    ("spec.ports[].protocol", Acts),
    ("spec.ports[].appProtocol", Acts),
    ("metadata.annotations[\"networking.istio.io/exportTo\"]", Acts),
];

const NAMESPACE: Table = &[("spec.**", Acts)];

const WORKLOAD_ENTRY: Table = &[
    ("spec.address", Acts),
    ("spec.ports.*", Acts),
    ("spec.labels.*", Acts),
    ("spec.locality", Passed),
    ("spec.weight", Acts),
    ("spec.serviceAccount", Acts),
];

const VIRTUAL_SERVICE: Table = &[
    ("spec.hosts[]", Acts),
    ("spec.gateways[]", Acts),
    ("spec.exportTo[]", Acts),
    ("spec.http[].name", Acts),
    ("spec.http[].match[].name", Acts),
    ("spec.http[].match[].uri.*", Acts),
    ("spec.http[].match[].scheme.*", Acts),
    ("spec.http[].match[].method.*", Acts),
    ("spec.http[].match[].authority.*", Acts),
    ("spec.http[].match[].headers.**", Acts),
    ("spec.http[].match[].withoutHeaders.**", Acts),
    ("spec.http[].match[].queryParams.**", Acts),
    ("spec.http[].match[].ignoreUriCase", Acts),
    ("spec.http[].match[].port", Acts),
    ("spec.http[].match[].sourceLabels.*", Acts),
    ("spec.http[].match[].sourceNamespace", Acts),
    ("spec.http[].match[].gateways[]", Acts),
    ("spec.http[].route[].destination.host", Acts),
    ("spec.http[].route[].destination.subset", Acts),
    ("spec.http[].route[].destination.port.number", Acts),
    ("spec.http[].route[].weight", Acts),
    ("spec.http[].route[].headers.**", Acts),
    ("spec.http[].headers.**", Acts),
    ("spec.http[].redirect.**", Acts),
    ("spec.http[].directResponse.**", Acts),
    ("spec.http[].rewrite.**", Acts),
    ("spec.http[].timeout", Acts),
    ("spec.http[].retries.attempts", Acts),
    ("spec.http[].retries.perTryTimeout", Acts),
    ("spec.http[].retries.retryOn", Acts),
    ("spec.http[].retries.retryIgnorePreviousHosts", Acts),
    ("spec.http[].retries.backoff", Acts),
];

/// Blocks of a traffic policy, below the policy itself.
const TRAFFIC_POLICY: Table = &[
    ("loadBalancer.simple", Acts),
    ("tls.mode", Acts),
    ("tls.clientCertificate", Acts),
    ("tls.privateKey", Acts),
    ("tls.caCertificates", Acts),
    ("tls.subjectAltNames[]", Acts),
    ("tls.sni", Acts),
    ("tls.insecureSkipVerify", Acts),
    ("connectionPool.tcp.connectTimeout", Acts),
    ("connectionPool.tcp.idleTimeout", Acts),
    ("connectionPool.tcp.maxConnectionDuration", Acts),
    ("connectionPool.tcp.tcpKeepalive.*", Acts),
    ("connectionPool.tcp.maxConnections", Acts),
    ("connectionPool.http.idleTimeout", Acts),
    ("connectionPool.http.maxRequestsPerConnection", Acts),
    ("connectionPool.http.http1MaxPendingRequests", Acts),
    ("connectionPool.http.http2MaxRequests", Acts),
    ("connectionPool.http.h2UpgradePolicy", Acts),
    ("connectionPool.http.useClientProtocol", Acts),
    ("connectionPool.http.maxConcurrentStreams", Acts),
    ("connectionPool.http.http2KeepAlive.*", Acts),
    ("connectionPool.http.maxRetries", Acts),
    ("outlierDetection.consecutiveErrors", Acts),
    ("outlierDetection.consecutive5xxErrors", Acts),
    ("outlierDetection.consecutiveGatewayErrors", Acts),
    ("outlierDetection.consecutiveLocalOriginFailures", Acts),
    ("outlierDetection.splitExternalLocalOriginErrors", Acts),
    ("outlierDetection.interval", Acts),
    ("outlierDetection.baseEjectionTime", Acts),
    ("outlierDetection.maxEjectionPercent", Acts),
    ("outlierDetection.minHealthPercent", Acts),
    ("outlierDetection.outlierDetectionHttpErrorCodes[]", Acts),
];

/// Where a traffic policy can stand.
const TRAFFIC_POLICY_AT: [&str; 4] = [
    "spec.trafficPolicy",
    "spec.trafficPolicy.portLevelSettings[]",
    "spec.subsets[].trafficPolicy",
    "spec.subsets[].trafficPolicy.portLevelSettings[]",
];

const DESTINATION_RULE: Table = &[
    ("spec.host", Acts),
    ("spec.exportTo[]", Acts),
    ("spec.workloadSelector.matchLabels.*", Acts),
    ("spec.subsets[].name", Acts),
    ("spec.subsets[].labels.*", Acts),
    ("spec.trafficPolicy.portLevelSettings[].port.number", Acts),
    ("spec.subsets[].trafficPolicy.portLevelSettings[].port.number", Acts),
    ("spec.trafficPolicy.retryBudget.percent", Acts),
    ("spec.trafficPolicy.retryBudget.minRetryConcurrency", Acts),
    ("spec.subsets[].trafficPolicy.retryBudget.percent", Acts),
    ("spec.subsets[].trafficPolicy.retryBudget.minRetryConcurrency", Acts),
];

const PEER_AUTHENTICATION: Table =
    &[("spec.selector.matchLabels.*", Acts), ("spec.mtls.mode", Acts), ("spec.portLevelMtls.*.mode", Acts)];

const AUTHORIZATION_POLICY: Table = &[
    ("spec.selector.matchLabels.*", Acts),
    ("spec.action", Acts),
    ("spec.rules[].from[].source.principals[]", Acts),
    ("spec.rules[].from[].source.notPrincipals[]", Acts),
    ("spec.rules[].from[].source.namespaces[]", Acts),
    ("spec.rules[].from[].source.notNamespaces[]", Acts),
    ("spec.rules[].from[].source.serviceAccounts[]", Acts),
    ("spec.rules[].from[].source.notServiceAccounts[]", Acts),
    ("spec.rules[].from[].source.trustDomains[]", Acts),
    ("spec.rules[].from[].source.notTrustDomains[]", Acts),
    ("spec.rules[].from[].source.ipBlocks[]", Acts),
    ("spec.rules[].from[].source.notIpBlocks[]", Acts),
    ("spec.rules[].from[].source.remoteIpBlocks[]", Acts),
    ("spec.rules[].from[].source.notRemoteIpBlocks[]", Acts),
    ("spec.rules[].to[].operation.*[]", Acts),
    ("spec.rules[].when[].key", Acts),
    ("spec.rules[].when[].values[]", Acts),
    ("spec.rules[].when[].notValues[]", Acts),
    ("metadata.annotations[\"istio.io/dry-run\"]", Acts),
];

const TELEMETRY: Table = &[
    ("spec.selector.matchLabels.*", Acts),
    ("spec.metrics[].providers[].name", Acts),
    ("spec.metrics[].reportingInterval", Acts),
    ("spec.metrics[].overrides[].match.metric", Acts),
    ("spec.metrics[].overrides[].match.customMetric", Passed),
    ("spec.metrics[].overrides[].match.mode", Acts),
    ("spec.metrics[].overrides[].disabled", Acts),
    ("spec.metrics[].overrides[].tagOverrides.*.operation", Acts),
    ("spec.metrics[].overrides[].tagOverrides.*.value", Acts),
    ("spec.accessLogging[].match.mode", Acts),
    ("spec.accessLogging[].providers[].name", Acts),
    ("spec.accessLogging[].disabled", Acts),
    ("spec.accessLogging[].filter.expression", Acts),
    ("spec.tracing[].match.mode", Acts),
    ("spec.tracing[].providers[].name", Acts),
    ("spec.tracing[].randomSamplingPercentage", Acts),
    ("spec.tracing[].disableSpanReporting", Acts),
    ("spec.tracing[].customTags.**", Acts),
    ("spec.tracing[].useRequestIdForTraceSampling", Acts),
    ("spec.tracing[].enableIstioTags", Acts),
    ("spec.tracing[].disableContextPropagation", Acts),
];

const MESH_CONFIG: Table = &[
    ("trustDomain", Acts),
    ("trustDomainAliases[]", Acts),
    ("rootNamespace", Acts),
    ("proxyHttpPort", Acts),
    ("connectTimeout", Acts),
    ("tcpKeepalive.*", Acts),
    ("verifyCertificateAtClient", Acts),
    ("enableTracing", Acts),
    ("defaultConfig.tracing.zipkin.address", Acts),
    ("defaultConfig.tracing.sampling", Acts),
    ("defaultConfig.tracing.maxPathTagLength", Acts),
    ("defaultConfig.tracing.enableIstioTags", Acts),
    ("defaultConfig.tracing.customTags.**", Acts),
    ("defaultProviders.tracing[]", Acts),
    ("extensionProviders[].name", Acts),
    ("extensionProviders[].zipkin.service", Acts),
    ("extensionProviders[].zipkin.port", Acts),
    ("extensionProviders[].zipkin.maxTagLength", Acts),
    ("extensionProviders[].zipkin.enable64bitTraceId", Acts),
    ("extensionProviders[].zipkin.path", Acts),
    ("extensionProviders[].zipkin.traceContextOption", Acts),
    ("extensionProviders[].zipkin.timeout", Acts),
    ("extensionProviders[].zipkin.headers[].name", Acts),
    ("extensionProviders[].zipkin.headers[].value", Acts),
    ("extensionProviders[].opentelemetry.service", Acts),
    ("extensionProviders[].opentelemetry.port", Acts),
    ("extensionProviders[].opentelemetry.maxTagLength", Acts),
    ("extensionProviders[].opentelemetry.http.path", Acts),
    ("extensionProviders[].opentelemetry.http.timeout", Acts),
    ("extensionProviders[].opentelemetry.http.headers[].name", Acts),
    ("extensionProviders[].opentelemetry.http.headers[].value", Acts),
    ("extensionProviders[].opentelemetry.grpc.timeout", Acts),
    ("extensionProviders[].opentelemetry.grpc.initialMetadata[].name", Acts),
    ("extensionProviders[].opentelemetry.grpc.initialMetadata[].value", Acts),
    ("extensionProviders[].opentelemetry.resourceDetectors.environment", Acts),
    ("extensionProviders[].opentelemetry.resourceDetectors.dynatrace", Passed),
    ("accessLogFile", Acts),
    ("accessLogFormat", Acts),
    ("accessLogEncoding", Acts),
    ("defaultConfig.proxyMetadata.TULLE_ACCESS_LOG_SAMPLE", Acts),
    ("defaultProviders.metrics[]", Acts),
    ("defaultProviders.accessLogging[]", Acts),
    ("extensionProviders[].prometheus", Acts),
    ("extensionProviders[].envoyFileAccessLog.path", Acts),
    ("extensionProviders[].envoyFileAccessLog.logFormat.text", Acts),
    ("extensionProviders[].envoyFileAccessLog.logFormat.labels.**", Acts),
    ("extensionProviders[].envoyFileAccessLog.omitEmptyValues", Acts),
    ("extensionProviders[].envoyOtelAls.service", Acts),
    ("extensionProviders[].envoyOtelAls.port", Acts),
    ("extensionProviders[].envoyOtelAls.logName", Acts),
    ("extensionProviders[].envoyOtelAls.logFormat.text", Acts),
    ("extensionProviders[].envoyOtelAls.logFormat.labels.**", Acts),
    ("enableAutoMtls", Acts),
    ("outboundTrafficPolicy.mode", Acts),
    ("defaultServiceExportTo[]", Acts),
    ("defaultVirtualServiceExportTo[]", Acts),
    ("defaultDestinationRuleExportTo[]", Acts),
    ("pathNormalization.normalization", Acts),
    ("meshMTLS.minProtocolVersion", Acts),
    ("h2UpgradePolicy", Acts),
    ("defaultHttpRetryPolicy.attempts", Acts),
    ("defaultHttpRetryPolicy.perTryTimeout", Acts),
    ("defaultHttpRetryPolicy.retryOn", Acts),
    ("defaultHttpRetryPolicy.retryIgnorePreviousHosts", Acts),
    ("defaultHttpRetryPolicy.backoff", Acts),
];

/// Every pattern of a kind with what happens to the field, for documentation and tests.
pub fn patterns(kind: Kind) -> Vec<(String, State)> {
    let table = match kind {
        Kind::Service => SERVICE,
        Kind::Namespace => NAMESPACE,
        Kind::WorkloadEntry => WORKLOAD_ENTRY,
        Kind::VirtualService => VIRTUAL_SERVICE,
        Kind::DestinationRule => DESTINATION_RULE,
        Kind::PeerAuthentication => PEER_AUTHENTICATION,
        Kind::AuthorizationPolicy => AUTHORIZATION_POLICY,
        Kind::Telemetry => TELEMETRY,
    };
    let mut all: Vec<(String, State)> =
        table.iter().map(|(pattern, state)| (pattern.to_string(), *state)).collect();
    if kind == Kind::DestinationRule {
        for base in TRAFFIC_POLICY_AT {
            all.extend(TRAFFIC_POLICY.iter().map(|(block, state)| (format!("{base}.{block}"), *state)));
        }
    }
    all
}

/// As [`patterns`], for the settings of the mesh.
pub fn mesh_patterns() -> Vec<(String, State)> {
    MESH_CONFIG.iter().map(|(pattern, state)| (pattern.to_string(), *state)).collect()
}

/// The fields of a resource that are accepted and do not act yet, each once (not what stands below it).
pub fn not_acting(object: &Object) -> Vec<Problem> {
    let (kind, meta, origin) = (object.kind(), object.meta(), object.origin());
    let mut report = Report::new(kind.as_str(), &meta.namespace, &meta.name, origin);
    let says = |field: &str| match kind {
        Kind::Service => Says { level: Level::Info, message: "the mesh does not read this field" },
        Kind::AuthorizationPolicy if field.starts_with("spec.rules") => Says {
            level: Level::Warning,
            message: "accepted, not evaluated yet: an ALLOW block with it matches nothing, and a DENY rule counts it as met",
        },
        _ => NOT_YET,
    };
    collect(origin, &patterns(kind), says, &mut report, |path| {
        path.starts_with("spec.") || (path.starts_with("metadata.annotations[") && path.contains("istio.io/"))
    });
    report.into_problems()
}

/// As [`not_acting`], for the settings of the mesh.
pub(crate) fn mesh_config(origin: &Origin, report: &mut Report<'_>) {
    collect(origin, &mesh_patterns(), |_| NOT_YET, report, |_| true);
}

/// What is said of a field that no pattern names.
struct Says {
    level: Level,
    message: &'static str,
}

/// What is said of most fields.
const NOT_YET: Says = Says { level: Level::Warning, message: "accepted, not acting yet" };

fn collect(
    origin: &Origin,
    patterns: &[(String, State)],
    says: impl Fn(&str) -> Says,
    report: &mut Report<'_>,
    concerns: impl Fn(&str) -> bool,
) {
    let patterns: Vec<(Vec<&str>, State)> =
        patterns.iter().map(|(text, state)| (path::parts(text), *state)).collect();
    let mut reported: Option<&str> = None;
    for (field, at) in origin.fields().filter(|(field, _)| concerns(field)) {
        if reported
            .is_some_and(|above| field.strip_prefix(above).is_some_and(|rest| rest.starts_with(['.', '['])))
        {
            continue;
        }
        let parts = path::parts(field);
        match find(&parts, &patterns) {
            Found::Acts | Found::Container => continue,
            Found::Passed => {
                let message = "accepted and passed to the proxies, where it does not act yet".to_string();
                report.add_at(Level::Warning, field, at, message, None);
            }
            Found::Nothing => {
                let says = says(field);
                report.add_at(says.level, field, at, says.message.to_string(), None);
            }
        }
        reported = Some(field);
    }
}

/// How the patterns see a field.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Acts,
    Passed,
    /// Something below it is named.
    Container,
    Nothing,
}

fn find(parts: &[&str], patterns: &[(Vec<&str>, State)]) -> Found {
    let mut found = Found::Nothing;
    for (pattern, state) in patterns {
        let common =
            parts.iter().zip(pattern).take_while(|(part, name)| **name == "*" || *part == *name).count();
        let all_below = pattern.last() == Some(&"**") && common >= pattern.len() - 1;
        if all_below || (common == pattern.len() && common == parts.len()) {
            return if *state == Acts { Found::Acts } else { Found::Passed };
        }
        if common == parts.len() {
            found = Found::Container;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(text: &str) -> Vec<String> {
        let parsed = crate::parse("a.yaml", text.as_bytes(), "production");
        assert!(!parsed.has_errors(), "{:?}", parsed.problems);
        parsed.objects.iter().flat_map(not_acting).map(|problem| problem.to_string()).collect()
    }

    #[test]
    fn names_each_field_once_with_its_place() {
        let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  http:\n  - mirror: {host: b, subset: c}\n    retries: {attempts: 2}\n    timeout: 3s\n    route: [{destination: {host: a}}]\n";
        assert_eq!(
            reported(text),
            [
                "a.yaml:7:5: warning: VirtualService/production/a: spec.http[0].mirror: accepted, not acting yet"
            ]
        );
    }

    #[test]
    fn acting_fields_are_silent() {
        let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: a}\nspec:\n  selector: {matchLabels: {app: a}}\n  mtls: {mode: STRICT}\n  portLevelMtls: {8080: {mode: DISABLE}}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: b}\nspec:\n  hosts: [b]\n  http:\n  - match: [{uri: {prefix: /}, headers: {x-a.b: {}, end-user: {exact: jason}}, sourceLabels: {app.kubernetes.io/name: a}}]\n    route: [{destination: {host: b, port: {number: 80}}, weight: 1}]\n";
        assert_eq!(reported(text), Vec::<String>::new());
    }

    #[test]
    fn an_authorization_policy_says_what_happens_instead() {
        let text = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a}\nspec:\n  rules:\n  - from: [{source: {requestPrincipals: [\"*\"], namespaces: [a]}}]\n";
        let all = reported(text);
        assert_eq!(all.len(), 1);
        assert!(
            all[0].contains("spec.rules[0].from[0].source.requestPrincipals: accepted, not evaluated yet"),
            "{all:?}"
        );
    }

    #[test]
    fn every_pattern_is_well_formed() {
        for kind in Kind::ALL {
            for (pattern, _) in patterns(*kind) {
                let parts = path::parts(&pattern);
                assert!(parts.len() >= 2 && ["spec", "metadata"].contains(&parts[0]), "{pattern}");
                assert!(!parts[..parts.len() - 1].contains(&"**"), "{pattern}");
            }
        }
    }
}
