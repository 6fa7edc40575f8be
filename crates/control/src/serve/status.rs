//! How the mesh is, in one answer: which proxies are connected and how far they are, what of the users' resources does
//! not act, and which limits are in effect, for each proxy and for all of them together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use translate::limits::{self, Limited, PoolLimits};
use translate::{Flavour, ProxyNode, Scope, World};

use crate::push::Connections;
use crate::push::connections::{ConnectionReport, State};
use crate::store::Store;
use crate::store::verdicts::{Message, Verdict, Verdicts};

/// The most kinds of proxies (by namespace and labels) whose limits are looked up.
const MOST_KINDS: usize = 1_000;
/// The most limits that are listed.
const MOST_LIMITS: usize = 10_000;
/// The most messages that are listed.
const MOST_MESSAGES: usize = 1_000;

/// The answer of `/debug/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Version of the control plane.
    pub version: &'static str,
    /// Whether everything has been read.
    pub synced: bool,
    /// Connected proxies, the longest connected first.
    pub proxies: Vec<ProxyStatus>,
    /// Resources by the answer to them.
    pub resources: Resources,
    /// What does not act, or acts otherwise: `file:line: level: text`.
    pub messages: Vec<String>,
    /// Limits of connection pools; destinations without a limit are not listed.
    pub limits: Vec<LimitStatus>,
    /// How much was left out of `messages` and `limits` for their size.
    pub left_out: usize,
}

/// Numbers of resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// They serve as written.
    pub accepted: usize,
    /// They serve, and a part of them does not act.
    pub accepted_with_notes: usize,
    /// They do not serve.
    pub refused: usize,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProxyStatus {
    /// `synced`, `waiting` or `rejected`: the worst of its types.
    pub state: State,
    /// Everything else.
    #[serde(flatten)]
    pub report: ConnectionReport,
}

/// Limits in effect; an absent one is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// Connections (`tcp.maxConnections`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u64>,
    /// Waiting requests (`http.http1MaxPendingRequests`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_pending_requests: Option<u64>,
    /// Active requests (`http.http2MaxRequests`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// Retries (`http.maxRetries`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<u64>,
}

impl Numbers {
    fn times(limits: PoolLimits, proxies: u64) -> Self {
        let times = |limit: Option<u32>| limit.map(|limit| u64::from(limit).saturating_mul(proxies));
        Numbers {
            max_connections: times(limits.max_connections),
            max_pending_requests: times(limits.max_pending_requests),
            max_requests: times(limits.max_requests),
            max_retries: times(limits.max_retries),
        }
    }
}

/// The limits of one destination, for the proxies that have the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitStatus {
    /// Full name of the Service.
    pub host: String,
    /// Name of the subset; empty for the whole Service.
    pub subset: String,
    /// Port of the Service.
    pub port: u16,
    /// How many connected proxies hold them.
    pub proxies: u64,
    /// For each of them.
    pub per_proxy: Numbers,
    /// For all of them together.
    pub total: Numbers,
}

/// How the mesh is now.
pub fn of(store: &Store, connections: &Connections) -> Status {
    let proxies: Vec<ProxyStatus> =
        connections.list().into_iter().map(|report| ProxyStatus { state: worst(&report), report }).collect();
    let verdicts = store.verdicts();
    let (messages, messages_left) = messages(&verdicts);
    let nodes = proxies.iter().map(|proxy| &proxy.report.proxy);
    let (limits, limits_left) = limits_of(&store.world(), nodes);
    let number = |wanted| verdicts.resources.iter().filter(|one| one.verdict == wanted).count();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        synced: store.is_synced(),
        resources: Resources {
            accepted: number(Verdict::Accepted),
            accepted_with_notes: number(Verdict::AcceptedWithNotes),
            refused: number(Verdict::Refused),
        },
        messages,
        limits,
        left_out: messages_left + limits_left,
        proxies,
    }
}

fn worst(report: &ConnectionReport) -> State {
    let states = || report.types.values().map(|one| one.state);
    let any = |wanted| states().any(|state| state == wanted);
    match () {
        () if any(State::Rejected) => State::Rejected,
        () if any(State::Waiting) || report.types.is_empty() => State::Waiting,
        () => State::Synced,
    }
}

fn messages(verdicts: &Verdicts) -> (Vec<String>, usize) {
    let of_resources = verdicts.resources.iter().flat_map(|one| {
        let place = move |line: u32| format!("{}:{}", one.file, if line > 0 { line } else { one.line });
        one.messages.iter().map(move |it| {
            format!(
                "{}: {}: {}/{}/{}: {}",
                place(it.line),
                it.level,
                one.kind,
                one.namespace,
                one.name,
                told(it)
            )
        })
    });
    let all: Vec<String> = of_resources.collect();
    let left = all.len().saturating_sub(MOST_MESSAGES);
    (all.into_iter().take(MOST_MESSAGES).collect(), left)
}

fn told(message: &Message) -> String {
    match message.field.as_str() {
        "" => message.message.clone(),
        field => format!("{field}: {}", message.message),
    }
}

/// What of a node decides its limits.
type ProxyKind<'a> = (&'a str, &'a BTreeMap<String, String>, &'a [IpAddr]);

/// Whether a DestinationRule of the namespace holds for some of its workloads only.
fn has_selectors(world: &World, namespace: &str) -> bool {
    let rules = world.namespace(namespace).into_iter().flat_map(|objects| objects.destination_rules.values());
    rules.into_iter().any(|rule| rule.spec.workload_selector.is_some())
}

/// The limits that these proxies hold. A gRPC library counts active requests only, and only of what it calls, which is
/// not known here: it is not counted.
fn limits_of<'a>(
    world: &World,
    nodes: impl Iterator<Item = &'a Arc<ProxyNode>>,
) -> (Vec<LimitStatus>, usize) {
    let mut kinds: BTreeMap<ProxyKind<'a>, (u64, &ProxyNode)> = BTreeMap::new();
    let mut selective: BTreeMap<&str, bool> = BTreeMap::new();
    let mut left = 0;
    for node in nodes.filter(|node| node.flavour != Flavour::Grpc) {
        // Only a rule that selects workloads makes a difference between those of a namespace.
        let namespace = node.namespace.as_str();
        let addresses = if *selective.entry(namespace).or_insert_with(|| has_selectors(world, namespace)) {
            node.addresses.as_slice()
        } else {
            &[]
        };
        let kind = (namespace, &node.labels, addresses);
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&kind) {
            left += 1;
            continue;
        }
        kinds.entry(kind).or_insert((0, node)).0 += 1;
    }
    let mut counted: BTreeMap<Limited, u64> = BTreeMap::new();
    for (number, node) in kinds.into_values() {
        for limited in limits::limited(&Scope::new(world, node)) {
            *counted.entry(limited).or_default() += number;
        }
    }
    left += counted.len().saturating_sub(MOST_LIMITS);
    let status = |(it, proxies): (Limited, u64)| LimitStatus {
        host: it.host,
        subset: it.subset,
        port: it.port,
        proxies,
        per_proxy: Numbers::times(it.limits, 1),
        total: Numbers::times(it.limits, proxies),
    };
    (counted.into_iter().take(MOST_LIMITS).map(status).collect(), left)
}

#[cfg(test)]
mod tests {
    use super::*;
    use translate::Change;

    fn node(name: &str, program: &str) -> Arc<ProxyNode> {
        let fields = [("NAMESPACE", "production"), ("INTERCEPTION_MODE", "NONE")];
        let metadata = translate::values::struct_of(
            fields.into_iter().map(|(key, value)| (key, translate::values::text(value))),
        );
        let node = protos::envoy::envoy::config::core::v3::Node {
            id: format!("sidecar~127.10.0.{}~{name}.production~cluster.local", name.len()),
            user_agent_name: program.to_owned(),
            metadata: Some(metadata),
            ..Default::default()
        };
        Arc::new(ProxyNode::from_node(&node).unwrap())
    }

    fn world(selector: &str) -> World {
        let yaml = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: payment}}\n\
             spec: {{selector: {{app: payment}}, ports: [{{name: http, port: 8080}}]}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: r}}\n\
             spec: {{host: payment, {selector} trafficPolicy: {{connectionPool: {{tcp: {{maxConnections: 100}}}}}}}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: a}}\n\
             spec: {{address: 127.10.0.1, labels: {{app: a}}}}\n"
        );
        let parsed = api::parse("a.yaml", yaml.as_bytes(), "production");
        assert!(parsed.problems.iter().all(|problem| !problem.is_error()), "{:?}", parsed.problems);
        let changes: Vec<Change> = parsed.objects.into_iter().map(Change::Apply).collect();
        World::empty(api::MeshConfig::default()).with(&changes)
    }

    #[test]
    fn a_limit_counts_once_for_each_proxy_that_holds_it() {
        let nodes = [node("a", "tulle-proxy"), node("bb", "envoy"), node("ccc", "gRPC C-core")];
        let (limits, left) = limits_of(&world(""), nodes.iter());
        assert_eq!((limits.len(), left), (1, 0));
        assert_eq!((limits[0].proxies, limits[0].port), (2, 8080));
        assert_eq!(limits[0].per_proxy.max_connections, Some(100));
        assert_eq!(limits[0].total, Numbers { max_connections: Some(200), ..Default::default() });
        let selective = world("workloadSelector: {matchLabels: {app: a}},");
        let (limits, _) = limits_of(&selective, nodes.iter());
        assert_eq!(limits[0].proxies, 1, "the rule is for one of the two");
    }
}
