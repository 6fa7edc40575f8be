//! Clusters at run time: configuration beside what must survive a push.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use base::Reason;
use config::model::{self, Address, Discovery, Endpoint, LoadAssignment, TransportSocket, Value};

use super::host::{Host, HostAddress, HostRuntime};
use super::host_set::{HostSet, Weighing};
use super::limits::Limits;
use super::outlier::Outliers;
use super::outlier_events::OutlierEvents;
use super::outlier_stats;
use super::retry_budget::RetryBudget;
use super::transport::Transport;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::Service;
use crate::telemetry::{Registry, peer_metadata};
use crate::tls::Secrets;

/// What lives as long as a cluster of that name is configured.
#[derive(Debug)]
pub struct ClusterIdentity {
    /// Unique in the process; workers find their state by it.
    pub id: u64,
    /// The cluster's name.
    pub name: Arc<str>,
    /// Its circuit breakers; made at the first request.
    limits: OnceLock<Arc<Limits>>,
    /// How many hosts are ejected, and may be.
    pub outliers: Arc<Outliers>,
    /// How many retries run, and may.
    pub retries: Arc<RetryBudget>,
}

impl ClusterIdentity {
    /// What holds over all workers and over pushes; `config` is what the current push says.
    pub fn limits(&self, config: &model::CircuitBreakers) -> &Arc<Limits> {
        self.limits.get_or_init(|| Limits::new(&self.name, config))
    }
}

/// One cluster.
#[derive(Debug)]
pub struct Cluster {
    /// Survives pushes.
    pub identity: Arc<ClusterIdentity>,
    /// What the configuration says.
    pub config: Arc<model::Cluster>,
    /// The service that metrics name; `None` where the configuration does not say.
    pub service: Option<Interned<Service>>,
    /// The endpoints; `None` while an EDS cluster has none yet.
    assignment: Option<Arc<LoadAssignment>>,
    hosts: ArcSwap<HostSet>,
    transports: Vec<(TransportSocket, Arc<Transport>)>,
    environment: Environment,
}

/// What clusters are built with.
#[derive(Debug, Clone)]
pub struct Environment {
    /// Where label values are interned.
    pub registry: Arc<Registry>,
    /// The workload's certificates.
    pub secrets: Arc<Secrets>,
    /// What became of outliers.
    pub events: Arc<OutlierEvents>,
    /// Whether hosts that cannot be reached are passed over for a moment.
    pub pass_over_unreachable: bool,
    next_id: Arc<AtomicU64>,
}

impl Environment {
    /// An environment without clusters.
    pub fn new(registry: Arc<Registry>, secrets: Arc<Secrets>) -> Self {
        let next_id = Arc::new(AtomicU64::new(1));
        Self { registry, secrets, events: Arc::default(), pass_over_unreachable: true, next_id }
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    fn host(&self, outliers: &Arc<Outliers>) -> HostRuntime {
        HostRuntime::new(self.id(), outliers, self.pass_over_unreachable)
    }
}

/// A cluster that cannot be used: requests to it are answered as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterProblem {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Field and reason.
    pub reason: String,
}

/// All clusters of a snapshot, by name.
#[derive(Debug, Clone, Default)]
pub struct ClusterSet {
    clusters: HashMap<Arc<str>, Arc<Cluster>>,
}

impl ClusterSet {
    /// Builds the next set. What is equal in `previous` is kept as it is: clusters, hosts, their counts and pools.
    /// `assignments` holds the endpoints of EDS clusters by resource name, and may hold others by cluster name. A cluster that cannot be built is left out
    /// and reported.
    pub fn build<'a>(
        previous: &ClusterSet,
        clusters: impl IntoIterator<Item = &'a Arc<model::Cluster>>,
        assignments: &BTreeMap<Arc<str>, Arc<LoadAssignment>>,
        environment: &Environment,
    ) -> (ClusterSet, Vec<ClusterProblem>) {
        let mut set = ClusterSet::default();
        let mut problems = Vec::new();
        for config in clusters {
            let assignment = match &config.discovery {
                Discovery::Static(assignment) | Discovery::StrictDns { assignment, .. } => {
                    Some(assignments.get(&config.name).unwrap_or(assignment))
                }
                Discovery::Eds { service_name } => assignments.get(service_name),
                Discovery::OriginalDestination => None,
            };
            let old = previous.clusters.get(&config.name);
            match Cluster::build(old, config, assignment, environment) {
                Ok(cluster) => {
                    set.clusters.insert(config.name.clone(), cluster);
                }
                Err(reason) => problems.push(ClusterProblem { cluster: config.name.clone(), reason }),
            }
        }
        (set, problems)
    }

    /// The cluster of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// Whether both hold the same clusters, none of them built anew.
    pub fn same_clusters(&self, other: &ClusterSet) -> bool {
        let same = |(name, cluster): (&Arc<str>, &Arc<Cluster>)| {
            other.clusters.get(name).is_some_and(|other| Arc::ptr_eq(cluster, other))
        };
        self.clusters.len() == other.clusters.len() && self.clusters.iter().all(same)
    }

    /// All clusters, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        self.clusters.values()
    }
}

impl Cluster {
    fn build(
        old: Option<&Arc<Cluster>>,
        config: &Arc<model::Cluster>,
        assignment: Option<&Arc<LoadAssignment>>,
        environment: &Environment,
    ) -> Result<Arc<Cluster>, String> {
        if let Some(old) = old
            && old.config == *config
            && old.assignment.as_ref() == assignment
        {
            return Ok(old.clone());
        }
        let identity = old.map_or_else(
            || {
                let outliers = Outliers::new(environment.events.wake().clone());
                let (name, retries) = (config.name.clone(), Arc::default());
                let (id, limits) = (environment.id(), OnceLock::new());
                Arc::new(ClusterIdentity { id, name, limits, outliers, retries })
            },
            |old| old.identity.clone(),
        );
        if let Some(limits) = identity.limits.get() {
            limits.update(&config.circuit_breakers);
        }
        let cluster = Cluster {
            identity,
            config: config.clone(),
            service: service(config).map(|service| environment.registry.services.intern(Arc::new(service))),
            assignment: assignment.cloned(),
            hosts: ArcSwap::default(),
            transports: transports(old, config, environment)?,
            environment: environment.clone(),
        };
        let resolved = old.map(|old| old.resolved()).unwrap_or_default();
        cluster.place(old.map(|old| old.hosts()).as_deref(), &resolved);
        Ok(Arc::new(cluster))
    }

    /// The hosts now.
    pub fn hosts(&self) -> Arc<HostSet> {
        self.hosts.load_full()
    }

    /// IP addresses of the hosts that prove to be workloads of the mesh when they are called.
    pub fn mesh_addresses(&self) -> Vec<IpAddr> {
        let hosts = self.hosts();
        let of_the_mesh = hosts.hosts().filter(|host| host.transport.is_mesh());
        of_the_mesh
            .filter_map(|host| match &host.address {
                HostAddress::Tcp(address) => Some(address.ip()),
                HostAddress::Pipe(_) => None,
            })
            .collect()
    }

    /// Why no host of it can be used.
    pub fn why_no_host(&self) -> Reason {
        let hosts = self.hosts();
        if hosts.all.is_empty() {
            return if self.names().is_empty() { Reason::NoEndpoint } else { Reason::NameNotResolved };
        }
        let mut ejected = hosts.hosts().filter(|host| host.runtime.monitor.is_ejected());
        if ejected.next().is_some() { Reason::Ejected } else { Reason::NoHealthyUpstream }
    }

    /// Names of a `STRICT_DNS` cluster that are to be resolved.
    pub fn names(&self) -> Vec<(Arc<str>, u16)> {
        let endpoints = self.assignment.iter().flat_map(|assignment| assignment.endpoints());
        let mut names: Vec<_> = endpoints
            .filter_map(|endpoint| match &endpoint.address {
                Address::Name { host, port } => Some((host.clone(), *port)),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Replaces the hosts of the names that were resolved. Names that are missing in `resolved` keep what they had.
    pub fn set_resolved(&self, resolved: &BTreeMap<(Arc<str>, u16), Vec<SocketAddr>>) {
        let current = self.hosts();
        let mut all = self.resolved();
        all.extend(resolved.iter().map(|(name, addresses)| (name.clone(), addresses.clone())));
        if all != self.resolved() {
            self.place(Some(&current), &all);
        }
    }

    /// What the names are resolved to now.
    fn resolved(&self) -> BTreeMap<(Arc<str>, u16), Vec<SocketAddr>> {
        let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for host in self.hosts().hosts() {
            if let (Address::Name { host: name, port }, HostAddress::Tcp(address)) =
                (&host.endpoint.address, &host.address)
            {
                all.entry((name.clone(), *port)).or_default().push(*address);
            }
        }
        all
    }

    /// Puts hosts in their places, keeping the runtime state of those that were there.
    fn place(&self, old: Option<&HostSet>, resolved: &BTreeMap<(Arc<str>, u16), Vec<SocketAddr>>) {
        let known: HashMap<&HostAddress, &Arc<Host>> =
            old.into_iter().flat_map(|set| set.hosts()).map(|host| (&host.address, host)).collect();
        let mut hosts = Vec::new();
        for locality in self.assignment.iter().flat_map(|assignment| assignment.localities.iter()) {
            for endpoint in &locality.endpoints {
                for address in addresses(&endpoint.address, resolved) {
                    let host = self.host(known.get(&address).copied(), endpoint, address);
                    hosts.extend(host.map(|host| (locality.priority, host)));
                }
            }
        }
        // A host that leaves makes room for another ejection.
        let kept: HashSet<u64> = hosts.iter().map(|(_, host)| host.runtime.id).collect();
        for gone in known.values().filter(|known| !kept.contains(&known.runtime.id)) {
            gone.runtime.monitor.uneject();
        }
        self.settle(&hosts);
        self.hosts.store(Arc::new(HostSet::new(hosts, self.weighing())));
    }

    /// How many of these hosts may be ejected from now on.
    fn settle(&self, hosts: &[(u32, Arc<Host>)]) {
        let outliers = &self.identity.outliers;
        let rules = self.config.outlier_detection.as_ref();
        if rules.is_some() {
            outlier_stats::show(outliers, &self.identity.name, &self.environment.registry);
        } else {
            for (_, host) in hosts {
                host.runtime.monitor.uneject();
            }
        }
        let usable = hosts.iter().filter(|(_, host)| host.endpoint.health.is_usable()).count();
        outliers.set_limit(rules, hosts.len(), usable);
    }

    fn weighing(&self) -> Weighing {
        Weighing {
            panic_threshold: self.config.healthy_panic_threshold,
            overprovisioning: self.assignment.as_ref().map_or(140, |all| all.overprovisioning_factor),
        }
    }

    /// Sorts the hosts by the health that they have now.
    pub(super) fn refresh_health(&self) {
        self.hosts.rcu(|current| Arc::new(current.again()));
    }

    /// A host of the cluster. `None`, and no host, where its transport socket was not built: never plaintext instead.
    fn host(
        &self,
        known: Option<&Arc<Host>>,
        endpoint: &Arc<Endpoint>,
        address: HostAddress,
    ) -> Option<Arc<Host>> {
        let socket = self.config.transport_socket_for(&endpoint.transport_labels);
        let transport = self.transport(socket)?;
        // Connections made with another transport socket (other SANs, other SNI) must not be reused.
        let same = known.filter(|known| known.socket == *socket);
        if let Some(known) = same
            && known.endpoint == *endpoint
            && Arc::ptr_eq(&transport, &known.transport)
        {
            return Some(known.clone());
        }
        let registry = &self.environment.registry;
        let workload = peer_metadata::from_endpoint(&endpoint.workload);
        Some(Arc::new(Host {
            address_text: address.to_string().into(),
            address,
            endpoint: endpoint.clone(),
            transport,
            socket: socket.clone(),
            workload: workload.map_or_else(
                || registry.workloads.unknown(),
                |workload| registry.workloads.intern(Arc::new(workload)),
            ),
            runtime: same.map_or_else(
                || Arc::new(self.environment.host(&self.identity.outliers)),
                |known| known.runtime.clone(),
            ),
        }))
    }

    fn transport(&self, socket: &TransportSocket) -> Option<Arc<Transport>> {
        self.transports.iter().find(|(have, _)| have == socket).map(|(_, transport)| transport.clone())
    }
}

fn addresses(address: &Address, resolved: &BTreeMap<(Arc<str>, u16), Vec<SocketAddr>>) -> Vec<HostAddress> {
    match address {
        Address::Socket(address) => vec![HostAddress::Tcp(*address)],
        Address::Pipe { path, .. } => vec![HostAddress::Pipe(PathBuf::from(&**path))],
        Address::Name { host, port } => resolved
            .get(&(host.clone(), *port))
            .map(|all| all.iter().map(|address| HostAddress::Tcp(*address)).collect())
            .unwrap_or_default(),
    }
}

/// Every transport socket that an endpoint of the cluster may get; those of the old cluster are kept with their TLS
/// sessions.
fn transports(
    old: Option<&Arc<Cluster>>,
    config: &model::Cluster,
    environment: &Environment,
) -> Result<Vec<(TransportSocket, Arc<Transport>)>, String> {
    let named = config.transport_socket_matches.iter().map(|one| (&*one.name, &one.socket));
    let mut built: Vec<(TransportSocket, Arc<Transport>)> = Vec::new();
    for (name, socket) in named.chain([("transport_socket", &config.transport_socket)]) {
        if built.iter().any(|(have, _)| have == socket) {
            continue;
        }
        let transport = match old.and_then(|old| old.transport(socket)) {
            Some(kept) => kept,
            None => Arc::new(
                Transport::new(socket, &environment.secrets).map_err(|error| format!("{name}: {error}"))?,
            ),
        };
        built.push((socket.clone(), transport));
    }
    Ok(built)
}

/// The service that metrics name: Istio's cluster metadata, else what the cluster's name says.
fn service(config: &model::Cluster) -> Option<Service> {
    let services = config.metadata.get("istio").and_then(|istio| istio.get("services"));
    if let Some(Value::List(services)) = services
        && let Some(first) = services.first()
    {
        let text = |key| first.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        return Some(Service { host: text("host"), name: text("name"), namespace: text("namespace") });
    }
    let name = &*config.name;
    if matches!(name, "PassthroughCluster" | "BlackHoleCluster" | "InboundPassthroughCluster") {
        let unknown = || "unknown".to_owned();
        return Some(Service { host: unknown(), name: name.to_owned(), namespace: unknown() });
    }
    let mut parts = name.strip_prefix("outbound|")?.split('|');
    let host = parts.nth(2).filter(|host| !host.is_empty())?;
    Some(service_of_host(host))
}

/// A service of which only the host name is known.
pub fn service_of_host(host: &str) -> Service {
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or(host).to_owned();
    let namespace = labels.next().filter(|_| labels.next() == Some("svc")).unwrap_or("unknown").to_owned();
    // A name outside the mesh is its own short name.
    let name = if namespace == "unknown" { host.to_owned() } else { name };
    Service { host: host.to_owned(), name, namespace }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;
