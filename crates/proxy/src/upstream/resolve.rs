//! Resolves the names of `STRICT_DNS` clusters, off the request path.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::model::Discovery;

use super::cluster::{Cluster, ClusterSet};

/// How long one name may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);
/// How soon a new cluster is noticed.
const TICK: Duration = Duration::from_millis(200);

/// Resolves the names of every `STRICT_DNS` cluster once, so that a new set serves from its first request.
pub async fn resolve_all(clusters: &ClusterSet) {
    for cluster in clusters.iter().filter(|cluster| refresh(cluster).is_some()) {
        resolve(cluster).await;
    }
}

/// Keeps the names of `STRICT_DNS` clusters resolved, for ever; `current` gives the clusters in use. For the main
/// runtime: the system's resolver blocks a thread of its pool.
pub async fn run(current: impl Fn() -> Vec<Arc<Cluster>>) {
    let mut due: HashMap<u64, Instant> = HashMap::new();
    loop {
        let clusters = current();
        due.retain(|id, _| clusters.iter().any(|cluster| cluster.identity.id == *id));
        for cluster in clusters {
            let Some(every) = refresh(&cluster) else { continue };
            let id = cluster.identity.id;
            if due.get(&id).is_none_or(|at| *at <= Instant::now()) {
                resolve(&cluster).await;
                due.insert(id, Instant::now() + every);
            }
        }
        tokio::time::sleep(TICK).await;
    }
}

fn refresh(cluster: &Cluster) -> Option<Duration> {
    match &cluster.config.discovery {
        Discovery::StrictDns { refresh, .. } => Some(*refresh),
        _ => None,
    }
}

async fn resolve(cluster: &Cluster) {
    let mut resolved: BTreeMap<(Arc<str>, u16), Vec<SocketAddr>> = BTreeMap::new();
    for (host, port) in cluster.names() {
        let answer = tokio::time::timeout(LOOKUP_LIMIT, tokio::net::lookup_host((&*host, port))).await;
        match answer.map(|found| found.map(Vec::from_iter)) {
            Ok(Ok(mut addresses)) => {
                addresses.sort();
                addresses.dedup();
                resolved.insert((host, port), addresses);
            }
            // A resolver that fails says nothing about the hosts: the last good answer stays.
            Ok(Err(error)) => {
                tracing::warn!(cluster = &*cluster.identity.name, %host, "the name cannot be resolved: {error}");
            }
            Err(_) => {
                tracing::warn!(cluster = &*cluster.identity.name, %host, "the name was not resolved within 5 s");
            }
        }
    }
    cluster.set_resolved(&resolved);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::{assignment, cluster, endpoint, environment};
    use config::model::{Address, Endpoint};

    #[tokio::test]
    async fn a_name_gets_the_addresses_of_the_system() {
        let mut endpoint = Endpoint::clone(&endpoint("127.0.0.1:1", 1));
        endpoint.address = Address::Name { host: "localhost".into(), port: 77 };
        let mut config = cluster("dns");
        config.discovery = Discovery::StrictDns {
            assignment: assignment("dns", vec![Arc::new(endpoint)]),
            refresh: Duration::from_secs(5),
        };
        let (set, _) =
            ClusterSet::build(&ClusterSet::default(), &[Arc::new(config)], &BTreeMap::new(), &environment());
        resolve_all(&set).await;
        let hosts = set.get("dns").unwrap().hosts();
        assert!(hosts.usable().iter().any(|host| &*host.address_text == "127.0.0.1:77"), "{hosts:?}");
    }
}
