//! `envoy.filters.http.rbac`: authorization of a request by who sends it and what it wants.

use std::sync::Arc;
use std::time::Instant;

use base::Reason;
use config::model::{RbacFilter, RbacRules};

use super::chain::{Filter, Verdict};
use super::denial_log;
use super::exchange::Exchange;
use super::local_reply::LocalReply;
use crate::http::RequestHead;
use crate::route::view::{CallerView, HeadView};

/// What a denied client reads.
const BODY: &str = "RBAC: access denied";

/// The filter.
#[derive(Debug)]
pub struct Rbac {
    filter: Arc<RbacFilter>,
}

impl Rbac {
    /// A filter with these rules.
    pub fn new(filter: &Arc<RbacFilter>) -> Self {
        Self { filter: filter.clone() }
    }
}

impl Filter for Rbac {
    fn on_request(&self, head: &mut RequestHead, exchange: &mut Exchange) -> Verdict {
        let connection = exchange.connection.clone();
        let caller = CallerView {
            peer: connection.peer_certificate(),
            direct_remote: connection.facts.remote.ip(),
            remote: exchange.client.address.ip(),
            local: connection.facts.local,
            server_name: &connection.facts.server_name,
        };
        let Some(rules) = &self.filter.rules else { return Verdict::Continue };
        let verdict = decide::request_verdict(rules, &caller, &HeadView(head));
        if verdict.allowed {
            connection.cells.allowed.increment();
            return Verdict::Continue;
        }
        connection.cells.denied.increment();
        tell(rules, verdict.policy, head, &caller, exchange);
        let details = denial_log::details(verdict.policy);
        Verdict::Reply(Box::new(LocalReply::new(Reason::PolicyDenied, 403, BODY, details)))
    }
}

/// Writes the line that names the user's policies, unless there were many a moment ago.
fn tell(
    rules: &RbacRules,
    policy: Option<&str>,
    head: &RequestHead,
    caller: &CallerView<'_>,
    exchange: &Exchange,
) {
    let Some(suppressed) = exchange.worker.denials.admit(Instant::now()) else { return };
    let who = caller.peer.map_or_else(
        || format!("a plaintext client at {}", exchange.connection.facts.remote),
        |peer| peer.name().to_owned(),
    );
    // Debug form: what a client sends must not end the line.
    let path = String::from_utf8_lossy(head.path());
    let path = format!("{path:?}");
    tracing::warn!(
        request_id = exchange.request_id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned()),
        suppressed,
        "denied {} {} from {who}: {}",
        head.method,
        path.trim_matches('"'),
        denial_log::explain(rules, policy)
    );
}

#[cfg(test)]
#[path = "rbac_tests.rs"]
mod tests;
