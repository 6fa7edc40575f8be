//! The hosts of a cluster at one moment, sorted into those that requests go to.
//!
//! Priorities, overprovisioning and panic are Envoy's: a priority gets the share of requests that its healthy hosts can
//! carry (times the overprovisioning factor), the rest goes to the next one, then to degraded hosts. Where all
//! priorities together cannot carry everything and too few hosts of one are healthy, its health is ignored (panic).

use std::sync::Arc;

use config::model::Health;

use super::host::Host;
use crate::telemetry::Random;

/// How health and priorities are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weighing {
    /// Below this share of healthy hosts, in percent, health is ignored; 0: never.
    pub panic_threshold: u32,
    /// How much more than its share a healthy host can carry, in percent (140 by default).
    pub overprovisioning: u32,
}

impl Default for Weighing {
    fn default() -> Self {
        Weighing { panic_threshold: 50, overprovisioning: 140 }
    }
}

/// Hosts among which a balancer picks.
#[derive(Debug, Default)]
pub struct HostGroup {
    /// At least one.
    pub hosts: Vec<Arc<Host>>,
    /// Health is ignored: too few hosts are healthy.
    pub panic: bool,
    /// Running sums of the weights; empty when all weights are equal.
    cumulative: Vec<u64>,
    /// Of a hundred requests those below this number, and not below that of the group before.
    below: u32,
}

impl HostGroup {
    fn new(hosts: Vec<Arc<Host>>, panic: bool, below: u32) -> Self {
        let equal = hosts.windows(2).all(|pair| pair[0].weight() == pair[1].weight());
        let mut sum = 0u64;
        let sums = hosts.iter().map(|host| {
            sum += u64::from(host.weight());
            sum
        });
        let cumulative = if equal { Vec::new() } else { sums.collect() };
        HostGroup { hosts, panic, cumulative, below }
    }

    /// Sum of the weights, when they differ.
    pub fn total_weight(&self) -> Option<u64> {
        self.cumulative.last().copied()
    }

    /// The host at which the running sum of weights passes `point`.
    pub fn by_weight(&self, point: u64) -> usize {
        self.cumulative.partition_point(|sum| *sum <= point)
    }
}

/// The hosts of a cluster at one moment. Immutable: when health changes, another one takes its place.
#[derive(Debug, Default)]
pub struct HostSet {
    /// All hosts, with their priorities.
    pub all: Vec<(u32, Arc<Host>)>,
    /// Where requests go, in the order of preference; empty when no host can be used.
    pub groups: Vec<HostGroup>,
    weighing: Weighing,
}

impl HostSet {
    /// A set of hosts with their priorities, as healthy as they are now.
    pub fn new(all: Vec<(u32, Arc<Host>)>, weighing: Weighing) -> Self {
        let last = all.iter().map(|(priority, _)| *priority).max().unwrap_or_default();
        let levels: Vec<Level> = (0..=last).map(|priority| Level::count(&all, priority)).collect();
        let mut below = 0;
        let groups = shares(&levels, weighing).into_iter().filter_map(|share| {
            let wanted = |host: &Host| share.class.is_none_or(|class| Class::of(host) == class);
            let hosts: Vec<_> = all
                .iter()
                .filter(|(priority, host)| *priority == share.priority && wanted(host))
                .map(|(_, host)| host.clone())
                .collect();
            below += share.percent;
            (!hosts.is_empty()).then(|| HostGroup::new(hosts, share.class.is_none(), below))
        });
        let groups = groups.collect();
        HostSet { all, groups, weighing }
    }

    /// The same hosts with the health that they have now.
    pub fn again(&self) -> Self {
        HostSet::new(self.all.clone(), self.weighing)
    }

    /// All hosts, whatever their health.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.all.iter().map(|(_, host)| host)
    }

    /// Those that requests go to, in the order of preference.
    pub fn usable(&self) -> Vec<Arc<Host>> {
        self.groups.iter().flat_map(|group| group.hosts.iter().cloned()).collect()
    }

    /// Position of the group that the next request goes to; `None`: no host can be used.
    pub fn group(&self, random: &Random) -> Option<usize> {
        let last = self.groups.len().checked_sub(1)?;
        if last == 0 {
            return Some(0);
        }
        let point = random.below(100) as u32;
        Some(self.groups.partition_point(|group| group.below <= point).min(last))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Healthy,
    Degraded,
    Unusable,
}

impl Class {
    fn of(host: &Host) -> Self {
        match host.endpoint.health {
            _ if host.runtime.monitor.is_ejected() => Class::Unusable,
            Health::Unknown | Health::Healthy => Class::Healthy,
            Health::Degraded => Class::Degraded,
            Health::Unhealthy | Health::Draining | Health::Timeout => Class::Unusable,
        }
    }
}

/// The hosts of one priority, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Level {
    total: u32,
    healthy: u32,
    degraded: u32,
}

impl Level {
    fn count(all: &[(u32, Arc<Host>)], priority: u32) -> Self {
        let mut level = Level::default();
        for (_, host) in all.iter().filter(|(of, _)| *of == priority) {
            level.total += 1;
            match Class::of(host) {
                Class::Healthy => level.healthy += 1,
                Class::Degraded => level.degraded += 1,
                Class::Unusable => {}
            }
        }
        level
    }

    /// What so many of the hosts can carry, in percent of all requests.
    fn carries(self, hosts: u32, overprovisioning: u32) -> u32 {
        let percent = u64::from(overprovisioning) * u64::from(hosts) / u64::from(self.total.max(1));
        percent.min(100) as u32
    }

    fn is_in_panic(self, threshold: u32) -> bool {
        let usable = u64::from(self.healthy) + u64::from(self.degraded);
        usable * 100 < u64::from(threshold) * u64::from(self.total) || (self.total == 0 && threshold > 0)
    }
}

/// A part of the requests; without a class all hosts of the priority are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    priority: u32,
    class: Option<Class>,
    percent: u32,
}

fn shares(levels: &[Level], weighing: Weighing) -> Vec<Share> {
    let over = weighing.overprovisioning;
    let classes = |class: Class| {
        (0u32..).zip(levels).map(move |(priority, level)| {
            let hosts = if class == Class::Healthy { level.healthy } else { level.degraded };
            (priority, class, level.carries(hosts, over))
        })
    };
    let carried: Vec<_> = classes(Class::Healthy).chain(classes(Class::Degraded)).collect();
    let total = carried.iter().map(|(_, _, percent)| *percent).sum::<u32>().min(100);
    let panics = |level: &Level| total < 100 && level.is_in_panic(weighing.panic_threshold);
    if total == 0 || levels.iter().all(panics) {
        return if levels.iter().all(panics) { in_total_panic(levels) } else { Vec::new() };
    }
    let mut left = 100;
    let mut shares: Vec<Share> = Vec::new();
    for (priority, class, percent) in carried {
        let percent = (percent * 100 / total).min(left);
        left -= percent;
        if percent > 0 {
            let in_panic = levels.get(priority as usize).is_some_and(panics);
            shares.push(Share { priority, class: (!in_panic).then_some(class), percent });
        }
    }
    // What rounding left over.
    if let Some(first) = shares.first_mut() {
        first.percent += left;
    }
    shares
}

/// Every priority gets requests by the number of its hosts, healthy or not.
fn in_total_panic(levels: &[Level]) -> Vec<Share> {
    let total: u64 = levels.iter().map(|level| u64::from(level.total)).sum();
    let mut left = 100;
    let mut shares: Vec<Share> = (0u32..)
        .zip(levels)
        .filter(|(_, level)| level.total > 0)
        .map(|(priority, level)| {
            let percent = (u64::from(level.total) * 100 / total.max(1)) as u32;
            left -= percent;
            Share { priority, class: None, percent }
        })
        .collect();
    if let Some(first) = shares.first_mut() {
        first.percent += left;
    }
    shares
}

#[cfg(test)]
#[path = "host_set_tests.rs"]
mod tests;
