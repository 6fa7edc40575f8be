//! What the unit tests of this room share: Worlds from YAML, nodes, and short names of routes.

use std::collections::{BTreeMap, BTreeSet};

use api::{Key, Kind, MeshConfig, Object};
use protos::Message;
use protos::envoy::envoy::config::route::v3::{
    Route, RouteConfiguration, VirtualHost, route::Action, route_action,
};

use crate::node::{Flavour, Interception, ProxyNode};
use crate::world::{Change, World};
use crate::{Translated, Wanted, translate};

/// Services and workloads of a small mesh.
pub const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: payment}
spec:
  selector: {app: payment}
  clusterIP: 127.20.0.1
  ports: [{name: http, port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: frontend}
spec:
  selector: {app: frontend}
  clusterIP: 127.20.0.2
  ports: [{name: http, port: 8080, targetPort: 9090}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: payment-1}
spec: {address: 127.10.0.1, labels: {app: payment, version: stable}, serviceAccount: payment}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: payment-2}
spec: {address: 127.10.0.2, labels: {app: payment, version: canary}, serviceAccount: payment}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: frontend-1}
spec: {address: 127.10.0.3, labels: {app: frontend}, serviceAccount: frontend}
";

/// The resources of a YAML text; a missing namespace is `production`.
pub fn objects(yaml: &str) -> Vec<Object> {
    let parsed = api::parse("test.yaml", yaml.as_bytes(), "production");
    let errors: Vec<_> = parsed.problems.iter().filter(|problem| problem.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    assert!(!parsed.objects.is_empty(), "no resources in {yaml}");
    parsed.objects
}

/// The changes that apply a YAML text.
pub fn apply(yaml: &str) -> Vec<Change> {
    objects(yaml).into_iter().map(Change::Apply).collect()
}

/// The change that deletes a resource of namespace `production`.
pub fn delete(kind: Kind, name: &str) -> Change {
    Change::Delete(Key { kind, namespace: "production".to_owned(), name: name.to_owned() })
}

/// A World of these texts.
pub fn world(texts: &[&str]) -> World {
    let changes: Vec<Change> = texts.iter().flat_map(|yaml| apply(yaml)).collect();
    World::empty(MeshConfig::default()).with(&changes)
}

/// Labels from pairs.
pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A proxy with this address in this namespace.
pub fn node(address: &str, namespace: &str) -> ProxyNode {
    ProxyNode {
        id: format!("sidecar~{address}~test.{namespace}~{namespace}.svc.cluster.local"),
        namespace: namespace.to_owned(),
        workload: "test".to_owned(),
        service_account: "test".to_owned(),
        labels: BTreeMap::new(),
        addresses: vec![address.parse().unwrap()],
        interception: Interception::None,
        flavour: Flavour::Tulle,
        app_address: "127.0.0.1".parse().unwrap(),
        bind_vips: true,
        cluster_id: "Kubernetes".to_owned(),
        mesh_id: String::new(),
        service_cluster: "payment.production".to_owned(),
    }
}

/// The frontend's proxy.
pub fn frontend() -> ProxyNode {
    node("127.10.0.3", "production")
}

/// The resources of a type, decoded.
pub fn all<M: Message + prost::Name + Default>(world: &World, node: &ProxyNode) -> Vec<M> {
    decode(&translate(world, node, &protos::any::type_url::<M>(), &Wanted::All))
}

/// The resource with this name, decoded.
pub fn one<M: Message + prost::Name + Default>(world: &World, node: &ProxyNode, name: &str) -> Option<M> {
    let names = BTreeSet::from([name.to_owned()]);
    let translated = translate(world, node, &protos::any::type_url::<M>(), &Wanted::Names(&names));
    decode(&translated).pop()
}

fn decode<M: Message + prost::Name + Default>(translated: &Translated) -> Vec<M> {
    translated.resources.iter().map(|named| protos::any::open(&named.any).unwrap()).collect()
}

/// The virtual host that has a domain, of the routes for a port.
pub fn virtual_host(world: &World, node: &ProxyNode, routes: &str, domain: &str) -> Option<VirtualHost> {
    let routes: RouteConfiguration = one(world, node, routes).unwrap();
    routes.virtual_hosts.into_iter().find(|host| host.domains.iter().any(|it| it == domain))
}

/// The routes of a host on port 8080 as the frontend sees them.
pub fn routes_of(world: &World, host: &str) -> Vec<Route> {
    virtual_host(world, &frontend(), "8080", host).map(|host| host.routes).unwrap_or_default()
}

/// Where a route sends requests: its clusters with weights.
pub fn targets(route: &Route) -> Vec<(String, u32)> {
    match &route.action {
        Some(Action::Route(action)) => match &action.cluster_specifier {
            Some(route_action::ClusterSpecifier::Cluster(name)) => vec![(name.clone(), 100)],
            Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) => {
                let entry =
                    |it: &protos::envoy::envoy::config::route::v3::weighted_cluster::ClusterWeight| {
                        (it.name.clone(), it.weight.unwrap().value)
                    };
                weighted.clusters.iter().map(entry).collect()
            }
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// The user's resource that a route comes from.
pub fn route_origin(route: &Route) -> String {
    use protos::envoy::google::protobuf::value::Kind;
    let fields = &route.metadata.as_ref().unwrap().filter_metadata["tulle"].fields;
    match &fields["origin"].kind {
        Some(Kind::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

/// Notes about a kind, as `field: reason` lines.
pub fn notes(world: &World, kind: &str) -> Vec<String> {
    let notes = world.notes();
    notes
        .iter()
        .filter(|note| note.kind == kind)
        .map(|note| format!("{}: {}", note.field, note.reason))
        .collect()
}
