//! From the users' resources to Envoy's: the [`World`] (everything at one moment, immutable and indexed) and
//! [`translate()`], a pure function of World, proxy, type and names.
//!
//! One file per Istio kind (`kinds/`), one per xDS type (`xds/`), every rule of precedence and merging in `merge`.
//! Pure: no IO, no clock, no tokio, no global state.

use std::collections::BTreeSet;

use api::kinds::mesh_config::OutboundTrafficPolicyMode;
use prost::Name;
use protos::Any;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;

pub mod canonical;
pub mod grpc;
pub mod host;
pub mod kinds;
pub mod last_good;
pub mod limits;
pub mod merge;
pub mod names;
pub mod node;
pub mod note;
pub mod scope;
pub mod source;
pub mod summary;
#[cfg(test)]
mod testing;
pub mod values;
pub mod world;
pub mod xds;

pub use node::{Flavour, Interception, NodeError, ProxyNode};
pub use note::{About, Note, Severity};
pub use scope::Scope;
pub use world::{Change, World};

/// Which resources of a type are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// All that the proxy should have.
    All,
    /// Those with these names; a name that does not exist is simply absent from the answer.
    Names(&'a BTreeSet<String>),
}

impl Wanted<'_> {
    fn includes(&self, name: &str) -> bool {
        match self {
            Wanted::All => true,
            Wanted::Names(names) => names.contains(name),
        }
    }
}

/// One xDS resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its content.
    pub any: Any,
    /// Hash of its content: equal content has an equal version in every process.
    pub version: String,
}

impl Named {
    pub(crate) fn new(name: String, any: Any) -> Self {
        let version = canonical::version(&any);
        Named { name, any, version }
    }
}

/// The answer of [`translate()`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Translated {
    /// The resources, in a stable order.
    pub resources: Vec<Named>,
    /// What is worth saying about this proxy; [`World::notes`] has what concerns resources of users.
    pub notes: Vec<Note>,
}

/// The xDS resources of one type for one proxy. Secrets are answered inside the proxy and never made here; a type that
/// is not known has no resources and a note.
pub fn translate(world: &World, node: &ProxyNode, type_url: &str, wanted: &Wanted<'_>) -> Translated {
    let scope = Scope::new(world, node);
    let mut notes = Vec::new();
    let mut about = About::new("Proxy", &node.namespace, &node.workload, &mut notes);
    let resources = match type_url.strip_prefix(protos::any::TYPE_PREFIX) {
        Some(name) if node.flavour == Flavour::Grpc => grpc::resources(&scope, name, wanted, &mut about),
        Some(name) if name == Listener::full_name() => Some(listeners(&scope, wanted, &mut about)),
        Some(name) if name == RouteConfiguration::full_name() => Some(routes(&scope, wanted, &mut about)),
        Some(name) if name == Cluster::full_name() => Some(clusters(&scope, wanted)),
        Some(name) if name == ClusterLoadAssignment::full_name() => Some(assignments(&scope, wanted)),
        _ => None,
    };
    let resources = resources.unwrap_or_else(|| {
        about.info("type_url", format!("{type_url} is not served"));
        Vec::new()
    });
    Translated { resources, notes }
}

fn listeners(scope: &Scope<'_>, wanted: &Wanted<'_>, about: &mut About<'_>) -> Vec<Named> {
    let all = xds::listener::listeners(scope, about).into_iter();
    let some = all.filter(|listener| wanted.includes(&listener.name));
    // A listener holds its maps inside packed messages, which are sorted already.
    some.map(|listener| Named::new(listener.name.clone(), protos::any::pack(&listener))).collect()
}

fn routes(scope: &Scope<'_>, wanted: &Wanted<'_>, about: &mut About<'_>) -> Vec<Named> {
    if scope.world.mesh().outbound_traffic_policy_mode() != OutboundTrafficPolicyMode::RegistryOnly {
        let reason = "without redirected traffic there is no original destination to pass calls to unknown hosts to: \
                      they are answered 502, as with REGISTRY_ONLY";
        about.info("meshConfig.outboundTrafficPolicy.mode", reason);
    }
    let all;
    let names = match wanted {
        Wanted::Names(names) => *names,
        Wanted::All => {
            all = xds::route_configuration::names(scope);
            &all
        }
    };
    let routes = names.iter().filter_map(|name| xds::route_configuration::outbound(scope, name));
    routes.map(|it| Named::new(it.name.clone(), canonical::pack(&it))).collect()
}

fn clusters(scope: &Scope<'_>, wanted: &Wanted<'_>) -> Vec<Named> {
    let clusters = match wanted {
        Wanted::All => xds::cluster::clusters(scope),
        Wanted::Names(names) => names.iter().filter_map(|name| xds::cluster::by_name(scope, name)).collect(),
    };
    clusters.into_iter().map(|it| Named::new(it.name.clone(), canonical::pack(&it))).collect()
}

fn assignments(scope: &Scope<'_>, wanted: &Wanted<'_>) -> Vec<Named> {
    let made = |name: &String| {
        let assignment = xds::load_assignment::by_name(scope, name)?;
        Some(Named::new(name.clone(), canonical::pack(&assignment)))
    };
    match wanted {
        Wanted::All => xds::load_assignment::names(scope).iter().filter_map(made).collect(),
        Wanted::Names(names) => names.iter().filter_map(made).collect(),
    }
}
