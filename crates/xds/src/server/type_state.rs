//! One resource type on one stream: what the client was told, what it must be told, and the response in flight.

use super::session::Reply;
use super::status::{Nack, TypeStatus};
use super::subscription::Subscription;
use super::{Answer, Wanted};
use crate::order::is_full_set;
use crate::resource::{Resource, set_version};
use crate::wire::{Dialect, Names, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// What the client was told about a name.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    /// It has this version.
    Present {
        version: String,
        /// On this stream, not on one before it.
        pushed: bool,
        /// The resource itself, where a later full set must repeat it.
        kept: Option<Arc<Resource>>,
    },
    /// It does not exist.
    Absent,
}

impl Sent {
    fn version(&self) -> Option<&str> {
        match self {
            Sent::Present { version, .. } => Some(version),
            Sent::Absent => None,
        }
    }
}

/// A response that is not answered yet.
#[derive(Debug)]
pub(super) struct InFlight {
    nonce: String,
    version: String,
    at: Instant,
    /// Names that were new or changed.
    pub names: Vec<String>,
    /// Whether one of them was new to the client.
    pub introduces: bool,
}

/// The difference between what a client has and what it should have.
#[derive(Debug, Default)]
pub(super) struct Difference {
    changed: Vec<Arc<Resource>>,
    /// Present at the client, gone now.
    pub gone: Vec<String>,
    /// Asked for, and not there.
    absent: Vec<String>,
}

/// Resources that the client should have now, by name.
pub(super) type Current = BTreeMap<String, Arc<Resource>>;

#[derive(Debug, Default)]
pub(super) struct TypeState {
    pub subscription: Subscription,
    /// The first request of the type has come.
    pub opened: bool,
    pub sent: BTreeMap<String, Sent>,
    /// Names that go out even when the client has their version.
    pub forced: BTreeSet<String>,
    pub in_flight: Option<InFlight>,
    /// Something may differ from what was sent.
    pub dirty: bool,
    /// The first request of a type is answered even when there is nothing to say.
    must_answer: bool,
    /// Removals wait for listeners and routes to let go.
    pub removals_held: bool,
    /// Since when this type waits for clusters and endpoints.
    pub gated_since: Option<Instant>,
    unknown_reported: bool,
    /// Nonce of the last response.
    pub nonce: String,
    pub status: TypeStatus,
}

impl TypeState {
    /// Settles the response that a request answers, if it answers one.
    pub fn answered(
        &mut self,
        nonce: &str,
        refusal: Option<String>,
        nack_bytes: usize,
        now: Instant,
    ) -> Reply {
        if nonce.is_empty() {
            return Reply::None;
        }
        let Some(response) = self.in_flight.take_if(|response| response.nonce == nonce) else {
            return Reply::Stale;
        };
        match refusal {
            None => {
                self.status.acked = response.version;
                self.status.nack = None;
                Reply::Acked { after: now.saturating_duration_since(response.at) }
            }
            Some(mut text) => {
                text.truncate(text.floor_char_boundary(nack_bytes));
                let nack = Nack { text, version: response.version, resources: response.names };
                self.status.nack = Some(nack.clone());
                self.status.nacks += 1;
                Reply::Nacked(nack)
            }
        }
    }

    /// Takes the subscription of a request. `pushed_clusters`: see [`Sent::Present`]; empty but for endpoints.
    pub fn subscribe(
        &mut self,
        type_url: &str,
        names: Names,
        known: BTreeMap<String, String>,
        pushed_clusters: &BTreeSet<String>,
    ) {
        let first = !std::mem::replace(&mut self.opened, true);
        let mut changed = match names {
            Names::Change { subscribe, unsubscribe } => {
                self.subscription.change(type_url, first, subscribe, unsubscribe)
            }
            Names::Whole(names) => self.subscription.replace(type_url, first, names),
        };
        if first {
            self.must_answer = known.is_empty();
            for (name, version) in known {
                // A cluster that was sent anew on this stream warms again and waits for its endpoints.
                if self.subscription.covers(&name) && !pushed_clusters.contains(&name) {
                    changed.tell.remove(&name);
                    self.sent.insert(name, Sent::Present { version, pushed: false, kept: None });
                }
            }
        }
        if changed.ended_wildcard {
            let subscription = &self.subscription;
            self.sent.retain(|name, _| subscription.names.contains(name));
        }
        for name in &changed.forget {
            self.sent.remove(name);
            self.forced.remove(name);
        }
        self.dirty |= first || changed.any();
        self.forced.append(&mut changed.tell);
        self.note();
    }

    /// Has those of `names` sent that the client asked for by name.
    pub fn force(&mut self, names: Vec<String>) {
        let wanted = names.into_iter().filter(|name| self.subscription.names.contains(name));
        self.forced.extend(wanted);
        self.dirty |= !self.forced.is_empty();
    }

    /// What the client should have now; None when the source cannot tell yet.
    pub fn current(
        &mut self,
        type_url: &str,
        fetch: &mut dyn FnMut(&str, Wanted<'_>) -> Answer,
    ) -> Option<Current> {
        let mut current = Current::new();
        let mut asks: Vec<Wanted<'_>> = Vec::new();
        if self.subscription.wildcard {
            asks.push(Wanted::All);
        }
        if !self.subscription.names.is_empty() {
            asks.push(Wanted::Names(&self.subscription.names));
        }
        for wanted in asks {
            match fetch(type_url, wanted) {
                Answer::Resources(resources) => {
                    current.extend(resources.into_iter().map(|resource| (resource.name.clone(), resource)));
                }
                Answer::NotReady => return None,
                Answer::UnknownType => {
                    if !std::mem::replace(&mut self.unknown_reported, true) {
                        tracing::info!(
                            type_url,
                            "a client asks for a resource type that is not served; it gets none"
                        );
                    }
                    break;
                }
            }
        }
        current.retain(|name, _| self.subscription.covers(name));
        Some(current)
    }

    /// Compares with what the client has.
    pub fn difference(&self, current: &Current) -> Difference {
        let has = |name: &String| self.sent.get(name).and_then(Sent::version);
        let changed = current
            .values()
            .filter(|resource| {
                self.forced.contains(&resource.name) || has(&resource.name) != Some(resource.version.as_str())
            })
            .cloned()
            .collect();
        let gone =
            self.sent.iter().filter(|(name, sent)| sent.version().is_some() && !current.contains_key(*name));
        let absent = self.subscription.names.union(&self.forced).filter(|name| {
            !current.contains_key(*name)
                && has(name).is_none()
                && (self.forced.contains(*name) || !self.sent.contains_key(*name))
        });
        Difference {
            changed,
            gone: gone.map(|(name, _)| name.clone()).collect(),
            absent: absent.cloned().collect(),
        }
    }

    /// Makes the response that takes the client to `current`, and records it as sent; None when there is nothing to
    /// say. Removals are left out while they are held.
    pub fn respond(
        &mut self,
        type_url: &str,
        dialect: Dialect,
        current: Current,
        difference: Difference,
        nonce: String,
        now: Instant,
    ) -> Option<Response> {
        let Difference { changed, gone, absent } = difference;
        let full = dialect == Dialect::StateOfTheWorld && is_full_set(type_url);
        let gone = if self.removals_held { Vec::new() } else { gone };
        let must_answer = std::mem::take(&mut self.must_answer);
        let tells_absence = dialect == Dialect::Delta || full;
        let silent = changed.is_empty() && (!tells_absence || (gone.is_empty() && absent.is_empty()));
        let introduces = changed.iter().any(|new| self.sent.get(&new.name).and_then(Sent::version).is_none());
        for resource in &changed {
            let kept = full.then(|| resource.clone());
            let sent = Sent::Present { version: resource.version.clone(), pushed: true, kept };
            self.sent.insert(resource.name.clone(), sent);
        }
        for name in gone.iter().chain(&absent) {
            if self.subscription.names.contains(name) {
                self.sent.insert(name.clone(), Sent::Absent);
            } else {
                self.sent.remove(name);
            }
        }
        self.dirty = false;
        self.gated_since = None;
        self.forced.clear();
        if silent && !must_answer {
            self.note();
            return None;
        }
        let names = changed.iter().map(|resource| resource.name.clone()).collect();
        let resources = if full { self.full_set(current) } else { changed };
        let removed = if dialect == Dialect::Delta { [gone, absent].concat() } else { Vec::new() };
        let present = self.sent.iter().filter_map(|(name, sent)| Some((name.as_str(), sent.version()?)));
        let version = set_version(present);
        self.nonce.clone_from(&nonce);
        self.status.sent.clone_from(&version);
        self.status.pushes += 1;
        self.in_flight =
            Some(InFlight { nonce: nonce.clone(), version: version.clone(), at: now, names, introduces });
        self.note();
        Some(Response { type_url: type_url.to_owned(), version, nonce, resources, removed })
    }

    /// Everything that the client keeps: what should be there, and what is held back from removal.
    fn full_set(&self, mut current: Current) -> Vec<Arc<Resource>> {
        for (name, sent) in &self.sent {
            if let Sent::Present { kept: Some(resource), .. } = sent {
                current.entry(name.clone()).or_insert_with(|| resource.clone());
            }
        }
        current.into_values().collect()
    }

    /// Brings the status up to date.
    fn note(&mut self) {
        self.status.wildcard = self.subscription.wildcard;
        self.status.names = self.subscription.names.len();
        self.status.resources = self.sent.values().filter(|sent| sent.version().is_some()).count();
        self.status.in_flight = self.in_flight.is_some();
    }
}
