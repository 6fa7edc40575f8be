//! PeerAuthentications: what a user must be told. The precedence is in [`crate::merge::mutual_tls_mode`].

use api::Resource;
use api::kinds::peer_authentication::PeerAuthentication;

use crate::merge;
use crate::note::{About, Note};
use crate::world::World;

/// What a user must be told about a PeerAuthentication.
pub fn verdict(world: &World, policy: &Resource<PeerAuthentication>, notes: &mut Vec<Note>) {
    let mut about = About::new("PeerAuthentication", &policy.meta.namespace, &policy.meta.name, notes);
    let selector = policy.spec.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
    if selector.is_some() && policy.meta.namespace == world.mesh().root_namespace() {
        let reason =
            "a policy with a selector in the root namespace has no effect; put it beside its workload";
        about.warning("spec.selector", reason);
    }
    if selector.is_none() && !policy.spec.port_level_mtls.is_empty() {
        about.warning("spec.portLevelMtls", "it needs a selector and has no effect without one");
    }
    let Some(objects) = world.namespace(&policy.meta.namespace) else { return };
    let same_level = |other: &Resource<PeerAuthentication>| {
        let other = other.spec.selector.as_ref().filter(|selector| !selector.match_labels.is_empty());
        other == selector
    };
    let oldest = objects
        .peer_authentications
        .values()
        .filter(|other| same_level(other))
        .min_by(|a, b| merge::age(&a.meta).cmp(&merge::age(&b.meta)));
    if let Some(oldest) = oldest.filter(|oldest| oldest.meta.name != policy.meta.name) {
        let reason = format!("PeerAuthentication {} comes first and counts alone", oldest.meta.name);
        about.warning("spec", reason);
    }
}
