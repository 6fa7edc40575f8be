//! Circuit breakers: what must hold for a cluster over all workers, pushes included.
//!
//! Reserve, then act: a guard counts as long as it lives. Where there is no limit each worker counts for itself, so that
//! nothing is shared; connections are always counted together, since opening one costs much more. A limit that comes by a
//! push counts what every worker runs already.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use arc_swap::ArcSwap;
use config::model::{CircuitBreakers, Priority, RetryBudget, Thresholds};

use super::bell::Bell;
use super::slots::{NO_LIMIT, Resource, Slots};
use crate::telemetry::Registry;
use crate::telemetry::registry::{Computed, Family, SimpleLabels};

/// What one priority of a cluster may use.
#[derive(Debug)]
pub struct PriorityLimits {
    /// Connections.
    pub connections: Arc<Slots>,
    pending: Resource,
    requests: Resource,
    retries: Resource,
    budget: Budget,
    track_remaining: AtomicBool,
}

/// A retry budget: percent in thousandths above, the least number below; all ones for none.
#[derive(Debug)]
struct Budget(AtomicU64);

/// A kind of thing that is counted beside connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Requests that wait for a connection.
    Pending,
    /// Requests that run.
    Requests,
    /// Retries that run.
    Retries,
}

/// The limits of a cluster.
#[derive(Debug)]
pub struct Limits {
    name: Arc<str>,
    default: PriorityLimits,
    high: PriorityLimits,
    workers: Mutex<Vec<Weak<Bell>>>,
    /// What each worker runs without a limit.
    unlimited: ArcSwap<Vec<Weak<Unlimited>>>,
    /// A limit has come while some of that may still run.
    catching_up: AtomicBool,
}

/// A worker's handle to limits: guards refer to it, so that they write no count of references that workers share.
#[derive(Debug)]
pub struct WorkerLimits {
    limits: Arc<Limits>,
    own: Arc<Unlimited>,
}

impl Deref for WorkerLimits {
    type Target = Limits;

    fn deref(&self) -> &Limits {
        &self.limits
    }
}

/// What one worker took while there was no limit, by priority and kind. Only that worker writes.
#[derive(Debug, Default)]
struct Unlimited([[AtomicU32; 3]; 2]);

impl Unlimited {
    fn of(&self, priority: Priority, kind: Kind) -> &AtomicU32 {
        &self.0[usize::from(priority == Priority::High)][kind as usize]
    }

    /// Of the one writer: no other can come between.
    fn change(&self, priority: Priority, kind: Kind, change: impl FnOnce(u32) -> u32) {
        let count = self.of(priority, kind);
        count.store(change(count.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
}

/// Counts as one of its kind while it lives. Stays on its worker.
#[derive(Debug)]
#[must_use = "it counts only while it lives"]
pub struct Reserved {
    limits: Rc<WorkerLimits>,
    priority: Priority,
    kind: Kind,
    /// It counts for all workers, not only for its own.
    shared: bool,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if self.shared {
            self.limits.of(self.priority).resource(self.kind).put();
        } else {
            self.limits.own.change(self.priority, self.kind, |count| count.saturating_sub(1));
        }
    }
}

impl Limits {
    /// The limits of a new cluster.
    pub fn new(name: &Arc<str>, config: &CircuitBreakers) -> Arc<Self> {
        Arc::new(Limits {
            name: name.clone(),
            default: PriorityLimits::new(&config.default),
            high: PriorityLimits::new(&config.high),
            workers: Mutex::default(),
            unlimited: ArcSwap::default(),
            catching_up: AtomicBool::new(false),
        })
    }

    /// Takes over the limits of a push; what is in use stays in use.
    pub fn update(&self, config: &CircuitBreakers) {
        self.default.update(&config.default);
        self.high.update(&config.high);
        self.catching_up.store(true, Ordering::Release);
    }

    /// What all workers took while there was no limit.
    fn taken_unlimited(&self, priority: Priority, kind: Kind) -> u32 {
        let workers = self.unlimited.load();
        let counts = workers.iter().filter_map(Weak::upgrade);
        counts.map(|own| own.of(priority, kind).load(Ordering::Relaxed)).sum()
    }

    /// Whether nothing runs any more that was begun without a limit where there is one now.
    fn has_caught_up(&self) -> bool {
        [Priority::Default, Priority::High].into_iter().all(|priority| {
            [Kind::Pending, Kind::Requests, Kind::Retries].into_iter().all(|kind| {
                let unlimited = self.of(priority).limit_of(kind).is_none();
                unlimited || self.taken_unlimited(priority, kind) == 0
            })
        })
    }

    /// Those of one priority.
    pub fn of(&self, priority: Priority) -> &PriorityLimits {
        match priority {
            Priority::Default => &self.default,
            Priority::High => &self.high,
        }
    }

    /// Adds a worker that is told when others wait for connections of this cluster. With the first one the gauges are
    /// shown.
    pub fn join(self: &Arc<Self>, bell: &Arc<Bell>, registry: &Registry) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::downgrade(bell));
        if workers.len() == 1 {
            let source = Arc::downgrade(self);
            registry.compute(source);
        }
    }

    /// Asks every worker to close what it does not need.
    pub fn ask_for_connections(&self) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|bell| match bell.upgrade() {
            Some(bell) => {
                bell.ring();
                true
            }
            None => false,
        });
    }

    /// Whether a connection of this cluster that nobody uses should make place.
    pub fn wants_place(&self) -> bool {
        self.default.connections.has_line() || self.high.connections.has_line()
    }

    /// Since when the first of those waits who need the place of a connection.
    pub fn first_since(&self) -> Option<Instant> {
        [&self.default, &self.high].into_iter().filter_map(|limits| limits.connections.first_since()).min()
    }
}

impl WorkerLimits {
    /// A handle of the calling worker.
    pub fn new(limits: &Arc<Limits>) -> Rc<Self> {
        let own = Arc::default();
        limits.unlimited.rcu(|workers| {
            let alive = workers.iter().filter(|worker| worker.strong_count() > 0).cloned();
            alive.chain([Arc::downgrade(&own)]).collect::<Vec<_>>()
        });
        Rc::new(WorkerLimits { limits: limits.clone(), own })
    }

    /// Reserves one of `kind`; `None`: the limit is reached.
    pub fn reserve(self: &Rc<Self>, priority: Priority, kind: Kind) -> Option<Reserved> {
        let limits = self.of(priority);
        let guard = |shared| Reserved { limits: self.clone(), priority, kind, shared };
        let Some(limit) = limits.limit_of(kind) else {
            self.own.change(priority, kind, |count| count.saturating_add(1));
            return Some(guard(false));
        };
        let before = if self.catching_up.load(Ordering::Acquire) {
            if self.has_caught_up() {
                self.catching_up.store(false, Ordering::Release);
            }
            self.taken_unlimited(priority, kind)
        } else {
            0
        };
        // Without a limit, but for a budget's sake, nothing is taken away from it.
        let left = if limit == NO_LIMIT { limit } else { limit.saturating_sub(before) };
        limits.resource(kind).take_below(left).then(|| guard(true))
    }
}

impl PriorityLimits {
    fn new(config: &Thresholds) -> Self {
        PriorityLimits {
            connections: Slots::new(config.max_connections),
            pending: Resource::new(config.max_pending_requests),
            requests: Resource::new(config.max_requests),
            retries: Resource::new(config.max_retries),
            budget: Budget::new(config.retry_budget),
            track_remaining: AtomicBool::new(config.track_remaining),
        }
    }

    fn update(&self, config: &Thresholds) {
        self.connections.set_limit(config.max_connections);
        self.pending.set_limit(config.max_pending_requests);
        self.requests.set_limit(config.max_requests);
        self.retries.set_limit(config.max_retries);
        self.budget.set(config.retry_budget);
        self.track_remaining.store(config.track_remaining, Ordering::Relaxed);
    }

    /// How many there may be; `None`: so many as come, and nobody asks how many there are. A budget is a share of what runs
    /// and waits: then these are counted, limited or not.
    fn limit_of(&self, kind: Kind) -> Option<u32> {
        let limit = match kind {
            Kind::Pending => self.pending.limit(),
            Kind::Requests => self.requests.limit(),
            Kind::Retries => self.retry_limit(),
        };
        let counted = limit != NO_LIMIT || (kind != Kind::Retries && self.budget.get().is_some());
        counted.then_some(limit)
    }

    fn resource(&self, kind: Kind) -> &Resource {
        match kind {
            Kind::Pending => &self.pending,
            Kind::Requests => &self.requests,
            Kind::Retries => &self.retries,
        }
    }

    /// Retries that may run now: the budget's share of what runs and waits, else `max_retries`.
    pub fn retry_limit(&self) -> u32 {
        match self.budget.get() {
            None => self.retries.limit(),
            Some(budget) => {
                let active = f64::from(self.requests.used()) + f64::from(self.pending.used());
                budget.min_concurrency.max((budget.percent / 100.0 * active) as u32)
            }
        }
    }

    /// The line of Envoy's gauges: suffix of the name, how many are left.
    fn left(&self) -> [(usize, u32); 4] {
        let left = |resource: &Resource| resource.limit().saturating_sub(resource.used());
        let retries = self.retry_limit().saturating_sub(self.retries.used());
        [
            (0, left(self.connections.resource())),
            (1, left(&self.pending)),
            (2, left(&self.requests)),
            (3, retries),
        ]
    }
}

impl Budget {
    const NONE: u64 = u64::MAX;

    fn new(budget: Option<RetryBudget>) -> Self {
        let new = Budget(AtomicU64::new(Self::NONE));
        new.set(budget);
        new
    }

    fn set(&self, budget: Option<RetryBudget>) {
        let packed = budget.map_or(Self::NONE, |budget| {
            let thousandths = (budget.percent * 1_000.0) as u64;
            (thousandths << 32) | u64::from(budget.min_concurrency)
        });
        self.0.store(packed, Ordering::Relaxed);
    }

    fn get(&self) -> Option<RetryBudget> {
        let packed = self.0.load(Ordering::Relaxed);
        (packed != Self::NONE).then(|| RetryBudget {
            percent: (packed >> 32) as f64 / 1_000.0,
            min_concurrency: (packed & u64::from(u32::MAX)) as u32,
        })
    }
}

/// Names and helps of the gauges of one priority: whether a breaker is open, and how much is left.
macro_rules! gauges {
    ($open:ident, $left:ident, $priority:literal) => {
        const $open: [Family; 4] = [
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_cx_open")),
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_rq_pending_open")),
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_rq_open")),
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_rq_retry_open")),
        ];
        const $left: [Family; 4] = [
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_remaining_cx")),
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_remaining_pending")),
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_remaining_rq")),
            gauges!(concat!("envoy_cluster_circuit_breakers_", $priority, "_remaining_retries")),
        ];
    };
    ($name:expr) => {
        Family { name: $name, help: "State of the circuit breaker.", kind: "gauge" }
    };
}

gauges!(DEFAULT_OPEN, DEFAULT_LEFT, "default");
gauges!(HIGH_OPEN, HIGH_LEFT, "high");

impl Computed for Limits {
    fn values(&self, add: &mut dyn FnMut(&'static Family, SimpleLabels, i128)) {
        let labels = || vec![("envoy_cluster_name", self.name.to_string())];
        for (limits, open, remaining) in
            [(&self.default, &DEFAULT_OPEN, &DEFAULT_LEFT), (&self.high, &HIGH_OPEN, &HIGH_LEFT)]
        {
            for (index, left) in limits.left() {
                add(&open[index], labels(), i128::from(left == 0));
                if limits.track_remaining.load(Ordering::Relaxed) {
                    add(&remaining[index], labels(), i128::from(left));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
