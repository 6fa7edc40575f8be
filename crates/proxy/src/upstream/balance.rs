//! Which host of a cluster gets a request: one policy per file.
//!
//! Locality is not weighed: hosts of all localities of a priority count alike.

use std::cell::Cell;
use std::sync::Arc;

use config::model::LbPolicy;

use super::host::Host;
use super::host_set::{HostGroup, HostSet};
use super::{
    balance_least_request as least_request, balance_random as random, balance_round_robin as round_robin,
};
use crate::telemetry::Random;

/// One worker's balancer of one cluster.
#[derive(Debug, Default)]
pub struct Balancer {
    turns: round_robin::Turns,
}

/// Most hosts that are looked at for one that is better than the balancer's own choice.
const LOOK: usize = 64;

/// Hosts that a request has tried, and how many of them are passed over for another one.
#[derive(Debug, Clone, Copy)]
pub struct Tried<'a> {
    /// Ids of their runtime state.
    pub hosts: &'a [u64],
    /// So many are passed over; then the next one is taken even if it was tried.
    pub attempts: u32,
}

impl Tried<'_> {
    /// The first try.
    pub const NONE: Tried<'static> = Tried { hosts: &[], attempts: 0 };
}

impl Balancer {
    /// A host for the next request, other than those tried where there is one. `None`: no usable host.
    ///
    /// Ejections act at once, although the set of hosts follows a moment later; hosts that cannot be reached and hosts
    /// that were tried are passed over while there are others.
    pub fn pick(
        &self,
        policy: LbPolicy,
        hosts: &Arc<HostSet>,
        numbers: &Random,
        tried: Tried<'_>,
    ) -> Option<Arc<Host>> {
        let chosen = hosts.group(numbers)?;
        let group = hosts.groups.get(chosen)?;
        let position = match policy {
            LbPolicy::LeastRequest { choices } => least_request::pick(group, numbers, choices),
            LbPolicy::RoundRobin => self.turns.pick(hosts, chosen, numbers),
            LbPolicy::Random | LbPolicy::ClusterProvided => random::pick(group, numbers),
        };
        let passed = Cell::new(0);
        let untried = |host: &Host| {
            !tried.hosts.contains(&host.runtime.id) || passed.replace(passed.get() + 1) >= tried.attempts
        };
        let in_order = |group: &'_ HostGroup, from: usize| {
            let count = group.hosts.len();
            (0..count.min(LOOK)).map(move |step| (from + step) % count)
        };
        let fits = |group: &HostGroup, host: &Host| group.panic || !host.runtime.monitor.is_ejected();
        let find = |group: &HostGroup, from: usize, wanted: &dyn Fn(&Host) -> bool| {
            in_order(group, from)
                .filter_map(|at| group.hosts.get(at))
                .find(|host| fits(group, host) && wanted(host))
                .cloned()
        };
        let best = |host: &Host| !host.runtime.reach.is_avoided() && untried(host);
        find(group, position, &best)
            .or_else(|| hosts.groups.iter().find_map(|other| find(other, 0, &best)))
            // An attempt on a host that could not be reached is better than one on a host that was tried.
            .or_else(|| find(group, position, &|host| !tried.hosts.contains(&host.runtime.id)))
            .or_else(|| find(group, position, &|_| true))
    }
}
