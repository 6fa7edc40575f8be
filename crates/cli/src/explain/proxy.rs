//! What one workload's proxy is configured with, read as the proxy itself reads it, from wherever it comes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use config::model::{
    Cluster, Discovery, HttpConnectionManager, Listener, LoadAssignment, RouteConfiguration, RouteSource,
};

use crate::Error;

/// Who a proxy is.
#[derive(Debug, Clone)]
pub struct Who {
    /// Its namespace.
    pub namespace: String,
    /// Its workload.
    pub workload: String,
    /// The SPIFFE id of its certificate; `None`: it has none.
    pub identity: Option<String>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

impl Who {
    /// `namespace/workload`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.namespace, self.workload)
    }
}

/// Where the resources of a proxy come from.
pub trait Resources {
    /// Its listeners.
    ///
    /// # Errors
    /// The proxy would refuse one of them.
    fn listeners(&self) -> Result<Vec<Listener>, Error>;
    /// Routes by name.
    ///
    /// # Errors
    /// The proxy would refuse them.
    fn routes(&self, name: &str) -> Result<Option<RouteConfiguration>, Error>;
    /// A cluster by name.
    ///
    /// # Errors
    /// The proxy would refuse it.
    fn cluster(&self, name: &str) -> Result<Option<Cluster>, Error>;
    /// Endpoints by the name under which a cluster asks for them.
    ///
    /// # Errors
    /// The proxy would refuse them.
    fn endpoints(&self, name: &str) -> Result<Option<LoadAssignment>, Error>;
    /// What is known of an endpoint's health beyond its configuration: `ejected`, `unreachable`; empty: nothing.
    fn health(&self, cluster: &str, address: SocketAddr) -> String;
    /// Its clusters towards the mesh, where they are known by themselves.
    fn cluster_names(&self) -> Vec<String> {
        Vec::new()
    }
}

type Known<T> = RefCell<BTreeMap<String, Option<Arc<T>>>>;

/// A proxy with what configures it. What was read once is kept.
pub struct Proxy<'w> {
    /// Who it is.
    pub who: Who,
    /// Its listeners.
    pub listeners: Vec<Listener>,
    resources: Box<dyn Resources + 'w>,
    routes: Known<RouteConfiguration>,
    clusters: Known<Cluster>,
    endpoints: Known<LoadAssignment>,
}

impl<'w> Proxy<'w> {
    /// Reads the listeners; everything else is read when it is asked for.
    ///
    /// # Errors
    /// The proxy would refuse one of them.
    pub fn new(who: Who, resources: Box<dyn Resources + 'w>) -> Result<Self, Error> {
        let (routes, clusters, endpoints) = (Known::default(), Known::default(), Known::default());
        Ok(Self { who, listeners: resources.listeners()?, resources, routes, clusters, endpoints })
    }

    /// The listener that takes connections to an address.
    pub fn listener_at(&self, address: SocketAddr) -> Option<&Listener> {
        self.listeners.iter().find(|it| it.address.socket() == Some(address))
    }

    /// The routes of a connection manager.
    ///
    /// # Errors
    /// The proxy would refuse them.
    pub fn routes(&self, manager: &HttpConnectionManager) -> Result<Option<Arc<RouteConfiguration>>, Error> {
        match &manager.route {
            RouteSource::Inline(routes) => Ok(Some(routes.clone())),
            RouteSource::Rds { name } => known(&self.routes, name, |name| self.resources.routes(name)),
        }
    }

    /// A cluster.
    ///
    /// # Errors
    /// The proxy would refuse it.
    pub fn cluster(&self, name: &str) -> Result<Option<Arc<Cluster>>, Error> {
        known(&self.clusters, name, |name| self.resources.cluster(name))
    }

    /// The endpoints of a cluster; none where they are not known beforehand.
    ///
    /// # Errors
    /// The proxy would refuse them.
    pub fn endpoints(&self, cluster: &Cluster) -> Result<Option<Arc<LoadAssignment>>, Error> {
        match &cluster.discovery {
            Discovery::Static(assignment) | Discovery::StrictDns { assignment, .. } => {
                Ok(Some(assignment.clone()))
            }
            Discovery::Eds { service_name } => {
                known(&self.endpoints, service_name, |name| self.resources.endpoints(name))
            }
            Discovery::OriginalDestination => Ok(None),
        }
    }

    /// Its clusters towards the mesh, where they are known by themselves.
    pub fn cluster_names(&self) -> Vec<String> {
        self.resources.cluster_names()
    }

    /// What is known of an endpoint's health beyond its configuration.
    pub fn health(&self, cluster: &str, address: SocketAddr) -> String {
        self.resources.health(cluster, address)
    }
}

fn known<T>(
    all: &Known<T>,
    name: &str,
    read: impl FnOnce(&str) -> Result<Option<T>, Error>,
) -> Result<Option<Arc<T>>, Error> {
    if let Some(known) = all.borrow().get(name) {
        return Ok(known.clone());
    }
    let found = read(name)?.map(Arc::new);
    all.borrow_mut().insert(name.to_owned(), found.clone());
    Ok(found)
}
