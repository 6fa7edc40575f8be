//! The client as a state machine without IO.
//!
//! Wishes go in with [`Client::subscribe`], responses with [`Client::receive`], answers with [`Client::answer`];
//! [`Client::next_request`] gives one request after the other until nothing is to be said. [`Client::connected`] begins a new
//! stream.

use super::{Limits, Subscribe, Update, Verdict};
use crate::order::{self, TypeKey, is_full_set};
use crate::resource::Resource;
use crate::wire::{Dialect, Names, Received, Request, WILDCARD};
use protos::envoy::envoy::config::core::v3::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long the second refusal in a row waits; each further one twice as long. Servers exist that answer a refusal with
/// the refused version at once, for ever.
const REFUSAL_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait: a corrected version may come that much later from such a server.
const MAX_REFUSAL_WAIT: Duration = Duration::from_secs(5);

/// A resource that the server said nothing about in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its type.
    pub type_url: String,
    /// Its name; `*` when the first answer to a wildcard is missing.
    pub name: String,
}

/// An answer that is not sent yet.
#[derive(Debug)]
struct Pending {
    nonce: String,
    refusal: Option<String>,
}

#[derive(Debug, Default)]
struct TypeState {
    /// Wanted names; `*` among them for everything.
    wanted: BTreeSet<String>,
    /// What this stream's server was told; None before the first request of the type.
    told: Option<BTreeSet<String>>,
    /// Accepted resources, name to version.
    known: BTreeMap<String, String>,
    /// Names without an answer, and when to give up on them.
    waiting: BTreeMap<String, Instant>,
    /// Answers to responses, oldest first.
    answers: Vec<Pending>,
    /// Refusals in a row.
    refusals: u32,
    /// The answers wait until then.
    hold: Option<Instant>,
    /// State of the world: nonce of the last response of this stream.
    nonce: String,
    /// State of the world: version last accepted.
    version: String,
}

impl TypeState {
    fn wildcard(&self) -> bool {
        self.wanted.contains(WILDCARD)
    }

    fn wants(&self, name: &str) -> bool {
        self.wildcard() || self.wanted.contains(name)
    }

    /// Whether the server has to be told of a new subscription.
    fn has_news(&self) -> bool {
        match &self.told {
            None => !self.wanted.is_empty(),
            Some(told) => *told != self.wanted,
        }
    }

    /// Whether an answer may go now.
    fn has_answer(&self) -> bool {
        !self.answers.is_empty() && self.hold.is_none()
    }

    /// Queues an answer; refusals in a row wait, ever longer.
    fn queue(&mut self, nonce: String, refusal: Option<String>, now: Instant) {
        self.hold = None;
        match refusal {
            None => self.refusals = 0,
            Some(_) => {
                if self.refusals > 0 {
                    let wait = REFUSAL_WAIT.saturating_mul(1 << (self.refusals - 1).min(8));
                    self.hold = Some(now + wait.min(MAX_REFUSAL_WAIT));
                }
                self.refusals = self.refusals.saturating_add(1);
            }
        }
        self.answers.push(Pending { nonce, refusal });
    }
}

/// An ADS client.
#[derive(Debug)]
pub struct Client {
    dialect: Dialect,
    node: Node,
    limits: Limits,
    types: BTreeMap<TypeKey, TypeState>,
    introduced: bool,
}

impl Client {
    /// A client of that name that wants nothing yet.
    pub fn new(dialect: Dialect, node: Node, limits: Limits) -> Self {
        Client { dialect, node, limits, types: BTreeMap::new(), introduced: false }
    }

    /// Goes on from what was accepted by an earlier client with the same name: versions by resource name. The first
    /// request of the type tells them (`initial_resource_versions`), so that the server sends only what changed. To be
    /// called before the type is subscribed to.
    pub fn resume(&mut self, type_url: &str, known: BTreeMap<String, String>) {
        self.types.entry(order::key(type_url)).or_default().known = known;
    }

    /// Changes what is wanted.
    pub fn subscribe(&mut self, change: Subscribe, now: Instant) {
        let state = self.types.entry(order::key(&change.type_url)).or_default();
        for name in change.add {
            // A server that knows that nothing changed says nothing, which is no reason to wait for it.
            let answered = state.known.contains_key(&name) || (name == WILDCARD && !state.known.is_empty());
            if state.wanted.insert(name.clone()) && !answered {
                state.waiting.insert(name, now + self.limits.initial_fetch);
            }
        }
        for name in change.remove {
            state.wanted.remove(&name);
            state.waiting.remove(&name);
        }
        if state.has_news() {
            // In state of the world a wish goes with the answer.
            state.hold = None;
        }
        if !state.wildcard() {
            let wanted = &state.wanted;
            state.known.retain(|name, _| wanted.contains(name));
        }
    }

    /// A new stream is open: everything has to be said again.
    pub fn connected(&mut self) {
        self.introduced = false;
        for state in self.types.values_mut() {
            state.told = None;
            state.answers.clear();
            state.refusals = 0;
            state.hold = None;
            state.nonce.clear();
        }
    }

    /// Versions of the accepted resources of a type, by name.
    pub fn known(&self, type_url: &str) -> Option<&BTreeMap<String, String>> {
        self.types.get(&order::key(type_url)).map(|state| &state.known)
    }

    /// Whether [`Client::next_request`] has something to say.
    pub fn has_request(&self) -> bool {
        self.types.values().any(|state| state.has_news() || state.has_answer())
    }

    /// The next request: subscriptions of all types first, then answers.
    pub fn next_request(&mut self) -> Option<Request> {
        let dialect = self.dialect;
        // In state of the world every request with a nonce is an answer, so that both go as one.
        let says_news =
            |state: &TypeState| state.has_news() && (dialect == Dialect::Delta || state.answers.is_empty());
        let news = self.types.iter_mut().find(|(_, state)| says_news(state));
        let mut request = match news {
            Some((key, state)) => Self::subscription(dialect, &key.1, state),
            None => {
                let (key, state) = self.types.iter_mut().find(|(_, state)| state.has_answer())?;
                let answer = state.answers.remove(0);
                let mut request = match dialect {
                    Dialect::Delta => {
                        Request::new(&key.1, Names::Change { subscribe: vec![], unsubscribe: vec![] })
                    }
                    Dialect::StateOfTheWorld => Self::subscription(dialect, &key.1, state),
                };
                request.nonce = answer.nonce;
                request.refusal = answer.refusal;
                request
            }
        };
        if !std::mem::replace(&mut self.introduced, true) {
            request.node = Some(self.node.clone());
        }
        Some(request)
    }

    /// The request that tells of the subscription of a type as it is now.
    fn subscription(dialect: Dialect, type_url: &str, state: &mut TypeState) -> Request {
        // The old way to say "everything", which every server understands; only good as long as nothing else was said.
        let only_wildcard = is_full_set(type_url) && state.wanted.len() == 1 && state.wildcard();
        let request = match dialect {
            Dialect::Delta => {
                let told = state.told.clone().unwrap_or_default();
                let mut subscribe: Vec<String> = state.wanted.difference(&told).cloned().collect();
                let unsubscribe = told.difference(&state.wanted).cloned().collect();
                if state.told.is_none() && only_wildcard {
                    subscribe.clear();
                }
                let known = if state.told.is_none() { state.known.clone() } else { BTreeMap::new() };
                Request { known, ..Request::new(type_url, Names::Change { subscribe, unsubscribe }) }
            }
            Dialect::StateOfTheWorld => {
                let names = if only_wildcard { Vec::new() } else { state.wanted.iter().cloned().collect() };
                Request {
                    version: state.version.clone(),
                    nonce: state.nonce.clone(),
                    ..Request::new(type_url, Names::Whole(names))
                }
            }
        };
        state.told = Some(state.wanted.clone());
        request
    }

    /// Takes a response. None when there is nothing for a consumer in it: it was malformed (and is refused), or about
    /// a type that nobody wants (and is acknowledged).
    pub fn receive(&mut self, received: Received, now: Instant) -> Option<Update> {
        let Received { type_url, version, nonce, resources, removed } = received;
        let dialect = self.dialect;
        let Some(state) = self.types.get_mut(&order::key(&type_url)) else {
            tracing::debug!(type_url, "response of a type that was never asked for");
            return None;
        };
        state.nonce.clone_from(&nonce);
        let resources = match Self::distinct(resources) {
            Ok(resources) => resources,
            Err(reason) => {
                state.queue(nonce, Some(cut(reason, self.limits.nack_bytes)), now);
                return None;
            }
        };
        state.waiting.remove(WILDCARD);
        for name in resources.keys().chain(&removed) {
            state.waiting.remove(name);
        }
        let whole = dialect == Dialect::StateOfTheWorld && is_full_set(&type_url);
        let removed: Vec<String> = if whole {
            let absent = |name: &&String| !resources.contains_key(*name) && name.as_str() != WILDCARD;
            let expected: BTreeSet<&String> = state.known.keys().chain(state.waiting.keys()).collect();
            expected.into_iter().filter(absent).cloned().collect()
        } else {
            removed.into_iter().filter(|name| state.wants(name)).collect()
        };
        if whole {
            state.waiting.clear();
        }
        let unchanged = |resource: &Resource| {
            dialect == Dialect::StateOfTheWorld && state.known.get(&resource.name) == Some(&resource.version)
        };
        let added: Vec<Resource> = resources
            .into_values()
            .filter(|resource| state.wants(&resource.name) && !unchanged(resource))
            .collect();
        Some(Update { type_url, added, removed, version, nonce })
    }

    /// Resources by name.
    ///
    /// # Errors
    /// What is wrong with the first that cannot be used.
    fn distinct(resources: Vec<Result<Resource, String>>) -> Result<BTreeMap<String, Resource>, String> {
        let mut distinct = BTreeMap::new();
        for resource in resources {
            let resource = resource?;
            if let Some(twin) = distinct.insert(resource.name.clone(), resource) {
                return Err(format!("resource {:?} occurs twice in one response", twin.name));
            }
        }
        Ok(distinct)
    }

    /// Takes the consumer's answer to an update that [`Client::receive`] gave.
    pub fn answer(&mut self, update: Update, verdict: Verdict, now: Instant) {
        let Some(state) = self.types.get_mut(&order::key(&update.type_url)) else { return };
        let refusal = match verdict {
            Verdict::Ack => {
                accept(state, &update, &[]);
                state.version = update.version;
                None
            }
            Verdict::Nack { detail, rejected } => {
                if !rejected.is_empty() {
                    accept(state, &update, &rejected);
                }
                Some(cut(detail, self.limits.nack_bytes))
            }
        };
        state.queue(update.nonce, refusal, now);
    }

    /// Names whose time is up; each is told once. Answers that waited long enough may go.
    pub fn expired(&mut self, now: Instant) -> Vec<Missing> {
        let mut missing = Vec::new();
        for ((_, type_url), state) in &mut self.types {
            state.hold = state.hold.filter(|end| *end > now);
            state.waiting.retain(|name, end| {
                let late = *end <= now;
                if late {
                    missing.push(Missing { type_url: type_url.clone(), name: name.clone() });
                }
                !late
            });
        }
        missing
    }

    /// When [`Client::expired`] has to be called next.
    pub fn deadline(&self) -> Option<Instant> {
        self.types.values().flat_map(|state| state.waiting.values().chain(&state.hold)).min().copied()
    }
}

/// Makes an update known, without the rejected names.
fn accept(state: &mut TypeState, update: &Update, rejected: &[String]) {
    for resource in &update.added {
        if !rejected.contains(&resource.name) && state.wants(&resource.name) {
            state.known.insert(resource.name.clone(), resource.version.clone());
        }
    }
    for name in &update.removed {
        if !rejected.contains(name) {
            state.known.remove(name);
        }
    }
}

fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    text
}
