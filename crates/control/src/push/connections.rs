//! The proxies that are connected, and how far each one is. The debug pages, the metrics and `tulle status` read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use translate::ProxyNode;

/// The most streams at a time.
pub const MOST_STREAMS: usize = 20_000;

/// How far a proxy is with one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It accepted the last response.
    Synced,
    /// It has not answered the last response yet.
    Waiting,
    /// It refused the last response.
    Rejected,
}

/// One type of one proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TypeReport {
    /// How far it is.
    pub state: State,
    /// Whether it wants everything of the type.
    pub all: bool,
    /// How many names it asked for.
    pub names: usize,
    /// How many resources it was sent and should have.
    pub resources: usize,
    /// Version of the set in the last response.
    pub sent_version: String,
    /// Version of the set that it last accepted; empty when it accepted none.
    pub acked_version: String,
    /// Why it refused the last response; absent when it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
    /// Responses sent on this stream.
    pub pushes: u64,
    /// Responses refused on this stream.
    pub rejections: u64,
    /// When the last response was sent, RFC 3339.
    pub pushed_at: String,
}

/// Why a proxy refused a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The proxy's reason.
    pub text: String,
    /// Version of the refused set.
    pub version: String,
    /// What was new or changed in it.
    pub resources: Vec<String>,
    /// When, RFC 3339.
    pub at: String,
}

/// One connected proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionReport {
    /// Its node id.
    pub node: String,
    /// Its namespace.
    pub namespace: String,
    /// Its workload.
    pub workload: String,
    /// Its service account.
    pub service_account: String,
    /// Which program it is: `tulle-proxy`, `envoy` or `grpc`.
    pub program: &'static str,
    /// The SPIFFE id of its certificate; absent on the plaintext port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Its address.
    pub address: String,
    /// `delta` or `state-of-the-world`.
    pub dialect: &'static str,
    /// Since when, RFC 3339.
    pub connected_at: String,
    /// Number of the push that it was last compared with; 0 for none.
    pub revision: u64,
    /// Its types by short name (`cds`, `eds`, `lds`, `rds`), or by URL where there is none.
    pub types: BTreeMap<String, TypeReport>,
    /// What is worth saying about its configuration.
    pub notes: Vec<String>,
    /// What it said of itself.
    #[serde(skip)]
    pub proxy: Arc<ProxyNode>,
}

/// All connected proxies.
#[derive(Debug, Default)]
pub struct Connections {
    next: AtomicU64,
    streams: Mutex<BTreeMap<u64, Arc<Mutex<ConnectionReport>>>>,
}

impl Connections {
    /// Registers a stream until the registration is dropped; None when there are too many.
    pub fn register(self: &Arc<Self>, report: ConnectionReport) -> Option<Registration> {
        let report = Arc::new(Mutex::new(report));
        let mut streams = held(&self.streams);
        if streams.len() >= MOST_STREAMS {
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        streams.insert(id, report.clone());
        Some(Registration { connections: self.clone(), id, report })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        held(&self.streams).len()
    }

    /// All of them now, the longest connected first.
    pub fn list(&self) -> Vec<ConnectionReport> {
        // The list is copied first, so that no stream waits for all the others to be copied.
        let streams: Vec<_> = held(&self.streams).values().cloned().collect();
        streams.iter().map(|report| held(report).clone()).collect()
    }
}

/// One registered stream.
#[derive(Debug)]
pub struct Registration {
    connections: Arc<Connections>,
    id: u64,
    report: Arc<Mutex<ConnectionReport>>,
}

impl Registration {
    /// Changes the report.
    pub fn update(&self, change: impl FnOnce(&mut ConnectionReport)) {
        change(&mut held(&self.report));
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        held(&self.connections.streams).remove(&self.id);
    }
}

/// Reports stay readable when a holder panicked: each field is whole by itself.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(node: &str) -> ConnectionReport {
        let grpc = protos::envoy::envoy::config::core::v3::Node {
            id: "sidecar~127.0.0.1~payment.production~cluster.local".to_owned(),
            user_agent_name: "grpc".to_owned(),
            ..Default::default()
        };
        ConnectionReport {
            node: node.to_owned(),
            namespace: "production".to_owned(),
            workload: "payment".to_owned(),
            service_account: "payment".to_owned(),
            program: "tulle-proxy",
            identity: None,
            address: "127.0.0.1:1".to_owned(),
            dialect: "delta",
            connected_at: String::new(),
            revision: 0,
            types: BTreeMap::new(),
            notes: Vec::new(),
            proxy: Arc::new(ProxyNode::from_node(&grpc).unwrap()),
        }
    }

    #[test]
    fn a_stream_is_listed_as_long_as_it_lives() {
        let connections = Arc::new(Connections::default());
        let first = connections.register(report("a")).unwrap();
        let second = connections.register(report("b")).unwrap();
        second.update(|report| report.revision = 7);
        drop(first);
        let list = connections.list();
        assert_eq!((list.len(), list[0].node.as_str(), list[0].revision), (1, "b", 7));
        drop(second);
        assert_eq!(connections.count(), 0);
    }

    #[test]
    fn there_is_a_limit() {
        let connections = Arc::new(Connections::default());
        let all: Vec<_> = (0..MOST_STREAMS).map(|_| connections.register(report("a")).unwrap()).collect();
        assert!(connections.register(report("b")).is_none());
        drop(all);
        assert!(connections.register(report("b")).is_some());
    }
}
