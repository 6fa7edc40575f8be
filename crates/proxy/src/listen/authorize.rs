//! `envoy.filters.network.rbac`: authorization of a connection, before its protocol is spoken.

use std::time::Instant;

use config::model::{NetworkFilter, RbacRules};

use super::worker::Worker;
use crate::filter::{Downstream, denial_log};
use crate::route::view::CallerView;

/// Whether every RBAC filter of a chain lets the connection pass.
pub fn allowed(worker: &Worker, filters: &[NetworkFilter], downstream: &Downstream) -> bool {
    denied(worker, filters, downstream).is_none()
}

/// The details of a connection that an RBAC filter denies, Envoy's words. The denial is logged, unless there were many.
pub fn denied(worker: &Worker, filters: &[NetworkFilter], downstream: &Downstream) -> Option<String> {
    let (rules, policy) = denial(filters, downstream)?;
    if let Some(suppressed) = worker.http.denials.admit(Instant::now()) {
        let session = downstream.session.as_ref();
        let peer = session.and_then(|session| session.peer.as_deref());
        let who = peer.map_or("a plaintext client", |peer| peer.name());
        let reason = denial_log::explain(rules, policy);
        tracing::warn!(peer = %downstream.remote, suppressed, "connection denied from {who}: {reason}");
    }
    Some(denial_log::details(policy))
}

/// The rules that deny the connection, and the policy where one did.
pub fn denial<'a>(
    filters: &'a [NetworkFilter],
    downstream: &Downstream,
) -> Option<(&'a RbacRules, Option<&'a str>)> {
    let session = downstream.session.as_ref();
    let caller = CallerView {
        peer: session.and_then(|session| session.peer.as_deref()),
        direct_remote: downstream.remote.ip(),
        remote: downstream.remote.ip(),
        local: downstream.local,
        server_name: downstream.server_name().unwrap_or_default(),
    };
    filters.iter().find_map(|filter| {
        let NetworkFilter::Rbac(rbac) = filter else { return None };
        let rules = rbac.rules.as_ref()?;
        let verdict = decide::connection_verdict(rules, &caller);
        (!verdict.allowed).then_some((rules, verdict.policy))
    })
}
