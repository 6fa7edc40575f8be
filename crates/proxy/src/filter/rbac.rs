//! `envoy.filters.http.rbac`: authorization of a request by who sends it and what it wants.

use std::sync::Arc;
use std::time::Instant;

use config::model::{RbacFilter, RbacRules};

use super::chain::{Filter, Verdict};
use super::denial_log;
use super::exchange::Exchange;
use super::local_reply::LocalReply;
use super::rbac_rules::{Asked, Decision, decide};
use crate::http::RequestHead;

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
        let asked = Asked {
            head,
            peer: connection.peer_certificate(),
            direct_remote: connection.facts.remote.ip(),
            remote: exchange.client.address.ip(),
            local: connection.facts.local,
            server_name: &connection.facts.server_name,
        };
        let Some(rules) = &self.filter.rules else { return Verdict::Continue };
        match decide(rules, &asked) {
            Decision::Allowed => {
                connection.cells.allowed.increment();
                Verdict::Continue
            }
            Decision::Denied(policy) => {
                connection.cells.denied.increment();
                tell(rules, policy, &asked, exchange);
                let details = format!("rbac_access_denied_matched_policy[{}]", policy.unwrap_or("none"));
                // One word in a log line.
                let details = details.replace(|c: char| c.is_whitespace() || c.is_control(), "_");
                Verdict::Reply(Box::new(LocalReply::new(403, BODY, details)))
            }
        }
    }
}

/// Writes the line that names the user's policies, unless there were many a moment ago.
fn tell(rules: &RbacRules, policy: Option<&str>, asked: &Asked<'_>, exchange: &Exchange) {
    let Some(suppressed) = exchange.worker.denials.admit(Instant::now()) else { return };
    let who = asked.peer.map_or_else(
        || format!("a plaintext client at {}", exchange.connection.facts.remote),
        |peer| peer.name().to_owned(),
    );
    // Debug form: what a client sends must not end the line.
    let path = String::from_utf8_lossy(asked.head.path());
    let path = format!("{path:?}");
    tracing::warn!(
        request_id = exchange.request_id.as_ref().map(|id| String::from_utf8_lossy(id).into_owned()),
        suppressed,
        "denied {} {} from {who}: {}",
        asked.head.method,
        path.trim_matches('"'),
        denial_log::explain(rules, policy)
    );
}

#[cfg(test)]
#[path = "rbac_tests.rs"]
mod tests;
