//! Route configurations: one per Service port, with one virtual host.

use protos::envoy::envoy::config::route::v3::RouteConfiguration;

use super::{route, targets};
use crate::kinds::service;
use crate::names;
use crate::note::About;
use crate::scope::Scope;
use crate::xds::route_configuration::service_host;

/// Those of every Service port that the client may call.
pub fn all(scope: &Scope<'_>, about: &mut About<'_>) -> Vec<RouteConfiguration> {
    let name = |(it, port): (&std::sync::Arc<_>, &api::kinds::service::ServicePort)| {
        names::outbound_cluster(u32::from(port.port), "", &service::fqdn(it))
    };
    let names: Vec<String> = targets(scope).map(name).collect();
    names.iter().filter_map(|name| by_name(scope, name, about)).collect()
}

/// The one with this name (`outbound|8080||host`), if the client may call it.
pub fn by_name(scope: &Scope<'_>, name: &str, about: &mut About<'_>) -> Option<RouteConfiguration> {
    let (number, "", host) = names::parse_outbound_cluster(name)? else { return None };
    let it = scope.service(host)?;
    let port = service::port(&it.spec, number).filter(|port| service::protocol(port).is_http())?;
    let mut host = service_host(scope, it, port.port)?;
    host.include_request_attempt_count = false;
    host.routes = host.routes.into_iter().filter_map(|it| route::adapt(it, name, about)).collect();
    Some(RouteConfiguration { name: name.to_owned(), virtual_hosts: vec![host], ..Default::default() })
}
