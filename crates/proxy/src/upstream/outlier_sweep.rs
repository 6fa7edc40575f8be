//! What outlier detection does off the request path, in one supervised task: at each interval of a cluster hosts return
//! whose time is over, and rates are judged; and whenever a host's health has changed, the cluster's hosts are sorted
//! anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::model::OutlierDetection;

use super::cluster::Cluster;
use super::host::Host;
use super::outlier::{Cause, HostMonitor, Rate};
use super::outlier_events::{Action, OutlierEvent, OutlierEvents};
use crate::telemetry::Random;

/// How soon a new cluster is noticed.
const TICK: Duration = Duration::from_millis(500);

/// Sweeps for ever; `current` gives the clusters in use.
pub async fn run(current: impl Fn() -> Vec<Arc<Cluster>>, events: Arc<OutlierEvents>) {
    let random = Random::from_system();
    let mut due: HashMap<u64, Instant> = HashMap::new();
    loop {
        let mut next = Instant::now() + TICK;
        let clusters = current();
        due.retain(|id, _| clusters.iter().any(|cluster| cluster.identity.id == *id));
        for cluster in &clusters {
            if let Some(rules) = &cluster.config.outlier_detection {
                let at = due.entry(cluster.identity.id).or_insert_with(|| first_sweep(cluster, rules));
                if *at <= Instant::now() {
                    sweep(cluster, rules, &events, &random);
                    // A sweep that comes late does not make the next one come early.
                    *at = Instant::now() + rules.interval;
                }
                next = next.min(*at);
            }
            settle(cluster, &events);
        }
        let _ = tokio::time::timeout_at(next.into(), events.wake().notified()).await;
    }
}

/// Sweeps count from the moment when the cluster came.
fn first_sweep(cluster: &Cluster, rules: &OutlierDetection) -> Instant {
    let epoch = cluster.identity.outliers.epoch;
    let now = Instant::now();
    let over = now.saturating_duration_since(epoch).as_nanos() % rules.interval.as_nanos().max(1);
    now + rules.interval - Duration::from_nanos(u64::try_from(over).unwrap_or_default())
}

/// Tells of new ejections, and sorts the hosts anew where something changed.
pub(super) fn settle(cluster: &Cluster, events: &OutlierEvents) {
    if !cluster.identity.outliers.take_change() {
        return;
    }
    cluster.refresh_health();
    for host in cluster.hosts().hosts() {
        let monitor = &host.runtime.monitor;
        if let Some(cause) = monitor.take_untold() {
            let time = monitor.remaining().unwrap_or_default();
            events.add(event(cluster, host, Action::Ejected { cause, time }));
        }
    }
}

/// One sweep of a cluster.
pub(super) fn sweep(cluster: &Cluster, rules: &OutlierDetection, events: &OutlierEvents, random: &Random) {
    let hosts = cluster.hosts();
    // Told before their end is.
    settle(cluster, events);
    for host in hosts.hosts() {
        if host.runtime.monitor.sweep() {
            events.add(event(cluster, host, Action::Returned));
        }
    }
    let all: Vec<&Arc<Host>> = hosts.hosts().collect();
    judge(&all, rules, |monitor| &monitor.answers, (Cause::SuccessRate, Cause::FailurePercentage), random);
    let local = (Cause::SuccessRateLocalOrigin, Cause::FailurePercentageLocalOrigin);
    judge(&all, rules, |monitor| &monitor.local, local, random);
}

fn event(cluster: &Cluster, host: &Host, action: Action) -> OutlierEvent {
    OutlierEvent {
        at: SystemTime::now(),
        cluster: cluster.identity.name.clone(),
        host: host.address_text.clone(),
        ejections: host.runtime.monitor.ejections(),
        action,
    }
}

/// Ejects hosts whose rate in the last interval is far below the others', or above the limit.
fn judge(
    hosts: &[&Arc<Host>],
    rules: &OutlierDetection,
    rate: impl Fn(&HostMonitor) -> &Rate,
    (relative, absolute): (Cause, Cause),
    random: &Random,
) {
    let rates: Vec<(&HostMonitor, u32, f64)> = hosts
        .iter()
        .map(|host| {
            let monitor = &host.runtime.monitor;
            let (total, success) = rate(monitor).take();
            (monitor, total, success)
        })
        .filter(|(monitor, _, _)| !monitor.is_ejected())
        .collect();
    let success = &rules.success_rate;
    let valid: Vec<_> =
        rates.iter().filter(|(_, total, _)| *total > 0 && *total >= success.request_volume).collect();
    if relative.enforcing(rules) > 0 && !valid.is_empty() && valid.len() >= success.minimum_hosts as usize {
        let values: Vec<f64> = valid.iter().map(|(_, _, success)| *success).collect();
        let threshold = threshold(&values, success.deviations_thousandths);
        for (monitor, _, _) in valid.iter().filter(|(_, _, success)| *success < threshold) {
            monitor.eject(rules, relative, random);
        }
    }
    let failure = &rules.failure_percentage;
    let valid: Vec<_> =
        rates.iter().filter(|(_, total, _)| *total > 0 && *total >= failure.request_volume).collect();
    if absolute.enforcing(rules) > 0 && !valid.is_empty() && valid.len() >= failure.minimum_hosts as usize {
        for (monitor, _, _) in valid.iter().filter(|(_, _, s)| 100.0 - s >= f64::from(failure.threshold)) {
            monitor.eject(rules, absolute, random);
        }
    }
}

/// The mean less so many standard deviations.
fn threshold(rates: &[f64], deviations_thousandths: u32) -> f64 {
    let count = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    mean - variance.sqrt() * f64::from(deviations_thousandths) / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_envoys() {
        // Envoy's documentation: with equal rates nobody is below the mean.
        assert!((threshold(&[100.0; 5], 1900) - 100.0).abs() < 1e-9);
        let five = [100.0, 100.0, 100.0, 100.0, 0.0];
        assert!((threshold(&five, 1900) - 4.0).abs() < 1e-9);
    }
}
