//! A mesh in a directory: what each proxy would have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use api::{Resource, WorkloadEntry};
use config::Refused;
use config::model::{Cluster, Listener, LoadAssignment, RbacRules, RouteConfiguration};
use prost::{Message, Name};
use protos::Any;
use protos::envoy::envoy::config::cluster::v3 as pb_cluster;
use protos::envoy::envoy::config::endpoint::v3 as pb_endpoint;
use protos::envoy::envoy::config::listener::v3 as pb_listener;
use protos::envoy::envoy::config::route::v3 as pb_route;
use translate::{ProxyNode, Scope, Wanted, World, host, merge, names};

use super::mesh::{Called, Mesh};
use super::proxy::{Proxy, Resources, Who};
use super::source::{self, Source};
use crate::{Error, output, workload};

/// A directory's mesh. Proxies that were asked once are kept.
pub struct Offline<'w> {
    world: &'w World,
    proxies: RefCell<BTreeMap<String, Rc<Proxy<'w>>>>,
}

impl<'w> Offline<'w> {
    /// The mesh that a World describes.
    pub fn new(world: &'w World) -> Self {
        Self { world, proxies: RefCell::default() }
    }

    fn proxy(&self, entry: &Resource<WorkloadEntry>) -> Result<Rc<Proxy<'w>>, Error> {
        let name = format!("{}/{}", entry.meta.namespace, entry.meta.name);
        if let Some(known) = self.proxies.borrow().get(&name) {
            return Ok(known.clone());
        }
        let node = workload::proxy(entry)?;
        let who = Who {
            namespace: node.namespace.clone(),
            workload: node.workload.clone(),
            identity: identity(self.world, &node),
            addresses: node.addresses.clone(),
        };
        let proxy = Rc::new(Proxy::new(who, Box::new(Translated { world: self.world, node }))?);
        self.proxies.borrow_mut().insert(name, proxy.clone());
        Ok(proxy)
    }

    fn entry(&self, proxy: &Proxy<'_>) -> Option<ProxyNode> {
        let entry = workload::find(self.world, &proxy.who.name()).ok()?;
        workload::proxy(entry).ok()
    }
}

/// The SPIFFE id that a proxy's certificate has.
fn identity(world: &World, node: &ProxyNode) -> Option<String> {
    let account = match node.service_account.as_str() {
        "" => "default",
        account => account,
    };
    let id = base::Spiffe::new(world.mesh().trust_domain(), &node.namespace, account).ok()?;
    Some(id.to_string())
}

impl<'w> Mesh<'w> for Offline<'w> {
    fn caller(&self, named: &str) -> Result<Rc<Proxy<'w>>, Error> {
        self.proxy(workload::find(self.world, named)?)
    }

    fn called(&self, named: &str, caller: &Proxy<'_>) -> Result<Called, Error> {
        let (name, port) = match named.rsplit_once(':') {
            Some((name, port)) => {
                (name, Some(port.parse::<u16>().map_err(|_| format!("{port} is no port"))?))
            }
            None => (named, None),
        };
        let full = match name.matches('.').count() {
            1 => format!("{name}.svc.{}", host::DOMAIN),
            _ => host::expand(name, &caller.who.namespace),
        };
        let Some(service) = self.world.service(&full) else {
            let known: Vec<String> =
                translate::summary::services(self.world).into_iter().map(|it| it.host).collect();
            let near = output::nearest(&full, known.iter().map(String::as_str));
            return Err(format!("no Service {full}{near}").into());
        };
        let ports: Vec<u16> = service.spec.ports.iter().map(|port| port.port).collect();
        let port = match (port, ports.as_slice()) {
            (Some(port), _) if ports.contains(&port) => port,
            (None, [only]) => *only,
            _ => {
                return Err(
                    format!("say which port of {full} is called (HOST:PORT): it has {ports:?}").into()
                );
            }
        };
        let addresses = service.spec.virtual_addresses().iter().filter_map(|it| it.parse().ok()).collect();
        Ok(Called { host: full, port, addresses })
    }

    fn proxy_at(&self, address: IpAddr) -> Result<Option<Rc<Proxy<'w>>>, Error> {
        workload::at(self.world, address).map(|entry| self.proxy(entry)).transpose()
    }

    fn place(&self, origin: &str) -> Source {
        source::of_origin(self.world, origin)
    }

    fn destination_rules(&self, proxy: &Proxy<'_>, cluster: &str) -> Vec<Source> {
        let Some(node) = self.entry(proxy) else { return Vec::new() };
        let scope = Scope::new(self.world, &node);
        let host = names::parse_outbound_cluster(cluster).map(|(_, _, host)| host.to_owned());
        let rules = host.map(|host| scope.destination_rule(&host).rules).unwrap_or_default();
        rules.into_iter().map(|rule| source::of_resource("DestinationRule", rule)).collect()
    }

    fn candidates(&self, proxy: &Proxy<'_>, _: &RbacRules) -> Vec<Source> {
        let Some(node) = self.entry(proxy) else { return Vec::new() };
        let scope = Scope::new(self.world, &node);
        merge::authorization_policies(self.world, scope.namespace(), &scope.labels)
            .into_iter()
            .map(|policy| source::of_resource("AuthorizationPolicy", policy))
            .collect()
    }
}

/// What the control plane would send.
struct Translated<'w> {
    world: &'w World,
    node: ProxyNode,
}

impl Resources for Translated<'_> {
    fn listeners(&self) -> Result<Vec<Listener>, Error> {
        self.all::<pb_listener::Listener, _>(&Wanted::All, |it| {
            config::read_listener(it).map(|read| read.value)
        })
    }

    fn routes(&self, name: &str) -> Result<Option<RouteConfiguration>, Error> {
        self.one::<pb_route::RouteConfiguration, _>(name, |message| {
            config::read_route_configuration(message).map(|read| read.value)
        })
    }

    fn cluster(&self, name: &str) -> Result<Option<Cluster>, Error> {
        self.one::<pb_cluster::Cluster, _>(name, |message| {
            config::read_cluster(message).map(|read| read.value)
        })
    }

    fn endpoints(&self, name: &str) -> Result<Option<LoadAssignment>, Error> {
        self.one::<pb_endpoint::ClusterLoadAssignment, _>(name, |message| {
            config::read_load_assignment(message).map(|read| read.value)
        })
    }

    fn health(&self, _: &str, _: SocketAddr) -> String {
        String::new()
    }
}

impl Translated<'_> {
    fn one<M, T>(&self, name: &str, read: impl Fn(&M) -> Result<T, Refused>) -> Result<Option<T>, Error>
    where
        M: Message + Default + Name,
    {
        let names = BTreeSet::from([name.to_owned()]);
        Ok(self.all(&Wanted::Names(&names), read)?.into_iter().next())
    }

    fn all<M, T>(&self, wanted: &Wanted<'_>, read: impl Fn(&M) -> Result<T, Refused>) -> Result<Vec<T>, Error>
    where
        M: Message + Default + Name,
    {
        let type_url = format!("{}{}", protos::any::TYPE_PREFIX, M::full_name());
        let translated = translate::translate(self.world, &self.node, &type_url, wanted);
        let decode = |name: &str, any: &Any| -> Result<T, Error> {
            let message = M::decode(any.value.as_slice())?;
            read(&message)
                .map_err(|refused| format!("{} {name}: the proxy would refuse it: {refused}", M::NAME).into())
        };
        translated.resources.iter().map(|it| decode(&it.name, &it.any)).collect()
    }
}
