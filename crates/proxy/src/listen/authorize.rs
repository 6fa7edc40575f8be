//! `envoy.filters.network.rbac`: authorization of a connection, before its protocol is spoken.

use std::time::Instant;

use config::model::NetworkFilter;

use super::worker::Worker;
use crate::filter::{Downstream, denial_log};
use crate::route::view::CallerView;

/// Whether every RBAC filter of a chain lets the connection pass. A refusal is logged, unless there were many.
pub fn allowed(worker: &Worker, filters: &[NetworkFilter], downstream: &Downstream) -> bool {
    let session = downstream.session.as_ref();
    let peer = session.and_then(|session| session.peer.as_deref());
    let caller = CallerView {
        peer,
        direct_remote: downstream.remote.ip(),
        remote: downstream.remote.ip(),
        local: downstream.local,
        server_name: session.and_then(|session| session.sni.as_deref()).unwrap_or_default(),
    };
    for filter in filters {
        let NetworkFilter::Rbac(rbac) = filter else { continue };
        let Some(rules) = &rbac.rules else { continue };
        let verdict = decide::connection_verdict(rules, &caller);
        if !verdict.allowed {
            if let Some(suppressed) = worker.http.denials.admit(Instant::now()) {
                let who = peer.map_or("a plaintext client", |peer| peer.name());
                let reason = denial_log::explain(rules, verdict.policy);
                tracing::warn!(peer = %downstream.remote, suppressed, "connection denied from {who}: {reason}");
            }
            return false;
        }
    }
    true
}
