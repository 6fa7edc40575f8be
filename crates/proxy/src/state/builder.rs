//! From xDS updates to snapshots: each resource is accepted or refused by itself, and what is ready is swapped in whole.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use config::model::{Cluster, Discovery, Listener};
use config::{NotActing, Read, Refused};
use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;
use protos::envoy::envoy::config::{cluster, endpoint, listener, route};
use protos::{Any, any};
use tokio::sync::watch;
use xds::client::{Connection, Handler, Missing, Subscribe, Update, Verdict};
use xds::{Resource, WILDCARD, order};

use super::kept::Kept;
use super::notes::Notes;
use super::references::{self, Names};
use super::snapshot::{Live, Named, Snapshot};
use super::warming::{Accepted, Waiting, next};

/// A check of one kind of resource.
pub type Check<T> = Box<dyn Fn(&T) -> Result<(), Refused>>;

/// Checks that need more than the model: keys, files, ports. They run before a resource is accepted.
pub struct Checks {
    /// Whether a listener can be served.
    pub listener: Check<Listener>,
    /// Whether a cluster can be called.
    pub cluster: Check<Cluster>,
}

/// What the xDS stream is doing, for `/ready`, metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stream {
    /// A stream is open.
    pub up: bool,
    /// Why it is not.
    pub reason: String,
    /// Updates that were taken.
    pub updates: u64,
    /// Updates with a refused resource.
    pub rejected: u64,
    /// The server has answered every wildcard once, or said nothing for the fetch timeout; or a sealed snapshot stands
    /// in for it.
    pub complete: bool,
    /// Resources that came, and names that were said to be gone.
    pub resources: u64,
    /// A stream was open at least once.
    pub was_up: bool,
}

/// Builds snapshots. Lives on the main thread.
pub struct Builder {
    live: Arc<Live>,
    accepted: Accepted,
    waiting: Waiting,
    checks: Checks,
    kept: Kept,
    notes: Notes,
    wanted: BTreeSet<&'static str>,
    answered: BTreeSet<&'static str>,
    route_names: Names,
    assignment_names: Names,
    published: watch::Sender<u64>,
    stream: watch::Sender<Stream>,
    static_names: BTreeSet<(&'static str, Arc<str>)>,
}

impl Builder {
    /// A builder that publishes to `live`. `listeners` and `clusters`: whether these come from an xDS server.
    pub fn new(live: Arc<Live>, checks: Checks, listeners: bool, clusters: bool) -> Builder {
        let mut wanted = BTreeSet::new();
        if listeners {
            wanted.insert(order::LISTENER);
        }
        if clusters {
            wanted.insert(order::CLUSTER);
        }
        let accepted = Accepted { clusters_known: !clusters, ..Accepted::default() };
        let stream = Stream { complete: wanted.is_empty(), ..Stream::default() };
        Builder {
            live,
            accepted,
            waiting: Waiting::default(),
            checks,
            kept: Kept::default(),
            notes: Notes::default(),
            wanted,
            answered: BTreeSet::new(),
            route_names: Names::new(),
            assignment_names: Names::new(),
            published: watch::Sender::new(0),
            stream: watch::Sender::new(stream),
            static_names: BTreeSet::new(),
        }
    }

    /// Told of every new snapshot.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Told of the state of the stream.
    pub fn stream(&self) -> watch::Receiver<Stream> {
        self.stream.subscribe()
    }

    /// The raw resources.
    pub fn kept(&self) -> Kept {
        self.kept.clone()
    }

    /// The fields that do nothing.
    pub fn notes(&self) -> Notes {
        self.notes.clone()
    }

    /// When [`Builder::publish`] has to be called although nothing came.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.deadline()
    }

    /// Names of what waits for something.
    pub fn waiting(&self) -> Vec<String> {
        self.waiting.names().map(|(kind, name)| format!("{kind} {name}")).collect()
    }

    /// Takes the static resources of a bootstrap.
    ///
    /// # Errors
    /// `kind name: path: reason`.
    pub fn add_static(
        &mut self,
        message: &Bootstrap,
        bootstrap: &config::model::Bootstrap,
    ) -> Result<(), String> {
        for listener in &bootstrap.listeners {
            (self.checks.listener)(listener)
                .map_err(|refused| format!("listener {}: {refused}", listener.name))?;
            if self.accepted.listeners.insert(listener.name.clone(), listener.clone()).is_some() {
                return Err(format!(
                    "static_resources.listeners: two listeners are called \"{}\"",
                    listener.name
                ));
            }
            self.static_names.insert((order::LISTENER, listener.name.clone()));
        }
        for cluster in &bootstrap.clusters {
            (self.checks.cluster)(cluster)
                .map_err(|refused| format!("cluster {}: {refused}", cluster.name))?;
            if self.accepted.clusters.insert(cluster.name.clone(), cluster.clone()).is_some() {
                return Err(format!(
                    "static_resources.clusters: two clusters are called \"{}\"",
                    cluster.name
                ));
            }
            self.static_names.insert((order::CLUSTER, cluster.name.clone()));
        }
        let at = SystemTime::now();
        let resources = message.static_resources.iter();
        for (index, listener) in resources.clone().flat_map(|all| &all.listeners).enumerate() {
            let name = bootstrap.listeners.get(index).map_or(listener.name.as_str(), |model| &*model.name);
            self.kept.accepted(name, "", any::pack(listener), true, at);
        }
        for cluster in resources.flat_map(|all| &all.clusters) {
            self.kept.accepted(&cluster.name, "", any::pack(cluster), true, at);
        }
        Ok(())
    }

    /// Takes what a sealed snapshot holds into use, as if a server had just sent it: all of it, or nothing.
    ///
    /// # Errors
    /// The first resource that is refused; what was accepted before stays as it was.
    pub fn restore(&mut self, resources: &[(&'static str, Vec<Resource>)]) -> Result<(), String> {
        let before = self.accepted.clone();
        let each = || resources.iter().flat_map(|(kind, all)| all.iter().map(move |one| (*kind, one)));
        for (type_url, resource) in each() {
            if let Err(problem) = self.take(type_url, resource) {
                self.accepted = before;
                for (type_url, resource) in each() {
                    if !self.static_names.contains(&(type_url, resource.name.as_str().into())) {
                        self.kept.removed(type_url, &resource.name);
                    }
                }
                return Err(format!("{} {problem}", order::short_name(type_url)));
            }
        }
        // What is not in it was not there when it was made: nothing waits for it.
        let accepted = &mut self.accepted;
        accepted.clusters_known = true;
        let mut routes = Names::new();
        accepted.listeners.values().for_each(|one| references::routes_of_listener(one, &mut routes));
        routes.retain(|name| !accepted.routes.contains_key(name));
        accepted.no_routes.append(&mut routes);
        let assignments = accepted.clusters.values().filter_map(|one| references::assignment_of_cluster(one));
        let absent = assignments.filter(|name| !accepted.assignments.contains_key(*name));
        accepted.no_assignments.extend(absent.cloned());
        self.answered.clone_from(&self.wanted);
        self.stream.send_modify(|stream| stream.complete = true);
        Ok(())
    }

    /// The first subscriptions of a stream.
    pub fn subscriptions(&mut self) -> Vec<Subscribe> {
        let mut list: Vec<Subscribe> = self.wanted.iter().map(|type_url| Subscribe::all(type_url)).collect();
        self.names_changed(&mut list);
        list
    }

    /// Swaps in what is ready.
    pub fn publish(&mut self) {
        let current = self.live.load_full();
        let snapshot = next(&self.accepted, &current, &mut self.waiting, Instant::now());
        if !same(&snapshot, &current) {
            let version = snapshot.version;
            self.live.store(Arc::new(snapshot));
            self.published.send_replace(version);
        }
    }

    fn names_changed(&mut self, subscriptions: &mut Vec<Subscribe>) {
        let mut routes = Names::new();
        let in_use = self.live.load_full();
        for listener in self.accepted.listeners.values().chain(in_use.listeners.values()) {
            references::routes_of_listener(listener, &mut routes);
        }
        let clusters = self.accepted.clusters.values().chain(in_use.clusters.values());
        let assignments: Names =
            clusters.filter_map(|cluster| references::assignment_of_cluster(cluster)).cloned().collect();
        change(order::ROUTE, &mut self.route_names, routes, subscriptions, |gone| {
            self.accepted.routes.remove(gone);
            self.accepted.no_routes.remove(gone);
            self.kept.removed(order::ROUTE, gone);
        });
        change(order::ENDPOINT, &mut self.assignment_names, assignments, subscriptions, |gone| {
            self.accepted.assignments.remove(gone);
            self.accepted.no_assignments.remove(gone);
            self.kept.removed(order::ENDPOINT, gone);
        });
    }

    fn take(&mut self, type_url: &str, resource: &Resource) -> Result<(), String> {
        let Resource { name, version, any } = resource;
        let result = match type_url {
            order::LISTENER => self.take_listener(name, any),
            order::CLUSTER => self.take_cluster(name, any),
            order::ROUTE => self.take_route(name, any),
            order::ENDPOINT => self.take_assignment(name, any),
            other => Err(Refused { path: String::new(), reason: format!("{other} was not asked for") }),
        };
        let at = SystemTime::now();
        match result {
            Ok((kind, notes)) => {
                self.notes.add(kind, name, &notes);
                self.kept.accepted(name, version, any.clone(), false, at);
                Ok(())
            }
            Err(refused) => {
                let detail = if refused.path.is_empty() { refused.reason } else { refused.to_string() };
                self.kept.refused(type_url, name, version, &detail, at);
                Err(format!("{name}: {detail}"))
            }
        }
    }

    fn take_listener(&mut self, name: &str, any: &Any) -> Result<Taken, Refused> {
        let message: listener::v3::Listener = open(any)?;
        named(name, &message.name)?;
        self.not_static(order::LISTENER, name)?;
        let Read { value, notes } = config::read_listener(&message)?;
        (self.checks.listener)(&value)?;
        keep_equal(&mut self.accepted.listeners, name.into(), value);
        Ok(("listener", notes))
    }

    fn take_cluster(&mut self, name: &str, any: &Any) -> Result<Taken, Refused> {
        let message: cluster::v3::Cluster = open(any)?;
        named(name, &message.name)?;
        self.not_static(order::CLUSTER, name)?;
        let Read { mut value, notes } = config::read_cluster(&message)?;
        if let Discovery::Eds { service_name } = &mut value.discovery
            && service_name.is_empty()
        {
            // Without a service name the endpoints go by the cluster's (EdsClusterConfig.service_name).
            *service_name = name.into();
        }
        (self.checks.cluster)(&value)?;
        keep_equal(&mut self.accepted.clusters, name.into(), value);
        Ok(("cluster", notes))
    }

    fn take_route(&mut self, name: &str, any: &Any) -> Result<Taken, Refused> {
        let message: route::v3::RouteConfiguration = open(any)?;
        named(name, &message.name)?;
        let Read { value, notes } = config::read_route_configuration(&message)?;
        keep_equal(&mut self.accepted.routes, name.into(), value);
        self.accepted.no_routes.remove(name);
        Ok(("route", notes))
    }

    fn take_assignment(&mut self, name: &str, any: &Any) -> Result<Taken, Refused> {
        let message: endpoint::v3::ClusterLoadAssignment = open(any)?;
        named(name, &message.cluster_name)?;
        let Read { value, notes } = config::read_load_assignment(&message)?;
        keep_equal(&mut self.accepted.assignments, name.into(), value);
        self.accepted.no_assignments.remove(name);
        Ok(("endpoints", notes))
    }

    /// A server cannot replace what the bootstrap says.
    fn not_static(&self, type_url: &'static str, name: &str) -> Result<(), Refused> {
        if self.static_names.contains(&(type_url, name.into())) {
            let reason =
                "the bootstrap has a static resource of that name, which a server cannot change".to_owned();
            return Err(Refused { path: "name".to_owned(), reason });
        }
        Ok(())
    }

    fn remove(&mut self, type_url: &str, name: &str) {
        match type_url {
            order::LISTENER if !self.static_names.contains(&(order::LISTENER, name.into())) => {
                self.accepted.listeners.remove(name);
            }
            order::CLUSTER if !self.static_names.contains(&(order::CLUSTER, name.into())) => {
                self.accepted.clusters.remove(name);
            }
            order::ROUTE => {
                self.accepted.routes.remove(name);
                self.accepted.no_routes.insert(name.into());
            }
            order::ENDPOINT => {
                self.accepted.assignments.remove(name);
                self.accepted.no_assignments.insert(name.into());
            }
            _ => return,
        }
        self.kept.removed(type_url, name);
    }

    fn wildcard_answered(&mut self, type_url: &str) {
        if let Some(known) = self.wanted.get(type_url) {
            self.answered.insert(known);
            self.accepted.clusters_known |= type_url == order::CLUSTER;
            let complete = self.answered.len() == self.wanted.len();
            self.stream.send_if_modified(|stream| {
                let changed = stream.complete != complete;
                stream.complete = complete;
                changed
            });
        }
    }
}

type Taken = (&'static str, Vec<NotActing>);

impl Handler for Builder {
    fn update(&mut self, update: &Update, subscriptions: &mut Vec<Subscribe>) -> Verdict {
        let mut problems = Vec::new();
        let mut rejected = Vec::new();
        for resource in &update.added {
            if let Err(problem) = self.take(&update.type_url, resource) {
                problems.push(problem);
                rejected.push(resource.name.clone());
            }
        }
        for name in &update.removed {
            self.remove(&update.type_url, name);
        }
        self.wildcard_answered(&update.type_url);
        self.publish();
        self.names_changed(subscriptions);
        let kind = order::short_name(&update.type_url);
        tracing::debug!(
            kind,
            added = update.added.len(),
            removed = update.removed.len(),
            refused = rejected.len(),
            version = update.version,
            "xDS update"
        );
        self.stream.send_modify(|stream| {
            stream.updates += 1;
            stream.resources += (update.added.len() + update.removed.len()) as u64;
            stream.rejected += u64::from(!rejected.is_empty());
        });
        if problems.is_empty() {
            return Verdict::Ack;
        }
        let detail = problems.join("; ");
        tracing::error!(kind, "refused, the version before stays in use: {detail}");
        Verdict::Nack { detail, rejected }
    }

    fn missing(&mut self, missing: &Missing, subscriptions: &mut Vec<Subscribe>) {
        tracing::warn!(
            kind = order::short_name(&missing.type_url),
            name = missing.name,
            "the xDS server says nothing about this resource; going on without it"
        );
        if missing.name == WILDCARD {
            self.wildcard_answered(&missing.type_url);
        } else {
            match missing.type_url.as_str() {
                order::ROUTE => {
                    self.accepted.no_routes.insert(missing.name.as_str().into());
                }
                order::ENDPOINT => {
                    self.accepted.no_assignments.insert(missing.name.as_str().into());
                }
                _ => {}
            }
        }
        self.publish();
        self.names_changed(subscriptions);
    }

    fn connection(&mut self, connection: &Connection) {
        let (up, reason) = match connection {
            Connection::Up => {
                tracing::info!("connected to the xDS server");
                (true, String::new())
            }
            Connection::Down { reason, retry_in } => {
                let retry_in_ms = u64::try_from(retry_in.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(retry_in_ms, "no xDS stream; what is configured stays in use: {reason}");
                (false, reason.clone())
            }
        };
        self.stream.send_modify(|stream| {
            stream.up = up;
            stream.was_up |= up;
            stream.reason = reason;
        });
    }
}

fn open<M: protos::Message + prost::Name + Default>(message: &Any) -> Result<M, Refused> {
    any::open(message).map_err(|error| Refused { path: String::new(), reason: error.to_string() })
}

fn named(wanted: &str, found: &str) -> Result<(), Refused> {
    if wanted == found {
        return Ok(());
    }
    let reason = format!("\"{found}\" inside a resource that is called \"{wanted}\"");
    Err(Refused { path: "name".to_owned(), reason })
}

/// Keeps the old value where the new one is equal, so that its runtime state goes on.
fn keep_equal<T: PartialEq>(map: &mut Named<T>, name: Arc<str>, value: T) {
    if map.get(&name).is_none_or(|old| **old != value) {
        map.insert(name, Arc::new(value));
    }
}

fn change(
    type_url: &str,
    current: &mut Names,
    wanted: Names,
    subscriptions: &mut Vec<Subscribe>,
    mut gone: impl FnMut(&str),
) {
    let add: Vec<String> = wanted.difference(current).map(|name| name.to_string()).collect();
    let remove: Vec<String> = current.difference(&wanted).map(|name| name.to_string()).collect();
    if !add.is_empty() || !remove.is_empty() {
        remove.iter().for_each(|name| gone(name));
        subscriptions.push(Subscribe { type_url: type_url.to_owned(), add, remove });
    }
    *current = wanted;
}

fn same(new: &Snapshot, old: &Snapshot) -> bool {
    fn equal<T>(new: &Named<T>, old: &Named<T>) -> bool {
        new.len() == old.len()
            && new.iter().zip(old).all(|((name, value), (old_name, old_value))| {
                name == old_name && Arc::ptr_eq(value, old_value)
            })
    }
    equal(&new.listeners, &old.listeners)
        && equal(&new.routes, &old.routes)
        && equal(&new.clusters, &old.clusters)
        && equal(&new.assignments, &old.assignments)
}
