//! When a resource may be used: a listener or route only when the clusters it names have their endpoints, or are known
//! not to exist, so that a route never points at nothing while a configuration arrives piece by piece. Bounded: after
//! [`WARMING_LIMIT`] it is used as it is, as Envoy does (`initial_fetch_timeout`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::model::{Cluster, Listener, RouteConfiguration};

use super::references::{self, Names};
use super::snapshot::{Named, Snapshot};

/// How long a resource waits for what it needs.
pub const WARMING_LIMIT: Duration = Duration::from_secs(15);

/// What was accepted, whether or not it is in use.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    /// Listeners.
    pub listeners: Named<Listener>,
    /// Route configurations.
    pub routes: Named<RouteConfiguration>,
    /// Clusters.
    pub clusters: Named<Cluster>,
    /// Endpoints.
    pub assignments: Named<config::model::LoadAssignment>,
    /// The server's list of clusters is complete: a cluster outside it does not exist.
    pub clusters_known: bool,
    /// Route configurations that the server does not have.
    pub no_routes: Names,
    /// Load assignments that the server does not have.
    pub no_assignments: Names,
}

/// Since when each resource waits.
#[derive(Debug, Default)]
pub struct Waiting {
    since: BTreeMap<(&'static str, Arc<str>), Instant>,
}

impl Waiting {
    /// When the first of them will have waited long enough.
    pub fn deadline(&self) -> Option<Instant> {
        self.since.values().min().map(|since| *since + WARMING_LIMIT)
    }

    /// Names of what waits, for `/ready` and `/config_dump`.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &Arc<str>)> {
        self.since.keys().map(|(kind, name)| (*kind, name))
    }

    fn over(&mut self, kind: &'static str, name: &Arc<str>, now: Instant) -> bool {
        let since = *self.since.entry((kind, name.clone())).or_insert(now);
        now.duration_since(since) >= WARMING_LIMIT
    }

    fn done(&mut self, kind: &'static str, name: &Arc<str>) {
        self.since.remove(&(kind, name.clone()));
    }
}

/// The next snapshot: what is ready in its new version, what waits in its old one.
pub fn next(accepted: &Accepted, current: &Snapshot, waiting: &mut Waiting, now: Instant) -> Snapshot {
    let clusters = settle("cluster", &accepted.clusters, &current.clusters, waiting, now, |cluster| {
        references::assignment_of_cluster(cluster).is_none_or(|name| {
            accepted.assignments.contains_key(name) || accepted.no_assignments.contains(name)
        })
    });
    let cluster_ready = |name: &Arc<str>| {
        clusters.contains_key(name) || (accepted.clusters_known && !accepted.clusters.contains_key(name))
    };
    let routes = settle("route", &accepted.routes, &current.routes, waiting, now, |routes| {
        let mut names = Names::new();
        references::clusters_of_routes(routes, &mut names);
        names.iter().all(cluster_ready)
    });
    let listeners = settle("listener", &accepted.listeners, &current.listeners, waiting, now, |listener| {
        let (mut names, mut route_names) = (Names::new(), Names::new());
        references::clusters_of_listener(listener, &mut names);
        references::routes_of_listener(listener, &mut route_names);
        names.iter().all(cluster_ready)
            && route_names.iter().all(|name| routes.contains_key(name) || accepted.no_routes.contains(name))
    });
    waiting.since.retain(|(kind, name), _| match *kind {
        "cluster" => accepted.clusters.contains_key(name),
        "route" => accepted.routes.contains_key(name),
        _ => accepted.listeners.contains_key(name),
    });
    let assignments = accepted.assignments.clone();
    Snapshot { version: current.version + 1, listeners, routes, clusters, assignments }
}

fn settle<T>(
    kind: &'static str,
    accepted: &Named<T>,
    current: &Named<T>,
    waiting: &mut Waiting,
    now: Instant,
    ready: impl Fn(&T) -> bool,
) -> Named<T> {
    let mut settled = Named::new();
    for (name, wanted) in accepted {
        let in_use = current.get(name);
        if in_use.is_some_and(|in_use| Arc::ptr_eq(in_use, wanted)) {
            settled.insert(name.clone(), wanted.clone());
        } else if ready(wanted) || waiting.over(kind, name, now) {
            waiting.done(kind, name);
            settled.insert(name.clone(), wanted.clone());
        } else if let Some(in_use) = in_use {
            settled.insert(name.clone(), in_use.clone());
        }
    }
    settled
}
