//! A mesh that runs: what its proxies have, asked through `tulled`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use config::model::{Cluster, Listener, LoadAssignment, RbacRules, RouteConfiguration};
use prost::{Message, Name};
use protos::envoy::envoy::config::cluster::v3 as pb_cluster;
use protos::envoy::envoy::config::endpoint::v3 as pb_endpoint;
use protos::envoy::envoy::config::listener::v3 as pb_listener;
use protos::envoy::envoy::config::route::v3 as pb_route;
use protos::json::Pool;
use serde_json::Value;
use translate::host;

use super::mesh::{Called, Mesh};
use super::proxy::{Proxy, Resources, Who};
use super::source::Source;
use crate::control::{self, Address};
use crate::proxy::page;
use crate::{Error, output};

/// The mesh of a running `tulled`. Proxies that were asked once are kept.
pub struct Live {
    control: Address,
    pool: Pool,
    connected: Vec<Who>,
    proxies: RefCell<BTreeMap<String, Rc<Proxy<'static>>>>,
}

impl Live {
    /// Asks which proxies there are.
    ///
    /// # Errors
    /// `tulled` cannot be asked.
    pub fn new(control: Address) -> Result<Live, Error> {
        let all = control::ask(control, "/debug/connections")?;
        let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let ours = all.as_array().into_iter().flatten().filter(|it| it["program"] == "tulle-proxy");
        let connected = ours.map(|it| Who {
            namespace: text(it, "namespace"),
            workload: text(it, "workload"),
            identity: it["identity"].as_str().map(str::to_owned),
            // `sidecar~ADDRESS~NAME.NAMESPACE~DOMAIN`
            addresses: text(it, "node")
                .split('~')
                .nth(1)
                .and_then(|it| it.parse().ok())
                .into_iter()
                .collect(),
        });
        Ok(Live { control, pool: Pool::load()?, connected: connected.collect(), proxies: RefCell::default() })
    }

    fn proxy(&self, who: &Who) -> Result<Rc<Proxy<'static>>, Error> {
        let name = who.name();
        if let Some(known) = self.proxies.borrow().get(&name) {
            return Ok(known.clone());
        }
        let dump = page(self.control, &name, "config_dump")?;
        let hosts = page(self.control, &name, "clusters")?;
        let proxy =
            Rc::new(Proxy::new(who.clone(), Box::new(Dumped { pool: self.pool.clone(), dump, hosts }))?);
        self.proxies.borrow_mut().insert(name, proxy.clone());
        Ok(proxy)
    }
}

impl Mesh<'static> for Live {
    fn caller(&self, named: &str) -> Result<Rc<Proxy<'static>>, Error> {
        let found: Vec<&Who> =
            self.connected.iter().filter(|who| who.workload == named || who.name() == named).collect();
        match found.as_slice() {
            [one] => self.proxy(one),
            [] => {
                let names: Vec<String> = self.connected.iter().map(Who::name).collect();
                let near = output::nearest(named, names.iter().map(String::as_str));
                Err(format!("no tulle-proxy of {named} is connected{near}").into())
            }
            several => {
                let names: Vec<String> = several.iter().map(|who| who.name()).collect();
                Err(format!("{named} may be any of {}: say which", names.join(", ")).into())
            }
        }
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
        // Every destination of the mesh has a cluster `outbound|PORT|SUBSET|HOST` in the caller's proxy.
        let hosts = caller.cluster_names();
        let mine = |it: &&String| it.rsplit('|').next() == Some(full.as_str());
        let ports: BTreeSet<u16> =
            hosts.iter().filter(mine).filter_map(|it| it.split('|').nth(1)?.parse().ok()).collect();
        if ports.is_empty() {
            let known: BTreeSet<&str> = hosts.iter().filter_map(|it| it.rsplit('|').next()).collect();
            let near = output::nearest(&full, known.into_iter().filter(|it| !it.is_empty()));
            return Err(format!("{}'s proxy knows no Service {full}{near}", caller.who.name()).into());
        }
        let port = match port {
            Some(port) if ports.contains(&port) => port,
            None if ports.len() == 1 => ports.first().copied().unwrap_or_default(),
            _ => {
                return Err(
                    format!("say which port of {full} is called (HOST:PORT): it has {ports:?}").into()
                );
            }
        };
        // Whether it has an address of its own, a host's listener does not say: the routes do.
        Ok(Called { host: full, port, addresses: Vec::new() })
    }

    fn proxy_at(&self, address: IpAddr) -> Result<Option<Rc<Proxy<'static>>>, Error> {
        let who = self.connected.iter().find(|who| who.addresses.contains(&address));
        who.map(|who| self.proxy(who)).transpose()
    }

    fn place(&self, origin: &str) -> Source {
        Source { resource: origin.to_owned(), place: String::new() }
    }

    fn destination_rules(&self, _: &Proxy<'_>, _: &str) -> Vec<Source> {
        Vec::new()
    }

    fn candidates(&self, _: &Proxy<'_>, rules: &RbacRules) -> Vec<Source> {
        let mut names: Vec<String> =
            rules.policies.iter().filter_map(|policy| translate::source::policy(&policy.name)).collect();
        names.sort();
        names.dedup();
        names.iter().map(|name| self.place(name)).collect()
    }
}

/// A proxy's own pages.
struct Dumped {
    pool: Pool,
    dump: Value,
    hosts: Value,
}

impl Dumped {
    /// The messages of a part of the dump.
    fn messages<M>(&self, part: &str, field: &str) -> Result<Vec<M>, Error>
    where
        M: Message + Name + Default,
    {
        let is = |it: &&Value| it["@type"].as_str().is_some_and(|name| name.ends_with(part));
        let part = self.dump["configs"].as_array().into_iter().flatten().find(is);
        let entries = part.into_iter().flat_map(|it| it.as_object().into_iter().flatten());
        let entries = entries.filter_map(|(_, list)| list.as_array()).flatten();
        let messages = entries.filter_map(|entry| {
            let entry = if entry["active_state"].is_object() { &entry["active_state"] } else { entry };
            entry[field].as_object().cloned()
        });
        let read = messages.map(|mut message| {
            message.remove("@type");
            Ok(self.pool.from_json::<M>(&Value::Object(message).to_string())?)
        });
        read.collect()
    }
}

fn refused(error: &config::Refused) -> Error {
    format!("the proxy has what this program does not read: {error}; is it as new as the proxy?").into()
}

impl Resources for Dumped {
    fn listeners(&self) -> Result<Vec<Listener>, Error> {
        let all: Vec<pb_listener::Listener> = self.messages("ListenersConfigDump", "listener")?;
        all.iter()
            .map(|it| config::read_listener(it).map(|read| read.value).map_err(|it| refused(&it)))
            .collect()
    }

    fn routes(&self, name: &str) -> Result<Option<RouteConfiguration>, Error> {
        let all: Vec<pb_route::RouteConfiguration> = self.messages("RoutesConfigDump", "route_config")?;
        let found = all.iter().find(|it| it.name == name);
        found
            .map(|it| config::read_route_configuration(it).map(|it| it.value).map_err(|it| refused(&it)))
            .transpose()
    }

    fn cluster(&self, name: &str) -> Result<Option<Cluster>, Error> {
        let all: Vec<pb_cluster::Cluster> = self.messages("ClustersConfigDump", "cluster")?;
        let found = all.iter().find(|it| it.name == name);
        found.map(|it| config::read_cluster(it).map(|it| it.value).map_err(|it| refused(&it))).transpose()
    }

    fn endpoints(&self, name: &str) -> Result<Option<LoadAssignment>, Error> {
        let all: Vec<pb_endpoint::ClusterLoadAssignment> =
            self.messages("EndpointsConfigDump", "endpoint_config")?;
        let found = all.iter().find(|it| it.cluster_name == name);
        found
            .map(|it| config::read_load_assignment(it).map(|it| it.value).map_err(|it| refused(&it)))
            .transpose()
    }

    fn health(&self, cluster: &str, address: SocketAddr) -> String {
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let all = list(&self.hosts, "cluster_statuses");
        let Some(found) = all.iter().find(|it| it["name"] == cluster) else {
            return "the proxy does not use the cluster".to_owned();
        };
        let at = |it: &&Value| {
            let socket = &it["address"]["socket_address"];
            socket["address"].as_str() == Some(address.ip().to_string().as_str())
                && socket["port_value"].as_u64() == Some(u64::from(address.port()))
        };
        let hosts = list(found, "host_statuses");
        let Some(host) = hosts.iter().find(at) else { return "the proxy does not have it".to_owned() };
        if host["health_status"]["failed_outlier_check"] == true {
            "ejected".to_owned()
        } else {
            "healthy".to_owned()
        }
    }

    fn cluster_names(&self) -> Vec<String> {
        let all = self.hosts["cluster_statuses"].as_array().into_iter().flatten();
        all.filter_map(|it| it["name"].as_str())
            .filter(|it| it.starts_with("outbound|"))
            .map(str::to_owned)
            .collect()
    }
}
