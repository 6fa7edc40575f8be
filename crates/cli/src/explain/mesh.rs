//! The mesh that a request is explained in: a directory, or what runs.

use std::net::IpAddr;
use std::rc::Rc;

use config::model::RbacRules;

use super::proxy::Proxy;
use super::source::Source;
use crate::Error;

/// A service and port that is called.
#[derive(Debug, Clone)]
pub struct Called {
    /// Full host name.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Addresses of the Service.
    pub addresses: Vec<IpAddr>,
}

/// What an explanation asks of a mesh.
pub trait Mesh<'w> {
    /// The proxy of the workload that a user names.
    ///
    /// # Errors
    /// There is none or more than one of that name, or its configuration is one that it would refuse.
    fn caller(&self, named: &str) -> Result<Rc<Proxy<'w>>, Error>;
    /// The Service that `NAME[:PORT]` means for callers of a namespace.
    ///
    /// # Errors
    /// There is no such Service, or its port has to be said.
    fn called(&self, named: &str, caller: &Proxy<'_>) -> Result<Called, Error>;
    /// The proxy of the workload at an address; `None`: no workload of the mesh has it.
    ///
    /// # Errors
    /// Its configuration is one that it would refuse.
    fn proxy_at(&self, address: IpAddr) -> Result<Option<Rc<Proxy<'w>>>, Error>;
    /// Where a resource was written.
    fn place(&self, origin: &str) -> Source;
    /// The DestinationRules that made a cluster what it is, as far as it is known.
    fn destination_rules(&self, proxy: &Proxy<'_>, cluster: &str) -> Vec<Source>;
    /// The policies that might have allowed what none of them allowed.
    fn candidates(&self, proxy: &Proxy<'_>, rules: &RbacRules) -> Vec<Source>;
}
