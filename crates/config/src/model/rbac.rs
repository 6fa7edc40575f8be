//! Authorization rules, compiled.

use super::{HeaderMatcher, StringMatcher};
use std::sync::Arc;

pub use ipnet::IpNet as CidrRange;

/// `envoy.extensions.filters.{http,network}.rbac.v3.RBAC`.
#[derive(Debug, Clone, PartialEq)]
pub struct RbacFilter {
    /// Enforced rules; `None` allows everything.
    pub rules: Option<RbacRules>,
}

/// Policies and what a match of one of them means.
#[derive(Debug, Clone, PartialEq)]
pub struct RbacRules {
    /// What a match means.
    pub action: RbacAction,
    /// In order of their names, as Envoy evaluates them.
    pub policies: Vec<Policy>,
}

/// What a match means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RbacAction {
    /// Allowed if a policy matches; no policy: denied.
    Allow,
    /// Denied if a policy matches; no policy: allowed.
    Deny,
    /// Never denied; a match is logged.
    Log,
}

/// One policy: some permission and some principal must match.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// `ns[<namespace>]-policy[<name>]-rule[<n>]` from Istio and from us.
    pub name: Arc<str>,
    /// What is done.
    pub permissions: Vec<Permission>,
    /// Who does it.
    pub principals: Vec<Principal>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Permission {
    /// All of them.
    And(Vec<Permission>),
    /// One of them.
    Or(Vec<Permission>),
    /// Not it.
    Not(Box<Permission>),
    /// Anything.
    Any,
    /// A request header.
    Header(HeaderMatcher),
    /// The canonical path without query.
    Path(StringMatcher),
    /// Destination IP.
    DestinationIp(CidrRange),
    /// Destination port.
    DestinationPort(u16),
    /// Destination port in `start..end`.
    DestinationPortRange {
        /// Inclusive.
        start: u32,
        /// Exclusive.
        end: u32,
    },
    /// SNI.
    RequestedServerName(StringMatcher),
}

/// Who does it.
#[derive(Debug, Clone, PartialEq)]
pub enum Principal {
    /// All of them.
    And(Vec<Principal>),
    /// One of them.
    Or(Vec<Principal>),
    /// Not it.
    Not(Box<Principal>),
    /// Anyone.
    Any,
    /// An authenticated peer: `None` takes any client certificate, else a URI SAN (then a DNS SAN, then the subject)
    /// must match.
    Authenticated(Option<StringMatcher>),
    /// Address of the connection's peer.
    DirectRemoteIp(CidrRange),
    /// Address of the client, from `x-forwarded-for` when that is trusted.
    RemoteIp(CidrRange),
    /// A request header.
    Header(HeaderMatcher),
    /// The canonical path without query.
    Path(StringMatcher),
}
