//! One ADS stream, seen from the server, as a state machine without IO.
//!
//! Requests go in with [`Session::on_request`], changes with [`Session::on_change`]; [`Session::next_response`] gives one
//! response after the other until nothing can be sent now. Per type at most one response is in flight, and what
//! changes meanwhile goes out as one response when it is answered.
//!
//! Make before break: clusters and endpoints go before listeners and routes, and listeners and routes wait until the
//! client has accepted *new* clusters and endpoints (for a bounded time); clusters and their endpoints are taken away last,
//! and not at all while the client still refuses the routes that would no longer point at them.

use super::status::{Nack, TypeStatus};
use super::type_state::{Sent, TypeState};
use super::{Answer, Limits, Wanted};
use crate::order::{self, CLUSTER, ENDPOINT, LISTENER, ROUTE, TypeKey};
use crate::wire::{Dialect, Names, Request, Response};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A request that breaks a limit or the protocol; the stream must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Too much of something.
    #[error("{what}: {found} is more than the limit of {limit}")]
    TooMany {
        /// Of what.
        what: String,
        /// How much came.
        found: usize,
        /// How much may come.
        limit: usize,
    },
    /// A request without a type.
    #[error("a request on an aggregated stream has no type_url")]
    NoType,
}

/// What a request turned out to be, beside its subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// No answer to a response.
    None,
    /// An answer to a response that is no longer the last one.
    Stale,
    /// The last response was accepted.
    Acked {
        /// Time since it was sent.
        after: Duration,
    },
    /// The last response was refused.
    Nacked(Nack),
}

/// One ADS stream.
#[derive(Debug)]
pub struct Session {
    dialect: Dialect,
    limits: Limits,
    types: BTreeMap<TypeKey, TypeState>,
    nonces: u64,
}

/// Where [`Session::next_response`] gets resources from.
pub type Fetch<'a> = dyn FnMut(&str, Wanted<'_>) -> Answer + 'a;

impl Session {
    /// A new stream.
    pub fn new(dialect: Dialect, limits: Limits) -> Self {
        Session { dialect, limits, types: BTreeMap::new(), nonces: 0 }
    }

    /// The resources may have changed.
    pub fn on_change(&mut self) {
        for state in self.types.values_mut() {
            state.dirty = true;
        }
    }

    /// State of a type; None when the client never asked for it.
    pub fn status(&self, type_url: &str) -> Option<&TypeStatus> {
        self.types.get(&order::key(type_url)).map(|state| &state.status)
    }

    /// Takes a request.
    ///
    /// # Errors
    /// [`Violation`] when the stream must end.
    pub fn on_request(&mut self, request: Request, now: Instant) -> Result<Reply, Violation> {
        self.check(&request)?;
        let key = order::key(&request.type_url);
        let begins_endpoints = request.type_url == ENDPOINT && !self.types.contains_key(&key);
        let pushed_clusters = if begins_endpoints { self.pushed_clusters() } else { BTreeSet::new() };
        let nack_bytes = self.limits.nack_bytes;
        let names_limit = self.limits.names;
        let state = self.types.entry(key).or_default();
        if self.dialect == Dialect::StateOfTheWorld && state.opened && request.nonce != state.nonce {
            return Ok(Reply::Stale);
        }
        let reply = state.answered(&request.nonce, request.refusal, nack_bytes, now);
        state.subscribe(&request.type_url, request.names, request.known, &pushed_clusters);
        let count = state.subscription.names.len();
        if count > names_limit {
            let what = format!("names subscribed to of type {}", request.type_url);
            return Err(Violation::TooMany { what, found: count, limit: names_limit });
        }
        Ok(reply)
    }

    fn check(&self, request: &Request) -> Result<(), Violation> {
        let too_many = |what: &str, found: usize, limit: usize| {
            if found > limit {
                return Err(Violation::TooMany { what: what.to_owned(), found, limit });
            }
            Ok(())
        };
        if request.type_url.is_empty() {
            return Err(Violation::NoType);
        }
        too_many("bytes of type_url", request.type_url.len(), self.limits.id_bytes)?;
        let (asked, dropped) = match &request.names {
            Names::Change { subscribe, unsubscribe } => (subscribe.len(), unsubscribe.len()),
            Names::Whole(names) => (names.len(), 0),
        };
        too_many("names in one request", asked.max(dropped), self.limits.names)?;
        too_many("initial_resource_versions", request.known.len(), self.limits.names)?;
        // Names and versions are kept for as long as the stream lives: a limit on their number alone bounds nothing.
        let longest = |texts: &mut dyn Iterator<Item = &String>| texts.map(String::len).max().unwrap_or(0);
        let names = match &request.names {
            Names::Change { subscribe, .. } => subscribe,
            Names::Whole(names) => names,
        };
        let name = longest(&mut names.iter().chain(request.known.keys()));
        too_many("bytes of a resource name", name, self.limits.id_bytes)?;
        too_many("bytes of a version", longest(&mut request.known.values()), self.limits.id_bytes)?;
        if !self.types.contains_key(&order::key(&request.type_url)) {
            too_many("resource types on one stream", self.types.len() + 1, self.limits.types)?;
        }
        Ok(())
    }

    /// Names of clusters that went out on this stream.
    fn pushed_clusters(&self) -> BTreeSet<String> {
        let Some(clusters) = self.types.get(&order::key(CLUSTER)) else { return BTreeSet::new() };
        let pushed =
            clusters.sent.iter().filter(|(_, sent)| matches!(sent, Sent::Present { pushed: true, .. }));
        pushed.map(|(name, _)| name.clone()).collect()
    }

    /// The next response that can be sent now.
    pub fn next_response(&mut self, fetch: &mut Fetch<'_>, now: Instant) -> Option<Response> {
        // Twice: routes that turn out to be unchanged in the first round release held removals for the second.
        self.round(fetch, now).or_else(|| self.round(fetch, now))
    }

    fn round(&mut self, fetch: &mut Fetch<'_>, now: Instant) -> Option<Response> {
        let unsettled = self.routes_unsettled();
        let ready: Vec<TypeKey> = self
            .types
            .iter()
            .filter(|(_, state)| state.in_flight.is_none())
            .filter(|(_, state)| state.dirty || (state.removals_held && !unsettled))
            .map(|(key, _)| key.clone())
            .collect();
        for key in ready {
            if self.gated(&key, now) {
                continue;
            }
            if let Some(response) = self.push(&key, fetch, now) {
                return Some(response);
            }
        }
        None
    }

    /// Whether everything that the client should have was sent and answered.
    pub fn is_settled(&self) -> bool {
        self.types.values().all(|state| !state.dirty && state.in_flight.is_none() && !state.removals_held)
    }

    /// When [`Session::next_response`] must be called again although nothing happened.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        let waiting = self.types.values().filter(|state| state.dirty && state.in_flight.is_none());
        let ends =
            waiting.filter_map(|state| state.gated_since).map(|since| since + self.limits.make_before_break);
        ends.filter(|end| *end > now).min()
    }

    /// Whether a type has to wait for the client to accept clusters and endpoints.
    fn gated(&mut self, key: &TypeKey, now: Instant) -> bool {
        if !matches!(key.1.as_str(), LISTENER | ROUTE) {
            return false;
        }
        let busy = |type_url: &str, newer: fn(&TypeState) -> bool| {
            self.types.get(&order::key(type_url)).is_some_and(|state| {
                state.in_flight.as_ref().is_some_and(|response| response.introduces || newer(state))
            })
        };
        let waits = busy(CLUSTER, |state| state.dirty) || busy(ENDPOINT, |state| !state.forced.is_empty());
        let limit = self.limits.make_before_break;
        let Some(state) = self.types.get_mut(key) else { return false };
        if !waits {
            state.gated_since = None;
            return false;
        }
        let since = *state.gated_since.get_or_insert(now);
        now.saturating_duration_since(since) < limit
    }

    /// Whether listeners or routes may still point at clusters that no longer exist.
    fn routes_unsettled(&self) -> bool {
        [LISTENER, ROUTE]
            .iter()
            .filter_map(|url| self.types.get(&order::key(url)))
            .any(|state| state.dirty || state.in_flight.is_some() || state.status.nack.is_some())
    }

    fn push(&mut self, key: &TypeKey, fetch: &mut Fetch<'_>, now: Instant) -> Option<Response> {
        let hold = matches!(key.1.as_str(), CLUSTER | ENDPOINT) && self.routes_unsettled();
        let dialect = self.dialect;
        let state = self.types.get_mut(key)?;
        let current = state.current(&key.1, fetch)?;
        let difference = state.difference(&current);
        state.removals_held = hold && !difference.gone.is_empty();
        let nonce = (self.nonces + 1).to_string();
        let response = state.respond(&key.1, dialect, current, difference, nonce, now)?;
        self.nonces += 1;
        if key.1 == CLUSTER {
            self.warm_up();
        }
        Some(response)
    }

    /// A cluster that is sent again waits for its endpoints again: they follow even when they did not change.
    fn warm_up(&mut self) {
        let Some(clusters) = self.types.get(&order::key(CLUSTER)).and_then(|state| state.in_flight.as_ref())
        else {
            return;
        };
        let names = clusters.names.clone();
        if let Some(endpoints) = self.types.get_mut(&order::key(ENDPOINT)) {
            endpoints.force(names);
        }
    }
}
