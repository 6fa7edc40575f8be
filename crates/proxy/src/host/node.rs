//! Who this proxy says it is.

use crate::telemetry::registry::DEFAULT_SERIES;
use base::Spiffe;
use config::model;
use protos::envoy::envoy::config::core::v3::{self as core, node};

/// What our control plane knows this proxy by.
pub const USER_AGENT: &str = "tulle-proxy";
/// More series than a scraper takes.
const MOST_SERIES: usize = 100_000;
/// The metadata key that stays in this process: it says where the join token is.
const IDENTITY_KEY: &str = "TULLE_IDENTITY";

/// The node as an xDS server gets it.
pub fn for_server(node: Option<&core::Node>) -> core::Node {
    let mut node = node.cloned().unwrap_or_default();
    if let Some(metadata) = &mut node.metadata {
        metadata.fields.remove(IDENTITY_KEY);
    }
    node.user_agent_name = USER_AGENT.to_owned();
    node.user_agent_version_type =
        Some(node::UserAgentVersionType::UserAgentVersion(env!("CARGO_PKG_VERSION").to_owned()));
    node
}

/// The identity that the node's metadata asks for; `None` when it does not say.
///
/// # Errors
/// The parts do not make a SPIFFE id.
pub fn expected_identity(node: &model::Node, trust_domain: &str) -> Result<Option<Spiffe>, String> {
    match (node.text("NAMESPACE"), node.text("SERVICE_ACCOUNT")) {
        (Some(namespace), Some(account)) => Spiffe::new(trust_domain, namespace, account)
            .map(Some)
            .map_err(|error| format!("node.metadata: {error}")),
        _ => Ok(None),
    }
}

/// How many series of Istio's metrics the proxy may hold (`TULLE_METRICS_SERIES` in the node's metadata).
///
/// # Errors
/// It is not a number between 1 and 100,000.
pub fn series_budget(node: &model::Node) -> Result<usize, String> {
    let Some(text) = node.text("TULLE_METRICS_SERIES") else { return Ok(DEFAULT_SERIES) };
    let number = text.parse().ok().filter(|number| (1..=MOST_SERIES).contains(number));
    number.ok_or_else(|| {
        format!("node.metadata.TULLE_METRICS_SERIES is {text:?}: it must be a number from 1 to {MOST_SERIES}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use protos::envoy::google::protobuf::{Struct, Value};

    #[test]
    fn the_server_never_sees_where_the_token_is() {
        let fields =
            [(IDENTITY_KEY.to_owned(), Value::default()), ("NAMESPACE".to_owned(), Value::default())];
        let metadata = Some(Struct { fields: fields.into_iter().collect() });
        let node = for_server(Some(&core::Node { metadata, ..core::Node::default() }));
        let keys: Vec<_> = node.metadata.unwrap().fields.into_keys().collect();
        assert_eq!((keys, node.user_agent_name.as_str()), (vec!["NAMESPACE".to_owned()], "tulle-proxy"));
    }
}
