//! Which host of a cluster gets a request: one policy per file.
//!
//! Locality is not weighed: hosts of all localities of a priority count alike.

use std::sync::Arc;

use config::model::LbPolicy;

use super::host::{Host, HostSet};
use super::{
    balance_least_request as least_request, balance_random as random, balance_round_robin as round_robin,
};
use crate::telemetry::Random;

/// One worker's balancer of one cluster.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: round_robin::Turns,
}

impl Balancer {
    /// A host for the next request, other than those in `tried` where there is one. `None`: no usable host.
    pub fn pick(
        &self,
        policy: LbPolicy,
        hosts: &Arc<HostSet>,
        numbers: &Random,
        tried: &[u64],
    ) -> Option<Arc<Host>> {
        if hosts.usable.is_empty() {
            return None;
        }
        let position = match policy {
            LbPolicy::LeastRequest { choices } => least_request::pick(hosts, numbers, choices),
            LbPolicy::RoundRobin => self.turns.pick(hosts, numbers),
            LbPolicy::Random | LbPolicy::ClusterProvided => random::pick(hosts, numbers),
        };
        let first = hosts.usable.get(position)?;
        if !tried.contains(&first.runtime.id) {
            return Some(first.clone());
        }
        // After a failed attempt the next host in order that was not tried: an attempt on the same host is the last
        // resort.
        let count = hosts.usable.len();
        let others = (1..count).filter_map(|step| hosts.usable.get((position + step) % count));
        Some(others.into_iter().find(|host| !tried.contains(&host.runtime.id)).unwrap_or(first).clone())
    }
}
