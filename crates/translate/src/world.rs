//! The World: every resource of the mesh at one moment, immutable and indexed.
//!
//! A change makes a new World that shares all that did not change: objects are kept by namespace behind `Arc`s, and
//! only the touched namespaces are copied (a map of pointers each).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::kinds::authorization_policy::AuthorizationPolicy;
use api::kinds::destination_rule::DestinationRule;
use api::kinds::mesh_config::MeshConfig;
use api::kinds::namespace::Namespace;
use api::kinds::peer_authentication::PeerAuthentication;
use api::kinds::service::Service;
use api::kinds::telemetry::Telemetry;
use api::kinds::virtual_service::VirtualService;
use api::kinds::workload_entry::WorkloadEntry;
use api::{Key, Kind, Object, ObjectMeta, Resource};

use crate::host::{self, HostIndex};
use crate::last_good::{self, LastGood};
use crate::merge;
use crate::note::Note;

/// Resources of one kind in one namespace, by name.
pub type ByName<S> = BTreeMap<String, Arc<Resource<S>>>;

/// One step from a World to the next.
#[derive(Debug, Clone)]
pub enum Change {
    /// The resource is new or has a new content.
    Apply(Object),
    /// The resource is gone.
    Delete(Key),
    /// The mesh-wide configuration.
    Mesh(Arc<MeshConfig>),
}

/// The resources of one namespace.
#[derive(Debug, Clone, Default)]
pub struct NamespaceObjects {
    /// The Namespace itself, when there is one.
    pub namespace: Option<Arc<Resource<Namespace>>>,
    /// Services.
    pub services: ByName<Service>,
    /// Workload instances.
    pub workload_entries: ByName<WorkloadEntry>,
    /// VirtualServices as written; [`World::serving`] holds the ones in effect.
    pub virtual_services: ByName<VirtualService>,
    /// DestinationRules as written.
    pub destination_rules: ByName<DestinationRule>,
    /// PeerAuthentications.
    pub peer_authentications: ByName<PeerAuthentication>,
    /// AuthorizationPolicies.
    pub authorization_policies: ByName<AuthorizationPolicy>,
    /// Telemetries.
    pub telemetries: ByName<Telemetry>,
    /// DestinationRules by full host, each list the oldest first.
    pub rules_by_host: HostIndex<Arc<Resource<DestinationRule>>>,
}

impl NamespaceObjects {
    /// Whether nothing is left in it.
    pub fn is_empty(&self) -> bool {
        self.namespace.is_none()
            && self.services.is_empty()
            && self.workload_entries.is_empty()
            && self.virtual_services.is_empty()
            && self.destination_rules.is_empty()
            && self.peer_authentications.is_empty()
            && self.authorization_policies.is_empty()
            && self.telemetries.is_empty()
    }
}

/// Everything at one moment. Cloning copies a few pointers.
#[derive(Debug, Clone)]
pub struct World {
    mesh: Arc<MeshConfig>,
    namespaces: Arc<BTreeMap<String, Arc<NamespaceObjects>>>,
    last_good: Arc<LastGood>,
    routes: Arc<HostIndex<Arc<Resource<VirtualService>>>>,
}

/// What a set of changes touched.
#[derive(Debug, Default)]
struct Touched {
    /// Namespaces whose DestinationRules changed.
    rules: Vec<String>,
    /// Whether something changed on which routes and their references depend.
    references: bool,
}

impl World {
    /// A mesh without resources.
    pub fn empty(mesh: MeshConfig) -> World {
        World {
            mesh: Arc::new(mesh),
            namespaces: Arc::default(),
            last_good: Arc::default(),
            routes: Arc::default(),
        }
    }

    /// The World after `changes`, which count as one step: references are checked when all are applied.
    #[must_use]
    pub fn with(&self, changes: &[Change]) -> World {
        let mut next = self.clone();
        let mut touched = Touched::default();
        for change in changes {
            next.apply(change, &mut touched);
        }
        for namespace in &touched.rules {
            next.index_rules(namespace);
        }
        if touched.references {
            next.last_good = Arc::new(last_good::settle(self, &next));
            next.index_routes();
        }
        next
    }

    fn apply(&mut self, change: &Change, touched: &mut Touched) {
        match change {
            Change::Mesh(mesh) => {
                self.mesh = mesh.clone();
                touched.references = true;
            }
            Change::Apply(object) => {
                let key = object.key();
                touched.note(&key);
                let namespace = self.namespace_mut(&key);
                let name = key.name;
                match object {
                    Object::Namespace(it) => namespace.namespace = Some(it.clone()),
                    Object::Service(it) => drop(namespace.services.insert(name, it.clone())),
                    Object::WorkloadEntry(it) => drop(namespace.workload_entries.insert(name, it.clone())),
                    Object::VirtualService(it) => drop(namespace.virtual_services.insert(name, it.clone())),
                    Object::DestinationRule(it) => drop(namespace.destination_rules.insert(name, it.clone())),
                    Object::PeerAuthentication(it) => {
                        drop(namespace.peer_authentications.insert(name, it.clone()))
                    }
                    Object::AuthorizationPolicy(it) => {
                        drop(namespace.authorization_policies.insert(name, it.clone()));
                    }
                    Object::Telemetry(it) => drop(namespace.telemetries.insert(name, it.clone())),
                }
            }
            Change::Delete(key) => {
                touched.note(key);
                let namespace = self.namespace_mut(key);
                let name = key.name.as_str();
                match key.kind {
                    Kind::Namespace => namespace.namespace = None,
                    Kind::Service => drop(namespace.services.remove(name)),
                    Kind::WorkloadEntry => drop(namespace.workload_entries.remove(name)),
                    Kind::VirtualService => drop(namespace.virtual_services.remove(name)),
                    Kind::DestinationRule => drop(namespace.destination_rules.remove(name)),
                    Kind::PeerAuthentication => drop(namespace.peer_authentications.remove(name)),
                    Kind::AuthorizationPolicy => drop(namespace.authorization_policies.remove(name)),
                    Kind::Telemetry => drop(namespace.telemetries.remove(name)),
                }
                self.drop_if_empty(key);
            }
        }
    }

    fn namespace_mut(&mut self, key: &Key) -> &mut NamespaceObjects {
        let name = if key.kind == Kind::Namespace { &key.name } else { &key.namespace };
        Arc::make_mut(Arc::make_mut(&mut self.namespaces).entry(name.clone()).or_default())
    }

    fn drop_if_empty(&mut self, key: &Key) {
        let name = if key.kind == Kind::Namespace { &key.name } else { &key.namespace };
        if self.namespace(name).is_some_and(NamespaceObjects::is_empty) {
            Arc::make_mut(&mut self.namespaces).remove(name);
        }
    }

    fn index_rules(&mut self, namespace: &str) {
        let Some(objects) = Arc::make_mut(&mut self.namespaces).get_mut(namespace).map(Arc::make_mut) else {
            return;
        };
        let mut rules: Vec<&Arc<Resource<DestinationRule>>> = objects.destination_rules.values().collect();
        rules.sort_by(|a, b| merge::age(&a.meta).cmp(&merge::age(&b.meta)));
        let mut index = HostIndex::default();
        for rule in rules {
            index.insert(&host::expand(&rule.spec.host, namespace), rule.clone());
        }
        objects.rules_by_host = index;
    }

    fn index_routes(&mut self) {
        let mut routes: Vec<&Arc<Resource<VirtualService>>> = self.last_good.serving.values().collect();
        routes.sort_by(|a, b| merge::age(&a.meta).cmp(&merge::age(&b.meta)));
        let mut index = HostIndex::default();
        for route in routes {
            for name in &route.spec.hosts {
                index.insert(&host::expand(name, &route.meta.namespace), route.clone());
            }
        }
        self.routes = Arc::new(index);
    }

    /// The mesh-wide configuration.
    pub fn mesh(&self) -> &MeshConfig {
        &self.mesh
    }

    /// The resources of a namespace.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceObjects> {
        self.namespaces.get(name).map(Arc::as_ref)
    }

    /// Every namespace with its resources, by name.
    pub fn namespaces(&self) -> impl Iterator<Item = (&str, &NamespaceObjects)> {
        self.namespaces.iter().map(|(name, objects)| (name.as_str(), objects.as_ref()))
    }

    /// The Service with this full name.
    pub fn service(&self, fqdn: &str) -> Option<&Arc<Resource<Service>>> {
        let (name, namespace) = host::split_service_fqdn(fqdn)?;
        self.namespace(namespace)?.services.get(name)
    }

    /// Every Service, by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Resource<Service>>> {
        self.namespaces.values().flat_map(|objects| objects.services.values())
    }

    /// Every WorkloadEntry, by namespace and name.
    pub fn workload_entries(&self) -> impl Iterator<Item = &Arc<Resource<WorkloadEntry>>> {
        self.namespaces.values().flat_map(|objects| objects.workload_entries.values())
    }

    /// The VirtualServices in effect by full host, each list the oldest first.
    pub fn routes(&self) -> &HostIndex<Arc<Resource<VirtualService>>> {
        &self.routes
    }

    /// What serves in place of what is written and is not whole.
    pub fn last_good(&self) -> &LastGood {
        &self.last_good
    }

    /// The version of a VirtualService that is in effect.
    pub fn serving(&self, namespace: &str, name: &str) -> Option<&Arc<Resource<VirtualService>>> {
        self.last_good.serving.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Everything that users must be told about their resources, sorted. Each call computes it anew.
    pub fn notes(&self) -> Vec<Note> {
        let mut notes = self.last_good.notes.clone();
        crate::kinds::verdicts(self, &mut notes);
        notes.sort();
        notes.dedup();
        notes
    }
}

impl Touched {
    fn note(&mut self, key: &Key) {
        match key.kind {
            Kind::DestinationRule => {
                if !self.rules.contains(&key.namespace) {
                    self.rules.push(key.namespace.clone());
                }
                self.references = true;
            }
            Kind::VirtualService | Kind::Service => self.references = true,
            Kind::Namespace
            | Kind::WorkloadEntry
            | Kind::PeerAuthentication
            | Kind::AuthorizationPolicy
            | Kind::Telemetry => {}
        }
    }
}

/// `kind/namespace/name` of a resource, the form in which xDS carries where a thing comes from.
pub fn origin(kind: Kind, meta: &ObjectMeta) -> String {
    format!("{kind}/{}/{}", meta.namespace, meta.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MESH, apply, delete, world};

    #[test]
    fn deleting_everything_leaves_nothing() {
        let before = world(&[MESH]);
        let changes: Vec<Change> = before
            .services()
            .map(|it| delete(Kind::Service, &it.meta.name))
            .chain(before.workload_entries().map(|it| delete(Kind::WorkloadEntry, &it.meta.name)))
            .collect();
        let after = before.with(&changes);
        assert_eq!(after.namespaces().count(), 0);
        assert_eq!(before.services().count(), 2, "a World does not change");
    }

    #[test]
    fn what_a_change_does_not_touch_is_shared() {
        let before = world(&[MESH]);
        let other = MESH.replace("metadata: {", "metadata: {namespace: other, ");
        let after = before.with(&apply(&other));
        assert!(Arc::ptr_eq(&before.namespaces["production"], &after.namespaces["production"]));
        assert!(after.namespace("other").is_some() && before.namespace("other").is_none());
    }

    #[test]
    fn a_change_of_the_mesh_looks_at_references_again() {
        let rules = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                     metadata: {name: r, namespace: shared}\n\
                     spec: {host: payment.production.svc.cluster.local, subsets: [{name: v1, labels: {version: stable}}]}\n\
                     ---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
                     spec: {hosts: [payment], http: [{route: [{destination: {host: payment, subset: v1}}]}]}\n";
        let missing = |world: &World| !world.last_good().notes.is_empty();
        let before = world(&[MESH, rules]);
        assert!(missing(&before), "nobody asks the namespace `shared`");
        let root = MeshConfig { root_namespace: "shared".to_owned(), ..Default::default() };
        let after = before.with(&[Change::Mesh(Arc::new(root))]);
        assert!(!missing(&after), "{:?}", after.last_good().notes);
    }

    #[test]
    fn deleting_what_is_not_there_changes_nothing() {
        let before = world(&[MESH]);
        let after = before.with(&[delete(Kind::VirtualService, "x"), delete(Kind::DestinationRule, "x")]);
        assert_eq!(after.services().count(), 2);
        let empty = World::empty(MeshConfig::default()).with(&[delete(Kind::Service, "x")]);
        assert_eq!(empty.namespaces().count(), 0);
    }
}
