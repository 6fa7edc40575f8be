//! How many hosts the clusters have, by Envoy's names: counted when somebody scrapes.

use std::sync::Arc;

use config::model::Health;

use crate::route::LiveRouting;
use crate::telemetry::families;
use crate::telemetry::registry::{Computed, Family, SimpleLabels};

/// The clusters in use.
#[derive(Debug)]
pub struct Membership(pub Arc<LiveRouting>);

impl Computed for Membership {
    fn values(&self, add: &mut dyn FnMut(&'static Family, SimpleLabels, i128)) {
        let routing = self.0.load();
        let mut clusters = 0;
        for cluster in routing.clusters.iter() {
            clusters += 1;
            let (mut total, mut healthy, mut degraded) = (0, 0, 0);
            for host in cluster.hosts().hosts() {
                total += 1;
                if host.runtime.monitor.is_ejected() {
                    continue;
                }
                match host.endpoint.health {
                    Health::Unknown | Health::Healthy => healthy += 1,
                    Health::Degraded => degraded += 1,
                    Health::Unhealthy | Health::Draining | Health::Timeout => {}
                }
            }
            let labels = || vec![("envoy_cluster_name", cluster.identity.name.to_string())];
            add(&families::CLUSTER_MEMBERSHIP_TOTAL, labels(), total);
            add(&families::CLUSTER_MEMBERSHIP_HEALTHY, labels(), healthy);
            add(&families::CLUSTER_MEMBERSHIP_DEGRADED, labels(), degraded);
        }
        add(&families::CLUSTERS_ACTIVE, Vec::new(), clusters);
    }
}
