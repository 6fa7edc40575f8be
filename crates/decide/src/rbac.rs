//! Whether authorization allows a request or a connection. A policy is never weaker than written: where values disagree,
//! a denial takes the reading that denies more and a permission the one that allows less.

use crate::header_match::{Bound, header_matches_bound};
use crate::string_match::string_matches;
use crate::view::{PeerView, RequestView};
use config::model::{Permission, Policy, Principal, RbacAction, RbacRules, StringMatcher};

/// The result of evaluating rules.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict<'a> {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Name of the policy that matched; `None`: none did.
    pub policy: Option<&'a str>,
    /// What a match means.
    pub action: RbacAction,
    /// The policies that were looked at: for ALLOW without a match, those that did not allow it.
    pub evaluated: &'a [Policy],
}

/// Judges a request; its path must be canonical.
pub fn request_verdict<'a>(
    rules: &'a RbacRules,
    peer: &impl PeerView,
    request: &impl RequestView,
) -> Verdict<'a> {
    verdict(rules, &Subject { peer, request: Some(request) })
}

/// Judges a connection. A condition on a request cannot be evaluated there: it never allows, and it denies.
pub fn connection_verdict<'a>(rules: &'a RbacRules, peer: &impl PeerView) -> Verdict<'a> {
    verdict(rules, &Subject { peer, request: None::<&NoRequest> })
}

fn verdict<'a, P: PeerView, R: RequestView>(
    rules: &'a RbacRules,
    subject: &Subject<'_, P, R>,
) -> Verdict<'a> {
    let bound = if rules.action == RbacAction::Deny { Bound::Upper } else { Bound::Lower };
    let matches = |policy: &&Policy| {
        policy.permissions.iter().any(|permission| subject.permission(permission, bound))
            && policy.principals.iter().any(|principal| subject.principal(principal, bound))
    };
    let policy = rules.policies.iter().find(matches).map(|policy| &*policy.name);
    let allowed = match rules.action {
        RbacAction::Allow => policy.is_some(),
        RbacAction::Deny => policy.is_none(),
        RbacAction::Log => true,
    };
    Verdict { allowed, policy, action: rules.action, evaluated: &rules.policies }
}

struct Subject<'a, P, R> {
    peer: &'a P,
    request: Option<&'a R>,
}

impl<P: PeerView, R: RequestView> Subject<'_, P, R> {
    fn permission(&self, permission: &Permission, bound: Bound) -> bool {
        match permission {
            Permission::And(all) => all.iter().all(|one| self.permission(one, bound)),
            Permission::Or(all) => all.iter().any(|one| self.permission(one, bound)),
            Permission::Not(one) => !self.permission(one, bound.flip()),
            Permission::Any => true,
            Permission::Header(matcher) => {
                self.on_request(bound, |request| header_matches_bound(matcher, request, bound))
            }
            Permission::Path(matcher) => self.path(matcher, bound),
            Permission::DestinationIp(range) => range.contains(&self.peer.destination().ip().to_canonical()),
            Permission::DestinationPort(port) => self.peer.destination().port() == *port,
            Permission::DestinationPortRange { start, end } => {
                (*start..*end).contains(&u32::from(self.peer.destination().port()))
            }
            Permission::RequestedServerName(matcher) => {
                string_matches(matcher, self.peer.requested_server_name().as_bytes())
            }
        }
    }

    fn principal(&self, principal: &Principal, bound: Bound) -> bool {
        match principal {
            Principal::And(all) => all.iter().all(|one| self.principal(one, bound)),
            Principal::Or(all) => all.iter().any(|one| self.principal(one, bound)),
            Principal::Not(one) => !self.principal(one, bound.flip()),
            Principal::Any => true,
            Principal::Authenticated(None) => self.peer.is_authenticated(),
            Principal::Authenticated(Some(matcher)) => {
                self.peer.is_authenticated() && self.name_matches(matcher, bound)
            }
            Principal::DirectRemoteIp(range) => range.contains(&self.peer.direct_remote_ip().to_canonical()),
            Principal::RemoteIp(range) => range.contains(&self.peer.remote_ip().to_canonical()),
            Principal::Header(matcher) => {
                self.on_request(bound, |request| header_matches_bound(matcher, request, bound))
            }
            Principal::Path(matcher) => self.path(matcher, bound),
        }
    }

    /// The peer's name: its URI SANs, else its DNS SANs, else its subject.
    fn name_matches(&self, matcher: &StringMatcher, bound: Bound) -> bool {
        let judge = |name: &str| string_matches(matcher, name.as_bytes());
        let of = |mut names: &mut dyn Iterator<Item = &str>| match bound {
            Bound::Upper => Iterator::any(&mut names, judge),
            Bound::Lower => Iterator::all(&mut names, judge),
        };
        if self.peer.uri_sans().next().is_some() {
            of(&mut self.peer.uri_sans())
        } else if self.peer.dns_sans().next().is_some() {
            of(&mut self.peer.dns_sans())
        } else {
            judge(self.peer.subject())
        }
    }

    fn path(&self, matcher: &StringMatcher, bound: Bound) -> bool {
        self.on_request(bound, |request| string_matches(matcher, request.path()))
    }

    /// What cannot be evaluated holds where a match denies, and does not where a match allows.
    fn on_request(&self, bound: Bound, judge: impl FnOnce(&R) -> bool) -> bool {
        self.request.map_or(bound == Bound::Upper, judge)
    }
}

/// Stands for the request of a connection; there is no value of it.
enum NoRequest {}

impl RequestView for NoRequest {
    fn method(&self) -> &[u8] {
        match *self {}
    }
    fn scheme(&self) -> &str {
        match *self {}
    }
    fn authority(&self) -> &[u8] {
        match *self {}
    }
    fn target(&self) -> &[u8] {
        match *self {}
    }
    fn header_values<'a>(&'a self, _: &'a str) -> impl Iterator<Item = &'a [u8]> + 'a {
        std::iter::empty()
    }
}

#[cfg(test)]
mod tests;
