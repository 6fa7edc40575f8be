//! What one workload's proxy is configured with, read as the proxy itself reads it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use config::Refused;
use config::model::{
    Cluster, Discovery, HttpConnectionManager, Listener, LoadAssignment, RouteConfiguration, RouteSource,
};
use prost::{Message, Name};
use protos::Any;
use protos::envoy::envoy::config::cluster::v3 as pb_cluster;
use protos::envoy::envoy::config::endpoint::v3 as pb_endpoint;
use protos::envoy::envoy::config::listener::v3 as pb_listener;
use protos::envoy::envoy::config::route::v3 as pb_route;
use translate::{ProxyNode, Wanted, World};

use crate::Error;

/// A proxy with the World that configures it.
pub struct Proxy<'w> {
    world: &'w World,
    /// Who it is.
    pub node: ProxyNode,
    /// Its listeners.
    pub listeners: Vec<Listener>,
}

impl<'w> Proxy<'w> {
    /// Translates and reads the listeners; everything else is made when it is asked for.
    ///
    /// # Errors
    /// The proxy would refuse one of them.
    pub fn new(world: &'w World, node: ProxyNode) -> Result<Self, Error> {
        let listeners = all::<pb_listener::Listener, _>(world, &node, &Wanted::All, |message| {
            config::read_listener(message).map(|read| read.value)
        })?;
        Ok(Self { world, node, listeners })
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
            RouteSource::Rds { name } => self.one::<pb_route::RouteConfiguration, _>(name, |message| {
                config::read_route_configuration(message).map(|read| Arc::new(read.value))
            }),
        }
    }

    /// A cluster.
    ///
    /// # Errors
    /// The proxy would refuse it.
    pub fn cluster(&self, name: &str) -> Result<Option<Cluster>, Error> {
        self.one::<pb_cluster::Cluster, _>(name, |message| {
            config::read_cluster(message).map(|read| read.value)
        })
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
            Discovery::Eds { service_name } => self
                .one::<pb_endpoint::ClusterLoadAssignment, _>(service_name, |message| {
                    config::read_load_assignment(message).map(|read| Arc::new(read.value))
                }),
            Discovery::OriginalDestination => Ok(None),
        }
    }

    fn one<M, T>(&self, name: &str, read: impl Fn(&M) -> Result<T, Refused>) -> Result<Option<T>, Error>
    where
        M: Message + Default + Name,
    {
        let names = BTreeSet::from([name.to_owned()]);
        Ok(all(self.world, &self.node, &Wanted::Names(&names), read)?.into_iter().next())
    }
}

fn all<M, T>(
    world: &World,
    node: &ProxyNode,
    wanted: &Wanted<'_>,
    read: impl Fn(&M) -> Result<T, Refused>,
) -> Result<Vec<T>, Error>
where
    M: Message + Default + Name,
{
    let type_url = format!("{}{}", protos::any::TYPE_PREFIX, M::full_name());
    let translated = translate::translate(world, node, &type_url, wanted);
    let decode = |name: &str, any: &Any| -> Result<T, Error> {
        let message = M::decode(any.value.as_slice())?;
        read(&message)
            .map_err(|refused| format!("{} {name}: the proxy would refuse it: {refused}", M::NAME).into())
    };
    translated.resources.iter().map(|it| decode(&it.name, &it.any)).collect()
}
