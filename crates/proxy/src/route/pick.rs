//! The route of a request and the cluster of a route.

use std::sync::Arc;

use bytes::Bytes;
use config::model::{
    ClusterSpecifier, HeaderOperations, Route, RouteAction, RouteConfiguration, VirtualHost, WeightedCluster,
};
use decide::ChosenCluster;

use super::view::HeadView;
use crate::http::RequestHead;
use crate::telemetry::Random;

/// A route with the configuration it belongs to.
#[derive(Debug, Clone)]
pub struct Picked {
    /// The route.
    pub route: Arc<Route>,
    /// The cluster of a forwarding route; `None`: another action, or the header that should name it is missing.
    pub chosen: Option<ChosenCluster>,
    routes: Arc<RouteConfiguration>,
    host: usize,
}

impl Picked {
    /// The route of a request; `None`: no route matches.
    pub fn pick(routes: &Arc<RouteConfiguration>, head: &RequestHead, random: &Random) -> Option<Picked> {
        let (view, found) = (HeadView(head), decide::pick_route(routes, &HeadView(head), random.next())?);
        let chosen = match &found.route.action {
            RouteAction::Forward(forward) => decide::pick_cluster(forward, &view, random.next()),
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
        };
        Some(Picked { route: found.route.clone(), chosen, routes: routes.clone(), host: found.virtual_host })
    }

    /// The virtual host of the route.
    pub fn virtual_host(&self) -> Option<&VirtualHost> {
        self.routes.virtual_hosts.get(self.host)
    }

    /// Changes of the request's headers, in the order in which they are made.
    pub fn request_operations(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderOperations> {
        let host = self.virtual_host().map(|host| &host.request_headers);
        let cluster = self.weighted(weighted).map(|cluster| &cluster.request_headers);
        self.in_order([cluster, Some(&self.route.request_headers), host, Some(&self.routes.request_headers)])
    }

    /// Changes of the response's headers, in the order in which they are made.
    pub fn response_operations(&self, weighted: Option<usize>) -> impl Iterator<Item = &HeaderOperations> {
        let host = self.virtual_host().map(|host| &host.response_headers);
        let cluster = self.weighted(weighted).map(|cluster| &cluster.response_headers);
        self.in_order([
            cluster,
            Some(&self.route.response_headers),
            host,
            Some(&self.routes.response_headers),
        ])
    }

    /// From the specific to the general, so that the general wins; or the other way when the configuration says so.
    fn in_order<'a>(
        &self,
        mut levels: [Option<&'a HeaderOperations>; 4],
    ) -> impl Iterator<Item = &'a HeaderOperations> + use<'a> {
        if self.routes.most_specific_header_mutations_wins {
            levels.reverse();
        }
        levels.into_iter().flatten()
    }

    /// The host that requests to a weighted cluster get.
    pub fn weighted_host_rewrite(&self, weighted: Option<usize>) -> Option<Bytes> {
        let host = self.weighted(weighted)?.host_rewrite.as_deref()?;
        Some(Bytes::copy_from_slice(host.as_bytes()))
    }

    fn weighted(&self, position: Option<usize>) -> Option<&WeightedCluster> {
        match &self.route.action {
            RouteAction::Forward(forward) => match &forward.cluster {
                ClusterSpecifier::Weighted(weighted) => weighted.clusters.get(position?),
                _ => None,
            },
            _ => None,
        }
    }
}
