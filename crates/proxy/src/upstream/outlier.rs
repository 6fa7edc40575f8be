//! Outlier detection: failures are counted per host over all workers, and the worker that counts the last one ejects the
//! host at once. Hosts return, and rates are judged, by [`outlier_sweep`](super::outlier_sweep).
//!
//! Nothing here locks: an ejection first reserves its place among those that the cluster allows, then acts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use config::model::OutlierDetection;
use tokio::sync::Notify;

use super::cluster::Cluster;
use super::host::Host;
use super::outlier_stats::OutlierStats;
use crate::telemetry::Random;

/// What came of a request, or of an attempt to connect. What the mesh itself causes (no route, overflow, a client that
/// went away) is never reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with that status; a gRPC status as the HTTP status that it stands for.
    Status(u16),
    /// A connection was made; a request follows, whose outcome is reported too.
    Connected,
    /// A connection was made, and nothing that follows is understood (TCP).
    Reached,
    /// No connection could be made, or it was reset before an answer began.
    Failed,
    /// The answer took too long.
    TimedOut,
}

/// Why a host is an outlier; the text is Envoy's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Cause {
    /// Answers of 5xx in a row.
    Consecutive5xx,
    /// Answers of 502, 503, 504 in a row.
    ConsecutiveGatewayFailure,
    /// Failures of our side in a row.
    ConsecutiveLocalOriginFailure,
    /// A rate of success far below the others'.
    SuccessRate,
    /// The same for failures of our side.
    SuccessRateLocalOrigin,
    /// A rate of failure above the limit.
    FailurePercentage,
    /// The same for failures of our side.
    FailurePercentageLocalOrigin,
}

impl Cause {
    /// All causes, in the order of their numbers.
    pub const ALL: [Cause; 7] = [
        Cause::Consecutive5xx,
        Cause::ConsecutiveGatewayFailure,
        Cause::ConsecutiveLocalOriginFailure,
        Cause::SuccessRate,
        Cause::SuccessRateLocalOrigin,
        Cause::FailurePercentage,
        Cause::FailurePercentageLocalOrigin,
    ];

    /// Envoy's name in events.
    pub const fn text(self) -> &'static str {
        match self {
            Cause::Consecutive5xx => "CONSECUTIVE_5XX",
            Cause::ConsecutiveGatewayFailure => "CONSECUTIVE_GATEWAY_FAILURE",
            Cause::ConsecutiveLocalOriginFailure => "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
            Cause::SuccessRate => "SUCCESS_RATE",
            Cause::SuccessRateLocalOrigin => "SUCCESS_RATE_LOCAL_ORIGIN",
            Cause::FailurePercentage => "FAILURE_PERCENTAGE",
            Cause::FailurePercentageLocalOrigin => "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
        }
    }

    /// How likely it leads to an ejection, in percent.
    pub fn enforcing(self, rules: &OutlierDetection) -> u32 {
        match self {
            Cause::Consecutive5xx => rules.consecutive_5xx.enforcing,
            Cause::ConsecutiveGatewayFailure => rules.consecutive_gateway_failure.enforcing,
            Cause::ConsecutiveLocalOriginFailure => rules.consecutive_local_origin_failure.enforcing,
            Cause::SuccessRate => rules.success_rate.enforcing,
            Cause::SuccessRateLocalOrigin => rules.success_rate.enforcing_local_origin,
            Cause::FailurePercentage => rules.failure_percentage.enforcing,
            Cause::FailurePercentageLocalOrigin => rules.failure_percentage.enforcing_local_origin,
        }
    }
}

/// What all hosts of a cluster share. Lives as long as the cluster is configured.
#[derive(Debug)]
pub struct Outliers {
    /// Times of the hosts count from here.
    pub(super) epoch: Instant,
    /// Hosts ejected now.
    active: Arc<AtomicU64>,
    /// Most that may be.
    limit: AtomicU64,
    /// Somebody's health has changed: the host set is to be built anew.
    changed: AtomicBool,
    /// Wakes whoever builds it.
    wake: Arc<Notify>,
    /// Counters, once a configuration has asked for detection.
    pub(super) stats: OutlierStats,
}

impl Outliers {
    /// No host is ejected; `wake` is told when that changes.
    pub fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Outliers {
            epoch: Instant::now(),
            active: Arc::default(),
            limit: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            wake,
            stats: OutlierStats::default(),
        })
    }

    /// Hosts ejected now.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::Acquire)
    }

    pub(super) fn active_cell(&self) -> &Arc<AtomicU64> {
        &self.active
    }

    /// Milliseconds since the cluster came.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How many of `hosts` may be ejected, `usable` of them being healthy as far as the control plane knows.
    ///
    /// As Envoy, but the last usable host stays unless the configuration asks for it (`max_ejection_percent: 100`, or
    /// `always_eject_one_host`): a service that answers badly is better than none.
    pub fn set_limit(&self, rules: Option<&OutlierDetection>, hosts: usize, usable: usize) {
        let limit = rules.map_or(0, |rules| {
            let share = hosts as u64 * u64::from(rules.max_ejection_percent) / 100;
            let share = if rules.always_eject_one_host { share.max(1) } else { share };
            let last_too = rules.always_eject_one_host || rules.max_ejection_percent == 100;
            if last_too { share } else { share.min((usable as u64).saturating_sub(1)) }
        });
        self.limit.store(limit, Ordering::Release);
    }

    fn reserve(&self) -> bool {
        let limit = self.limit.load(Ordering::Acquire);
        let more = |active| (active < limit).then_some(active + 1);
        self.active.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok()
    }

    fn release(&self) {
        self.active.fetch_sub(1, Ordering::AcqRel);
    }

    /// The host set is to be built anew, soon.
    pub(super) fn change(&self) {
        self.changed.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Whether it is; asked once per change.
    pub(super) fn take_change(&self) -> bool {
        self.changed.swap(false, Ordering::AcqRel)
    }
}

/// A host's record of failures. Shared by all workers; lives as long as the host is in its cluster.
#[derive(Debug)]
pub struct HostMonitor {
    outliers: Arc<Outliers>,
    consecutive_5xx: AtomicU32,
    consecutive_gateway_failure: AtomicU32,
    consecutive_local_origin_failure: AtomicU32,
    pub(super) answers: Rate,
    pub(super) local: Rate,
    /// When its ejection is over, in the cluster's milliseconds; 0: it is not ejected.
    ejected_until: AtomicU64,
    /// Ejections so far.
    ejections: AtomicU32,
    /// Ejections that lengthen the next one.
    multiplier: AtomicU32,
    cause: AtomicU8,
    /// Its ejection was not told yet.
    untold: AtomicBool,
}

/// Requests and successes since the last sweep.
#[derive(Debug, Default)]
pub(super) struct Rate {
    total: AtomicU32,
    successes: AtomicU32,
}

impl Rate {
    fn count(&self, success: bool) {
        self.total.fetch_add(1, Ordering::Relaxed);
        if success {
            self.successes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests and the share of successes in percent; begins anew.
    pub(super) fn take(&self) -> (u32, f64) {
        let total = self.total.swap(0, Ordering::Relaxed);
        let successes = self.successes.swap(0, Ordering::Relaxed).min(total);
        (total, f64::from(successes) * 100.0 / f64::from(total.max(1)))
    }
}

/// One more failure in a row; true for exactly the one that reaches the threshold, which begins a new row.
fn one_more(counter: &AtomicU32, threshold: u32) -> bool {
    if threshold == 0 {
        return false;
    }
    let next = |count: u32| Some(if count + 1 >= threshold { 0 } else { count + 1 });
    let before = counter.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    before.is_ok_and(|before| before + 1 >= threshold)
}

/// Ends a row; costs a read where there is none.
fn end(counter: &AtomicU32) {
    if counter.load(Ordering::Relaxed) != 0 {
        counter.store(0, Ordering::Release);
    }
}

impl HostMonitor {
    /// A host that did nothing wrong yet.
    pub fn new(outliers: Arc<Outliers>) -> Self {
        HostMonitor {
            outliers,
            consecutive_5xx: AtomicU32::new(0),
            consecutive_gateway_failure: AtomicU32::new(0),
            consecutive_local_origin_failure: AtomicU32::new(0),
            answers: Rate::default(),
            local: Rate::default(),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            multiplier: AtomicU32::new(0),
            cause: AtomicU8::new(0),
            untold: AtomicBool::new(false),
        }
    }

    /// Whether it is out.
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Acquire) != 0
    }

    /// Ejections so far.
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// How long it is still out, at least; `None`: it is not.
    pub fn remaining(&self) -> Option<Duration> {
        let until = self.ejected_until.load(Ordering::Acquire);
        (until != 0).then(|| Duration::from_millis(until.saturating_sub(self.outliers.now())))
    }

    /// Counts; up to two rows may be full at once.
    fn count(&self, rules: &OutlierDetection, outcome: Outcome) -> [Option<Cause>; 2] {
        let split = rules.split_local_origin;
        match outcome {
            Outcome::Status(status) => self.answered(rules, status),
            // Without the split, a failure of our side counts as the answer that the client gets.
            Outcome::Failed if !split => self.answered(rules, 503),
            Outcome::TimedOut if !split => self.answered(rules, 504),
            Outcome::Reached if !split => self.answered(rules, 200),
            Outcome::Connected if !split => [None, None],
            Outcome::Connected | Outcome::Reached => {
                if rules.success_rate.enforcing_local_origin > 0
                    || rules.failure_percentage.enforcing_local_origin > 0
                {
                    self.local.count(true);
                }
                end(&self.consecutive_local_origin_failure);
                [None, None]
            }
            Outcome::Failed | Outcome::TimedOut => {
                self.local.count(false);
                let threshold = rules.consecutive_local_origin_failure.threshold;
                let full = one_more(&self.consecutive_local_origin_failure, threshold);
                [full.then_some(Cause::ConsecutiveLocalOriginFailure), None]
            }
        }
    }

    fn answered(&self, rules: &OutlierDetection, status: u16) -> [Option<Cause>; 2] {
        let failed = (500..600).contains(&status);
        // Nobody reads a rate that nothing follows from.
        if rules.success_rate.enforcing > 0 || rules.failure_percentage.enforcing > 0 {
            self.answers.count(!failed);
        }
        if !failed {
            end(&self.consecutive_5xx);
            end(&self.consecutive_gateway_failure);
            return [None, None];
        }
        let gateway = if matches!(status, 502..=504) {
            one_more(&self.consecutive_gateway_failure, rules.consecutive_gateway_failure.threshold)
        } else {
            end(&self.consecutive_gateway_failure);
            false
        };
        let any = one_more(&self.consecutive_5xx, rules.consecutive_5xx.threshold);
        [gateway.then_some(Cause::ConsecutiveGatewayFailure), any.then_some(Cause::Consecutive5xx)]
    }

    /// Takes the host out, if the cluster allows and the dice say so.
    pub(super) fn eject(&self, rules: &OutlierDetection, cause: Cause, random: &Random) {
        if self.is_ejected() {
            return;
        }
        let outliers = &self.outliers;
        outliers.stats.detected(cause);
        if !outliers.reserve() {
            outliers.stats.overflow();
            return;
        }
        if random.below(100) >= u64::from(cause.enforcing(rules)) {
            outliers.release();
            return;
        }
        let (base, max) = (rules.base_ejection_time, rules.max_ejection_time);
        let raise = |times: u32| (base.saturating_mul(times) < max + base).then_some(times + 1);
        let raised = self.multiplier.fetch_update(Ordering::AcqRel, Ordering::Acquire, raise);
        let times = match raised {
            Ok(before) => before + 1,
            Err(at_most) => at_most,
        };
        let jitter = random.below(milliseconds(rules.max_ejection_time_jitter) + 1);
        let until = outliers.now() + milliseconds(base.saturating_mul(times).min(max)) + jitter;
        // Never 0, which stands for "not ejected".
        let won = self.ejected_until.compare_exchange(0, until.max(1), Ordering::AcqRel, Ordering::Acquire);
        if won.is_err() {
            if raised.is_ok() {
                self.multiplier.fetch_sub(1, Ordering::AcqRel);
            }
            outliers.release();
            return;
        }
        self.cause.store(cause as u8, Ordering::Release);
        self.ejections.fetch_add(1, Ordering::AcqRel);
        self.untold.store(true, Ordering::Release);
        outliers.stats.enforced(cause);
        outliers.change();
    }

    /// At a sweep: lets the host return when its time is over (true), else lets its past fade.
    pub(super) fn sweep(&self) -> bool {
        match self.ejected_until.load(Ordering::Acquire) {
            0 => {
                let fade = |times: u32| times.checked_sub(1);
                let _ = self.multiplier.fetch_update(Ordering::AcqRel, Ordering::Acquire, fade);
                false
            }
            until => until <= self.outliers.now() && self.uneject(),
        }
    }

    /// Takes the host back in; false: it was not out.
    pub fn uneject(&self) -> bool {
        if self.ejected_until.swap(0, Ordering::AcqRel) == 0 {
            return false;
        }
        for row in
            [&self.consecutive_5xx, &self.consecutive_gateway_failure, &self.consecutive_local_origin_failure]
        {
            row.store(0, Ordering::Release);
        }
        self.outliers.release();
        self.outliers.change();
        true
    }

    /// The cause of an ejection that was not told yet.
    pub(super) fn take_untold(&self) -> Option<Cause> {
        if !self.untold.swap(false, Ordering::AcqRel) {
            return None;
        }
        Cause::ALL.get(usize::from(self.cause.load(Ordering::Acquire))).copied()
    }
}

impl Drop for HostMonitor {
    fn drop(&mut self) {
        // A host that leaves the cluster makes room for another ejection.
        if *self.ejected_until.get_mut() != 0 {
            self.outliers.release();
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Counts what came of a request or a connection, and ejects the host when it is too much.
pub fn report(cluster: &Cluster, host: &Host, outcome: Outcome, random: &Random) {
    let Some(rules) = &cluster.config.outlier_detection else { return };
    let monitor = &host.runtime.monitor;
    for cause in monitor.count(rules, outcome).into_iter().flatten() {
        monitor.eject(rules, cause, random);
    }
}

#[cfg(test)]
#[path = "outlier_tests.rs"]
mod tests;
