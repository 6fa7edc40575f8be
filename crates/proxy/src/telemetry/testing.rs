//! What logs read, for tests.

use std::time::{Duration, Instant, UNIX_EPOCH};

use config::model::{Locality, Node};

use super::captures::Captures;
use super::log_value::LogContext;
use super::random::Random;
use super::record::{ConnectionFacts, RequestRecord};

/// A request that has ended, with everything around it.
pub struct Ended {
    /// The request: it came at 2023-11-14T22:13:20.007Z and took 12 ms.
    pub record: RequestRecord,
    /// Its connection.
    pub connection: ConnectionFacts,
    /// The proxy.
    pub node: Node,
    /// What was taken from heads.
    pub captures: Captures,
    /// Random numbers.
    pub random: Random,
}

impl Default for Ended {
    fn default() -> Self {
        let begun = Instant::now();
        let mut record =
            RequestRecord::new(UNIX_EPOCH + Duration::from_millis(1_700_000_000_007), begun, "HTTP/1.1");
        record.end = Some(begun + Duration::from_millis(12));
        let connection = ConnectionFacts {
            local: "127.0.1.1:8080".parse().unwrap(),
            remote: "127.0.2.1:40000".parse().unwrap(),
            server_name: "outbound_.8080_.stable_.payment".into(),
            peer_uri_sans: "spiffe://cluster.local/ns/a/sa/b".into(),
            peer_subject: "".into(),
            local_uri_sans: "".into(),
            tls_version: "TLSv1.3",
        };
        let node = Node {
            id: "n1".into(),
            cluster: "c1".into(),
            metadata: Default::default(),
            locality: Locality::default(),
        };
        Self { record, connection, node, captures: Captures::default(), random: Random::seeded(1) }
    }
}

impl Ended {
    /// What logs read.
    pub fn context(&self) -> LogContext<'_> {
        LogContext {
            record: &self.record,
            connection: &self.connection,
            own_name: "n/w",
            node: &self.node,
            captures: Some(&self.captures),
            caller: None,
            called: None,
            span: None,
            upstream_principals: None,
            random: &self.random,
        }
    }
}
