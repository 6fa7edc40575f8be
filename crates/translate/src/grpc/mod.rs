//! What a gRPC library that is its own data plane (`xds:///`, gRFC A27) is sent: Istio's names, and only what gRPC
//! understands. What a user wrote and gRPC cannot do is said in a note, never sent as if it acted.

use std::sync::Arc;

use api::Resource;
use api::kinds::service::{Service, ServicePort};
use prost::Name;
use protos::envoy::envoy::config::cluster::v3::Cluster;
use protos::envoy::envoy::config::endpoint::v3::ClusterLoadAssignment;
use protos::envoy::envoy::config::listener::v3::Listener;
use protos::envoy::envoy::config::route::v3::RouteConfiguration;

use crate::kinds::service;
use crate::note::About;
use crate::scope::Scope;
use crate::{Named, Wanted, canonical, host};

pub mod cluster;
pub mod listener;
pub mod load_assignment;
pub mod route;
pub mod route_configuration;
pub mod tls;

/// The resources of one type; `None` for a type that is not served.
pub fn resources(
    scope: &Scope<'_>,
    type_name: &str,
    wanted: &Wanted<'_>,
    about: &mut About<'_>,
) -> Option<Vec<Named>> {
    let names: Option<Vec<&str>> = match wanted {
        Wanted::All => None,
        Wanted::Names(names) => Some(names.iter().map(String::as_str).collect()),
    };
    let resources = if type_name == Listener::full_name() {
        let named = |it: Listener| Named::new(it.name.clone(), protos::any::pack(&it));
        let found = match names {
            None => listener::all(scope, about),
            Some(names) => names.into_iter().filter_map(|it| listener::by_name(scope, it, about)).collect(),
        };
        found.into_iter().map(named).collect()
    } else if type_name == RouteConfiguration::full_name() {
        let named = |it: RouteConfiguration| Named::new(it.name.clone(), canonical::pack(&it));
        let found = match names {
            None => route_configuration::all(scope, about),
            Some(names) => {
                names.into_iter().filter_map(|it| route_configuration::by_name(scope, it, about)).collect()
            }
        };
        found.into_iter().map(named).collect()
    } else if type_name == Cluster::full_name() {
        let named = |it: Cluster| Named::new(it.name.clone(), canonical::pack(&it));
        let found = match names {
            None => cluster::all(scope, about),
            Some(names) => names.into_iter().filter_map(|it| cluster::by_name(scope, it, about)).collect(),
        };
        found.into_iter().map(named).collect()
    } else if type_name == ClusterLoadAssignment::full_name() {
        let named = |it: ClusterLoadAssignment| Named::new(it.cluster_name.clone(), canonical::pack(&it));
        let found = match names {
            None => load_assignment::all(scope),
            Some(names) => names.into_iter().filter_map(|it| load_assignment::by_name(scope, it)).collect(),
        };
        found.into_iter().map(named).collect()
    } else {
        return None;
    };
    Some(resources)
}

/// The Service port that `host:port` means to this client: the host in full, or as short as its namespace allows.
fn target<'w>(scope: &Scope<'w>, name: &str) -> Option<(&'w Arc<Resource<Service>>, &'w ServicePort)> {
    let (written, number) = name.rsplit_once(':')?;
    let number = number.parse().ok()?;
    let host = match written.split('.').count() {
        1 => host::expand(written, scope.namespace()),
        2 => format!("{written}.svc.{}", host::DOMAIN),
        3 if written.ends_with(".svc") => format!("{written}.{}", host::DOMAIN),
        _ => written.to_owned(),
    };
    let service = scope.service(&host)?;
    let port = service::port(&service.spec, number)?;
    service::protocol(port).is_http().then_some((service, port))
}

/// Every Service port that this client may call.
fn targets<'w>(scope: &Scope<'w>) -> impl Iterator<Item = (&'w Arc<Resource<Service>>, &'w ServicePort)> {
    let ports =
        |service: &'w Arc<Resource<Service>>| service.spec.ports.iter().map(move |port| (service, port));
    scope.services().flat_map(ports).filter(|(_, port)| service::protocol(port).is_http())
}

#[cfg(test)]
mod tests;
