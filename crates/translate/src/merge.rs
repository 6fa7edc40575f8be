//! Every rule of precedence, visibility and merging: which resource counts where several could.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kinds::authorization_policy::AuthorizationPolicy;
use api::kinds::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, DestinationRule, OutlierDetection, PortTrafficPolicy,
    RetryBudget, Subset, TrafficPolicy,
};
use api::kinds::load_balancer::LoadBalancerSettings;
use api::kinds::peer_authentication::{MutualTlsMode, PeerAuthentication};
use api::kinds::service::Service;
use api::kinds::virtual_service::VirtualService;
use api::{ObjectMeta, Resource};

use crate::host;
use crate::world::World;

/// Labels of a workload or an object.
pub type Labels = BTreeMap<String, String>;

/// Annotation of a Service that limits the namespaces that see it.
pub const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Order in which resources of equal rank count: the oldest first, then by name and namespace. Files have no age.
pub fn age(meta: &ObjectMeta) -> (&str, &str, &str) {
    (&meta.creation_timestamp, &meta.name, &meta.namespace)
}

/// Whether a resource of namespace `owner` with this `exportTo` is seen from namespace `client`.
pub fn exported(export_to: &[&str], owner: &str, client: &str) -> bool {
    export_to.iter().any(|entry| match *entry {
        "*" => true,
        "." => owner == client,
        "~" => false,
        namespace => namespace == client,
    })
}

fn or_default<'a>(written: &'a [String], default: Vec<&'a str>) -> Vec<&'a str> {
    if written.is_empty() { default } else { written.iter().map(String::as_str).collect() }
}

/// Whether a Service is seen from namespace `client`.
pub fn service_visible(world: &World, service: &Resource<Service>, client: &str) -> bool {
    let owner = service.meta.namespace.as_str();
    match service.meta.annotations.get(EXPORT_TO) {
        Some(list) => exported(&list.split(',').map(str::trim).collect::<Vec<_>>(), owner, client),
        None => exported(&world.mesh().default_service_export_to(), owner, client),
    }
}

/// Whether a VirtualService holds for sidecars (and not for gateways only).
pub fn applies_to_mesh(route: &VirtualService) -> bool {
    route.gateways.is_empty() || route.gateways.iter().any(|gateway| gateway == "mesh")
}

/// The VirtualServices that may route `host` for clients of namespace `client`, the first to be asked first: the most
/// specific host, then private ones, then those exported to the namespace by name, then public ones, each oldest first.
pub fn virtual_services<'w>(
    world: &'w World,
    client: &str,
    host: &str,
) -> Vec<&'w Arc<Resource<VirtualService>>> {
    let default = world.mesh().default_virtual_service_export_to();
    let mut found = Vec::new();
    for (_, group) in world.routes().matches(host) {
        let mut seen: Vec<(u8, &Arc<Resource<VirtualService>>)> = group
            .iter()
            .filter(|route| applies_to_mesh(&route.spec))
            .filter_map(|route| {
                let export_to = or_default(&route.spec.export_to, default.clone());
                let owner = route.meta.namespace.as_str();
                let rank = if !exported(&export_to, owner, client) {
                    return None;
                } else if export_to.contains(&"*") {
                    2
                } else {
                    u8::from(owner != client)
                };
                Some((rank, route))
            })
            .collect();
        seen.sort_by_key(|(rank, _)| *rank);
        found.extend(seen.into_iter().map(|(_, route)| route));
    }
    found
}

/// The DestinationRules that together hold for a host and a client.
#[derive(Debug, Clone, Default)]
pub struct MergedRule<'w> {
    /// The rules, the oldest first.
    pub rules: Vec<&'w Arc<Resource<DestinationRule>>>,
    /// Policy of the whole host: from the oldest rule that has one.
    pub traffic_policy: Option<&'w TrafficPolicy>,
    /// The subsets: of equal names the oldest rule's.
    pub subsets: Vec<&'w Subset>,
}

impl<'w> MergedRule<'w> {
    /// The subset with this name.
    pub fn subset(&self, name: &str) -> Option<&'w Subset> {
        self.subsets.iter().copied().find(|subset| subset.name == name)
    }
}

/// The rule for `host` as clients of namespace `client` with these labels see it: their own namespace, then the
/// Service's, then the root namespace; the first with any rule counts alone. Subsets that are gone and still in use are
/// added from the last good version.
pub fn destination_rule<'w>(world: &'w World, client: &str, labels: &Labels, host: &str) -> MergedRule<'w> {
    let mut merged = written_rule(world, client, labels, host);
    for subset in world.last_good().retained(host) {
        if merged.subset(&subset.name).is_none() {
            merged.subsets.push(subset);
        }
    }
    merged
}

/// As [`destination_rule`], but only what is written now.
pub fn written_rule<'w>(world: &'w World, client: &str, labels: &Labels, host: &str) -> MergedRule<'w> {
    let root = world.mesh().root_namespace();
    let owner = host::split_service_fqdn(host).map(|(_, namespace)| namespace);
    // Of the mesh's default for DestinationRules only `.` is honoured, and everything else means `*`, as in Istio.
    let private = world.mesh().default_destination_rule_export_to().contains(&".");
    let default = vec![if private { "." } else { "*" }];
    let sources = [Some((client, client == root)), owner.map(|it| (it, false)), Some((root, false))];
    for (namespace, private_only) in sources.into_iter().flatten() {
        let Some(objects) = world.namespace(namespace) else { continue };
        for (_, group) in objects.rules_by_host.matches(host) {
            let visible = group.iter().filter(|rule| {
                let own = namespace == client;
                match &rule.spec.workload_selector {
                    Some(selector) => own && selector.selects(labels),
                    None => {
                        let export_to = or_default(&rule.spec.export_to, default.clone());
                        let own_default = own && rule.spec.export_to.is_empty();
                        (own_default || exported(&export_to, namespace, client))
                            && (!private_only || !export_to.contains(&"*"))
                    }
                }
            });
            let merged = merge_rules(visible.collect());
            if !merged.rules.is_empty() {
                return merged;
            }
            // The most specific rule that leaves its namespace hides the others there, seen by this client or not.
            let leaves = |rule: &Arc<Resource<DestinationRule>>| {
                let export_to = or_default(&rule.spec.export_to, default.clone());
                rule.spec.workload_selector.is_none()
                    && export_to.iter().any(|entry| *entry != "." && *entry != namespace)
            };
            if namespace != client && group.iter().any(leaves) {
                break;
            }
        }
    }
    MergedRule::default()
}

/// Whether a rule that holds only for some workloads of a namespace has a subset with this name.
pub fn selective_rule_has(world: &World, namespace: &str, host: &str, subset: &str) -> bool {
    let groups =
        world.namespace(namespace).into_iter().flat_map(|objects| objects.rules_by_host.matches(host));
    groups
        .flat_map(|(_, group)| group)
        .filter(|rule| rule.spec.workload_selector.is_some())
        .any(|rule| rule.spec.subsets.iter().any(|known| known.name == subset))
}

/// Whether a rule is merged into the first of its host: who sees it sees the first one too, and both select the same.
pub fn merges_into(rule: &Resource<DestinationRule>, first: &Resource<DestinationRule>) -> bool {
    let (own, of_first) = (&rule.spec.export_to, &first.spec.export_to);
    let within =
        if own.is_empty() { of_first.is_empty() } else { own.iter().all(|entry| of_first.contains(entry)) };
    within && rule.spec.workload_selector == first.spec.workload_selector
}

/// Merges rules of one host in one namespace. A rule that selects the client beats those without selector; a rule with
/// another `exportTo` or selector than the first is not merged.
fn merge_rules<'w>(mut rules: Vec<&'w Arc<Resource<DestinationRule>>>) -> MergedRule<'w> {
    if rules.iter().any(|rule| rule.spec.workload_selector.is_some()) {
        rules.retain(|rule| rule.spec.workload_selector.is_some());
    }
    let Some(first) = rules.first().copied() else { return MergedRule::default() };
    rules.retain(|rule| merges_into(rule, first));
    let mut merged = MergedRule {
        traffic_policy: rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref()),
        ..Default::default()
    };
    for subset in rules.iter().flat_map(|rule| &rule.spec.subsets) {
        if merged.subset(&subset.name).is_none() {
            merged.subsets.push(subset);
        }
    }
    merged.rules = rules;
    merged
}

/// The policy of one cluster: the blocks that act, each from the rule that decides it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ClusterPolicy<'w> {
    /// Choice of the endpoint.
    pub load_balancer: Option<&'w LoadBalancerSettings>,
    /// Limits and timeouts of connections.
    pub connection_pool: Option<&'w ConnectionPoolSettings>,
    /// When an endpoint is ejected.
    pub outlier_detection: Option<&'w OutlierDetection>,
    /// TLS of the client; absent means automatic.
    pub tls: Option<&'w ClientTlsSettings>,
    /// How many retries may run at once; ports have none of their own.
    pub retry_budget: Option<&'w RetryBudget>,
}

impl<'w> ClusterPolicy<'w> {
    fn of_port(port: &'w PortTrafficPolicy) -> Self {
        ClusterPolicy {
            load_balancer: port.load_balancer.as_ref(),
            connection_pool: port.connection_pool.as_ref(),
            outlier_detection: port.outlier_detection.as_ref(),
            tls: port.tls.as_ref(),
            retry_budget: None,
        }
    }

    fn of(policy: &'w TrafficPolicy) -> Self {
        ClusterPolicy {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
            retry_budget: policy.retry_budget.as_ref(),
        }
    }

    /// Blocks of `above` replace those of `self` whole.
    fn overlaid(self, above: Self) -> Self {
        ClusterPolicy {
            load_balancer: above.load_balancer.or(self.load_balancer),
            connection_pool: above.connection_pool.or(self.connection_pool),
            outlier_detection: above.outlier_detection.or(self.outlier_detection),
            tls: above.tls.or(self.tls),
            retry_budget: above.retry_budget.or(self.retry_budget),
        }
    }
}

fn port_level(policy: &TrafficPolicy, port: u16) -> Option<&PortTrafficPolicy> {
    let wanted = u32::from(port);
    policy
        .port_level_settings
        .iter()
        .find(|entry| entry.port.is_some_and(|selector| selector.number == wanted))
}

/// The policy of the cluster of a Service port and, perhaps, a subset. A port-level policy replaces the one above it
/// completely; a subset's blocks replace the parent's one by one.
pub fn cluster_policy<'w>(
    base: Option<&'w TrafficPolicy>,
    subset: Option<&'w TrafficPolicy>,
    port: u16,
) -> ClusterPolicy<'w> {
    // A port cannot say anything about retries: what stands above it stays.
    let retry_budget = [subset, base].into_iter().flatten().find_map(|policy| policy.retry_budget.as_ref());
    let base = base.map(|policy| match port_level(policy, port) {
        Some(level) => ClusterPolicy::of_port(level),
        None => ClusterPolicy::of(policy),
    });
    let base = base.unwrap_or_default();
    let policy = match subset {
        None => base,
        Some(policy) => match port_level(policy, port) {
            Some(level) => ClusterPolicy::of_port(level),
            None => base.overlaid(ClusterPolicy::of(policy)),
        },
    };
    ClusterPolicy { retry_budget, ..policy }
}

/// A subset with everything that it inherits written into it, so that it can outlive its rule.
pub fn detached_subset(base: Option<&TrafficPolicy>, subset: &Subset) -> Subset {
    let own = subset.traffic_policy.clone().unwrap_or_default();
    let Some(base) = base else { return subset.clone() };
    let mut whole = TrafficPolicy {
        load_balancer: own.load_balancer.clone().or_else(|| base.load_balancer.clone()),
        connection_pool: own.connection_pool.clone().or_else(|| base.connection_pool.clone()),
        outlier_detection: own.outlier_detection.clone().or_else(|| base.outlier_detection.clone()),
        tls: own.tls.clone().or_else(|| base.tls.clone()),
        retry_budget: own.retry_budget.clone().or_else(|| base.retry_budget.clone()),
        ..own.clone()
    };
    for level in &base.port_level_settings {
        let port = level.port.map(|selector| selector.number);
        if own.port_level_settings.iter().any(|it| it.port.map(|selector| selector.number) == port) {
            continue;
        }
        whole.port_level_settings.push(PortTrafficPolicy {
            port: level.port,
            load_balancer: own.load_balancer.clone().or_else(|| level.load_balancer.clone()),
            connection_pool: own.connection_pool.clone().or_else(|| level.connection_pool.clone()),
            outlier_detection: own.outlier_detection.clone().or_else(|| level.outlier_detection.clone()),
            tls: own.tls.clone().or_else(|| level.tls.clone()),
        });
    }
    Subset { traffic_policy: Some(whole), ..subset.clone() }
}

/// Whether a selector selects every workload.
fn selects_all(selector: Option<&api::kinds::common::WorkloadSelector>) -> bool {
    selector.is_none_or(|selector| selector.match_labels.is_empty())
}

/// Which traffic a workload accepts on one of its own ports: port, then workload, then namespace, then mesh, then
/// `PERMISSIVE`; at each level the oldest counts and `UNSET` asks the level above. Never [`MutualTlsMode::Unset`].
pub fn mutual_tls_mode(world: &World, namespace: &str, labels: &Labels, port: u16) -> MutualTlsMode {
    let root = world.mesh().root_namespace();
    let oldest = |namespace: &str, wanted: &dyn Fn(&PeerAuthentication) -> bool| {
        let all =
            world.namespace(namespace).into_iter().flat_map(|objects| objects.peer_authentications.values());
        all.filter(|policy| wanted(&policy.spec)).min_by(|a, b| age(&a.meta).cmp(&age(&b.meta)))
    };
    let unselective = |policy: &PeerAuthentication| selects_all(policy.selector.as_ref());
    let selective = |policy: &PeerAuthentication| {
        !selects_all(policy.selector.as_ref())
            && policy.selector.as_ref().is_some_and(|it| it.selects(labels))
    };
    let workload = if namespace == root { None } else { oldest(namespace, &selective) };
    let by_port =
        workload.and_then(|policy| policy.spec.port_level_mtls.get(&u32::from(port))).map(|it| it.mode);
    let mode_of = |policy: &Arc<Resource<PeerAuthentication>>| policy.spec.mtls.as_ref().map(|it| it.mode);
    let levels = [
        by_port,
        workload.and_then(mode_of),
        oldest(namespace, &unselective).and_then(mode_of),
        oldest(root, &unselective).and_then(mode_of),
    ];
    let set = levels.into_iter().flatten().find(|mode| *mode != MutualTlsMode::Unset);
    set.unwrap_or(MutualTlsMode::Permissive)
}

/// The AuthorizationPolicies that hold for a workload: those of its namespace and of the root namespace that select it.
/// A policy with `targetRefs` never holds for a sidecar.
pub fn authorization_policies<'w>(
    world: &'w World,
    namespace: &str,
    labels: &Labels,
) -> Vec<&'w Arc<Resource<AuthorizationPolicy>>> {
    let root = world.mesh().root_namespace();
    let mut namespaces = vec![root];
    if namespace != root {
        namespaces.push(namespace);
    }
    namespaces
        .into_iter()
        .filter_map(|name| world.namespace(name))
        .flat_map(|objects| objects.authorization_policies.values())
        .filter(|policy| policy.spec.target_ref.is_none() && policy.spec.target_refs.is_empty())
        .filter(|policy| policy.spec.selector.as_ref().is_none_or(|selector| selector.selects(labels)))
        .collect()
}

pub mod telemetry;
#[cfg(test)]
mod tests;
pub mod tracing;
