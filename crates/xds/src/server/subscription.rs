//! What one stream wants of one type, after the rules of the xDS protocol.

use crate::order::is_full_set;
use crate::wire::WILDCARD;
use std::collections::BTreeSet;

/// Wanted names of one type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    /// Everything that the server thinks the client should have.
    pub wildcard: bool,
    /// Wildcard because the first request named nothing (the rule of Listener and Cluster), not because of `*`.
    legacy: bool,
    /// Names asked for, without `*`.
    pub names: BTreeSet<String>,
}

/// What a request changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// Names that the client must be told about, whatever it knows.
    pub tell: BTreeSet<String>,
    /// Names that it no longer holds.
    pub forget: BTreeSet<String>,
    /// The wildcard was taken up by this request.
    pub began_wildcard: bool,
    /// The wildcard was given up by this request.
    pub ended_wildcard: bool,
}

impl Changed {
    /// Whether anything has to be looked at again.
    pub fn any(&self) -> bool {
        !self.tell.is_empty() || self.began_wildcard
    }
}

impl Subscription {
    /// Whether a name is wanted.
    pub fn covers(&self, name: &str) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// Applies a delta request. `first` is the first of its type on this stream.
    pub fn change(
        &mut self,
        type_url: &str,
        first: bool,
        subscribe: Vec<String>,
        unsubscribe: Vec<String>,
    ) -> Changed {
        let mut changed = Changed::default();
        if first && subscribe.is_empty() && is_full_set(type_url) {
            (self.wildcard, self.legacy) = (true, true);
            changed.began_wildcard = true;
        }
        for name in subscribe {
            if name == WILDCARD {
                changed.began_wildcard |= !self.wildcard;
                self.wildcard = true;
            } else {
                // A name that is asked for again is sent again: the client may have lost it.
                changed.tell.insert(name.clone());
                self.names.insert(name);
            }
        }
        for name in unsubscribe {
            if name == WILDCARD {
                changed.ended_wildcard = self.wildcard;
                (self.wildcard, self.legacy) = (false, false);
            } else if self.names.remove(&name) {
                changed.tell.remove(&name);
                changed.forget.insert(name);
            }
        }
        if self.wildcard {
            // Still covered by the wildcard: the client must learn whether the resource stays.
            changed.tell.append(&mut changed.forget);
        }
        changed
    }

    /// Applies the whole list of a state-of-the-world request.
    pub fn replace(&mut self, type_url: &str, first: bool, names: Vec<String>) -> Changed {
        let names: BTreeSet<String> = names.into_iter().collect();
        let legacy = names.is_empty() && is_full_set(type_url) && (first || self.legacy);
        let wildcard = legacy || names.contains(WILDCARD);
        let mut changed = Changed {
            began_wildcard: wildcard && !self.wildcard,
            ended_wildcard: self.wildcard && !wildcard,
            ..Changed::default()
        };
        let names: BTreeSet<String> = names.into_iter().filter(|name| name != WILDCARD).collect();
        changed.tell = names.difference(&self.names).cloned().collect();
        if !wildcard {
            changed.forget = self.names.difference(&names).cloned().collect();
        }
        *self = Subscription { wildcard, legacy, names };
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{CLUSTER, ENDPOINT};

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn told(changed: &Changed) -> Vec<&str> {
        changed.tell.iter().map(String::as_str).collect()
    }

    #[test]
    fn an_empty_first_request_is_a_wildcard_for_clusters_only() {
        let mut clusters = Subscription::default();
        assert!(clusters.change(CLUSTER, true, vec![], vec![]).began_wildcard && clusters.wildcard);
        let mut endpoints = Subscription::default();
        assert!(!endpoints.change(ENDPOINT, true, vec![], vec![]).any() && !endpoints.wildcard);
        let mut late = Subscription::default();
        late.change(CLUSTER, true, names(&["a"]), vec![]);
        assert!(!late.change(CLUSTER, false, vec![], vec![]).any() && !late.wildcard);
    }

    #[test]
    fn names_beside_a_wildcard() {
        let mut subscription = Subscription::default();
        subscription.change(CLUSTER, true, names(&["*", "a"]), vec![]);
        // Given up as a name, still covered by the wildcard: the client must be told what becomes of it.
        let changed = subscription.change(CLUSTER, false, vec![], names(&["a"]));
        assert_eq!((told(&changed), changed.forget.len()), (vec!["a"], 0));
        subscription.change(CLUSTER, false, names(&["b"]), vec![]);
        let changed = subscription.change(CLUSTER, false, vec![], names(&["*"]));
        assert!(changed.ended_wildcard && subscription.covers("b") && !subscription.covers("a"));
    }

    #[test]
    fn asked_again_is_told_again() {
        let mut subscription = Subscription::default();
        subscription.change(ENDPOINT, true, names(&["a"]), vec![]);
        assert_eq!(told(&subscription.change(ENDPOINT, false, names(&["a"]), vec![])), ["a"]);
    }

    #[test]
    fn whole_lists() {
        let mut subscription = Subscription::default();
        assert!(subscription.replace(CLUSTER, true, vec![]).began_wildcard);
        assert!(!subscription.replace(CLUSTER, false, vec![]).any() && subscription.wildcard);
        let changed = subscription.replace(CLUSTER, false, names(&["a", "b"]));
        assert!(changed.ended_wildcard && told(&changed) == ["a", "b"]);
        let changed = subscription.replace(CLUSTER, false, names(&["b"]));
        assert!(changed.forget.contains("a") && !changed.any());
        // After names, an empty list means nothing at all.
        subscription.replace(CLUSTER, false, vec![]);
        assert!(!subscription.covers("b") && !subscription.wildcard);
    }
}
