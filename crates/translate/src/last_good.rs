//! A route never points at nothing: what serves while the written version names something that is not there.
//!
//! Two rules. A new version of a VirtualService takes effect only when every destination it names is there; until then
//! the version before it serves. A subset that disappears from its DestinationRule while a route that serves still
//! names it stays as it was last. What never was whole is served as written; its missing destinations answer 503.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Resource;
use api::kinds::destination_rule::Subset;
use api::kinds::virtual_service::{Destination, VirtualService};

use crate::host;
use crate::merge::{self, Labels};
use crate::note::{About, Note};
use crate::world::World;

/// Namespace and name.
type Name = (String, String);

/// What is in effect.
#[derive(Debug, Clone, Default)]
pub struct LastGood {
    /// The VirtualServices in effect.
    pub serving: BTreeMap<Name, Arc<Resource<VirtualService>>>,
    /// VirtualServices of which a version was whole once.
    whole: BTreeMap<Name, ()>,
    /// Subsets by full host that no DestinationRule has any more and a route still names.
    retained: BTreeMap<String, Vec<Subset>>,
    /// What users must be told about it.
    pub notes: Vec<Note>,
}

impl LastGood {
    /// Subsets of a host that are kept because a route still names them.
    pub fn retained(&self, host: &str) -> &[Subset] {
        self.retained.get(host).map_or(&[], Vec::as_slice)
    }
}

/// A destination that is not there.
struct Missing<'a> {
    /// Path of the field that names it.
    field: String,
    /// The destination.
    destination: &'a Destination,
    /// Full name of its host.
    host: String,
    /// What is missing, in words.
    what: String,
}

/// Decides what is in effect in `next`, whose indexes of DestinationRules are up to date; `previous` is the World
/// before it.
pub fn settle(previous: &World, next: &World) -> LastGood {
    let mut settled = LastGood::default();
    for (_, objects) in next.namespaces() {
        for written in objects.virtual_services.values() {
            settle_one(previous, next, written, &mut settled);
        }
    }
    settled
}

fn settle_one(
    previous: &World,
    next: &World,
    written: &Arc<Resource<VirtualService>>,
    settled: &mut LastGood,
) {
    let name = (written.meta.namespace.clone(), written.meta.name.clone());
    let before = previous.last_good();
    let good = before.whole.get(&name).and_then(|()| before.serving.get(&name));
    let missing = missing(next, written);
    let unchanged = good.is_some_and(|good| good.same_content(written));
    let mut about =
        About::new("VirtualService", &written.meta.namespace, &written.meta.name, &mut settled.notes);
    let serving = match good {
        Some(good) if !missing.is_empty() && !unchanged => {
            for it in &missing {
                about.warning(
                    &it.field,
                    format!("{}; the last good version keeps serving meanwhile", it.what),
                );
            }
            good
        }
        _ => written,
    };
    let whole = missing.is_empty() || good.is_some();
    if whole {
        settled.whole.insert(name.clone(), ());
    }
    settled.serving.insert(name, serving.clone());
    let written_serves = serving.same_content(written);
    for mut it in self::missing(next, serving) {
        let subset = &it.destination.subset;
        let kept = whole.then(|| last_subset(previous, &serving.meta.namespace, &it.host, subset)).flatten();
        if !written_serves {
            // The path leads into a version that is no longer written anywhere.
            it.what = format!("the last good version serves, and {}", it.what);
            it.field = "spec.http".to_owned();
        }
        let mut about =
            About::new("VirtualService", &written.meta.namespace, &written.meta.name, &mut settled.notes);
        match kept {
            Some(kept) => {
                about.warning(&it.field, format!("{}; the subset stays as it was last", it.what));
                let subsets = settled.retained.entry(it.host).or_default();
                if !subsets.iter().any(|known| known.name == kept.name) {
                    subsets.push(kept);
                }
            }
            None => about.warning(&it.field, format!("{}; calls sent there are answered 503", it.what)),
        }
    }
}

/// The subset as the previous World had it, with all that it inherited.
fn last_subset(previous: &World, client: &str, host: &str, name: &str) -> Option<Subset> {
    if name.is_empty() {
        return None;
    }
    let rule = merge::written_rule(previous, client, &Labels::new(), host);
    let written = rule.subset(name).map(|subset| merge::detached_subset(rule.traffic_policy, subset));
    written.or_else(|| previous.last_good().retained(host).iter().find(|subset| subset.name == name).cloned())
}

/// The destinations of a VirtualService that are not there, as its own namespace sees them.
fn missing<'a>(world: &World, route: &'a Resource<VirtualService>) -> Vec<Missing<'a>> {
    let namespace = route.meta.namespace.as_str();
    let mut found = Vec::new();
    for (i, rule) in route.spec.http.iter().enumerate() {
        for (j, entry) in rule.route.iter().enumerate() {
            let Some(destination) = &entry.destination else { continue };
            let base = format!("spec.http[{i}].route[{j}].destination");
            let host = host::expand(&destination.host, namespace);
            let mut push = |field: &str, what: String, host: &str| {
                found.push(Missing {
                    field: format!("{base}.{field}"),
                    destination,
                    host: host.to_owned(),
                    what,
                });
            };
            let Some(service) = world.service(&host) else {
                push("host", format!("no Service is named {host}"), &host);
                continue;
            };
            let port = destination.port.map(|selector| selector.number);
            if port.is_some_and(|port| !service.spec.ports.iter().any(|it| u32::from(it.port) == port)) {
                let port = port.unwrap_or_default();
                push("port.number", format!("Service {host} has no port {port}"), &host);
            }
            if destination.subset.is_empty() {
                continue;
            }
            let rule = merge::written_rule(world, namespace, &Labels::new(), &host);
            let selective = || merge::selective_rule_has(world, namespace, &host, &destination.subset);
            if rule.subset(&destination.subset).is_none() && !selective() {
                push("subset", unknown_subset(&rule, &destination.subset, &host), &host);
            }
        }
    }
    found
}

fn unknown_subset(rule: &merge::MergedRule<'_>, subset: &str, host: &str) -> String {
    let Some(first) = rule.rules.first() else {
        return format!("no DestinationRule defines subset \"{subset}\" of {host}");
    };
    let names: Vec<&str> = rule.subsets.iter().map(|subset| subset.name.as_str()).collect();
    let (namespace, name) = (&first.meta.namespace, &first.meta.name);
    format!(
        "DestinationRule {namespace}/{name} has no subset \"{subset}\" of {host} (it has: {})",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests;
