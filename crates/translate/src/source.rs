//! From a thing of the configuration back to the file and line where its author wrote it.

use std::sync::Arc;

use api::{Origin, Resource};

use crate::world::World;

/// The origin of `kind/namespace/name`; of a VirtualService the version that serves.
pub fn origin<'w>(world: &'w World, resource: &str) -> Option<&'w Origin> {
    fn of<S>(found: Option<&Arc<Resource<S>>>) -> Option<&Origin> {
        found.map(|it| &it.origin)
    }
    let mut parts = resource.split('/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    let objects = world.namespace(namespace)?;
    match kind {
        "VirtualService" => of(world.serving(namespace, name)),
        "Service" => of(objects.services.get(name)),
        "DestinationRule" => of(objects.destination_rules.get(name)),
        "WorkloadEntry" => of(objects.workload_entries.get(name)),
        "PeerAuthentication" => of(objects.peer_authentications.get(name)),
        "AuthorizationPolicy" => of(objects.authorization_policies.get(name)),
        "Telemetry" => of(objects.telemetries.get(name)),
        _ => None,
    }
}

/// `file:line` of `kind/namespace/name#http[1]`, the form in which xDS carries it; empty when nobody wrote it.
pub fn place(world: &World, reference: &str) -> String {
    let (resource, part) = reference.split_once('#').unwrap_or((reference, ""));
    let field = if part.is_empty() { "spec".to_owned() } else { format!("spec.{part}") };
    origin(world, resource).map(|origin| origin.place(&field)).unwrap_or_default()
}

/// `AuthorizationPolicy/a/b#rules[0]` behind a policy's name in the configuration, `ns[a]-policy[b]-rule[0]`; `None`
/// for any other name.
pub fn policy(name: &str) -> Option<String> {
    let (namespace, rest) = name.strip_prefix("ns[")?.split_once("]-policy[")?;
    let (policy, rest) = rest.split_once("]-rule[")?;
    let rule: usize = rest.strip_suffix(']')?.parse().ok()?;
    Some(format!("AuthorizationPolicy/{namespace}/{policy}#rules[{rule}]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MESH, apply, world};

    #[test]
    fn from_names_in_the_configuration_to_lines() {
        let policy_yaml = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: callers}\nspec:\n  rules:\n  - {}\n  - to: [{operation: {methods: [GET]}}]\n";
        let world = world(&[MESH]).with(&apply(policy_yaml));
        let reference = policy("ns[production]-policy[callers]-rule[1]").unwrap();
        assert_eq!(reference, "AuthorizationPolicy/production/callers#rules[1]");
        let found = place(&world, &reference);
        assert!(found.ends_with(":7"), "{found}");
        assert_eq!(place(&world, "AuthorizationPolicy/production/gone#rules[0]"), "");
        for other in ["mine", "ns[a]-policy[b]-rule[x]", "ns[a]-policy[b]"] {
            assert_eq!(policy(other), None, "{other}");
        }
    }
}
