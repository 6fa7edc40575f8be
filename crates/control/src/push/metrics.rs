//! What ADS counts, under Istio's names.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Connections;
use crate::metrics::{Counter, Render, gauge, header, sample};

/// The short names of types that are counted one by one.
const TYPES: [&str; 5] = ["cds", "eds", "lds", "rds", "other"];

/// Upper bounds of the buckets of `pilot_proxy_convergence_time` and `pilot_proxy_queue_time`, in microseconds; Istio's.
const CONVERGENCE: &[u64] =
    &[100_000, 500_000, 1_000_000, 3_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000];
/// Of `pilot_xds_push_time`, in microseconds: Istio's, and two below them.
const PUSH_TIME: &[u64] =
    &[1_000, 10_000, 100_000, 1_000_000, 3_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000];
/// Of `pilot_xds_config_size_bytes`; Istio's.
const SIZES: &[u64] = &[1, 10_000, 1_000_000, 4_000_000, 10_000_000, 40_000_000];

/// What ADS counts.
#[derive(Debug)]
pub struct XdsMetrics {
    connections: Arc<Connections>,
    pushes: [Counter; TYPES.len()],
    rejects: [Counter; TYPES.len()],
    /// Streams that were not admitted.
    pub refused: Counter,
    convergence: Histogram,
    queue: Histogram,
    push_time: [Histogram; TYPES.len()],
    sizes: [Histogram; TYPES.len()],
    /// Proxies that connected: each is pushed to at once.
    pub connected: Counter,
    /// Changed Worlds that were pushed.
    pub changes: Counter,
}

/// Not cumulative; the last bucket has no bound.
#[derive(Debug)]
struct Histogram {
    bounds: &'static [u64],
    buckets: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl XdsMetrics {
    /// Zeros; the number of proxies is read from `connections`.
    pub fn new(connections: Arc<Connections>) -> Self {
        XdsMetrics {
            connections,
            pushes: Default::default(),
            rejects: Default::default(),
            refused: Counter::default(),
            convergence: Histogram::new(CONVERGENCE),
            queue: Histogram::new(CONVERGENCE),
            push_time: std::array::from_fn(|_| Histogram::new(PUSH_TIME)),
            sizes: std::array::from_fn(|_| Histogram::new(SIZES)),
            connected: Counter::default(),
            changes: Counter::default(),
        }
    }

    /// A response of a type was sent.
    pub fn pushed(&self, type_url: &str) {
        self.pushes[index(type_url)].add_one();
    }

    /// The resources of a type were made, in that time and of that size in bytes.
    pub fn made(&self, type_url: &str, took: Duration, bytes: usize) {
        self.push_time[index(type_url)].observe(micros(took));
        self.sizes[index(type_url)].observe(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// A response of a type was refused.
    pub fn rejected(&self, type_url: &str) {
        self.rejects[index(type_url)].add_one();
    }

    /// A proxy's turn came so long after the change.
    pub fn waited(&self, after: Duration) {
        self.queue.observe(micros(after));
    }

    /// A proxy had accepted everything so long after the change.
    pub fn converged(&self, after: Duration) {
        self.convergence.observe(micros(after));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn index(type_url: &str) -> usize {
    let short = xds::order::short_name(type_url);
    TYPES.iter().position(|name| *name == short).unwrap_or(TYPES.len() - 1)
}

impl Render for XdsMetrics {
    fn render(&self, out: &mut String) {
        let connected = u64::try_from(self.connections.count()).unwrap_or(u64::MAX);
        gauge(out, "pilot_xds", "Proxies connected to this control plane.", connected);
        header(out, "pilot_xds_pushes", "Responses sent to proxies.", "counter");
        for (name, count) in TYPES.iter().zip(&self.pushes) {
            sample(out, "pilot_xds_pushes", &format!("{{type=\"{name}\"}}"), count.get());
        }
        let rejects: u64 = self.rejects.iter().map(Counter::get).sum();
        total(out, "pilot_total_xds_rejects", "Responses that proxies refused.", rejects);
        for (name, count) in TYPES.iter().zip(&self.rejects).take(TYPES.len() - 1) {
            let metric = format!("pilot_xds_{name}_reject");
            total(out, &metric, "Responses of this type that proxies refused.", count.get());
        }
        let name = "tulle_control_streams_refused_total";
        total(out, name, "ADS streams that were not admitted.", self.refused.get());
        header(out, "pilot_push_triggers", "Why proxies were pushed to.", "counter");
        for (trigger, count) in [("config", &self.changes), ("proxyrequest", &self.connected)] {
            sample(out, "pilot_push_triggers", &format!("{{type=\"{trigger}\"}}"), count.get());
        }
        let seconds = 1e6;
        let name = "pilot_proxy_convergence_time";
        header(out, name, "Seconds from a change until a proxy has accepted all of it.", "histogram");
        self.convergence.render(out, name, "", seconds);
        let name = "pilot_proxy_queue_time";
        header(out, name, "Seconds from a change until it is a proxy's turn.", "histogram");
        self.queue.render(out, name, "", seconds);
        let name = "pilot_xds_push_time";
        header(out, name, "Seconds to make the resources of a type for a proxy.", "histogram");
        for (short, histogram) in TYPES.iter().zip(&self.push_time) {
            histogram.render(out, name, &format!("type=\"{short}\""), seconds);
        }
        let name = "pilot_xds_config_size_bytes";
        header(out, name, "Bytes of all resources of a type of a proxy.", "histogram");
        for (short, histogram) in TYPES.iter().zip(&self.sizes) {
            histogram.render(out, name, &format!("type=\"{short}\""), 1.0);
        }
    }
}

fn total(out: &mut String, name: &str, help: &str, value: u64) {
    header(out, name, help, "counter");
    sample(out, name, "", value);
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Self {
        let buckets = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Histogram { bounds, buckets, sum: AtomicU64::new(0) }
    }

    fn observe(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| value > *bound);
        if let Some(count) = self.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Its samples; `labels` without braces, `unit` of what is observed in one of what is shown.
    fn render(&self, out: &mut String, name: &str, labels: &str, unit: f64) {
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0;
        for (bound, bucket) in self.bounds.iter().map(Some).chain([None]).zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            let bound = bound.map_or("+Inf".to_owned(), |bound| format!("{}", *bound as f64 / unit));
            sample(out, &format!("{name}_bucket"), &format!("{{{labels}{comma}le=\"{bound}\"}}"), count);
        }
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{name}_sum{braces} {sum}\n{name}_count{braces} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds::order::{CLUSTER, ROUTE, SECRET};

    #[test]
    fn renders_what_was_counted() {
        let metrics = XdsMetrics::new(Arc::default());
        metrics.pushed(CLUSTER);
        metrics.pushed(CLUSTER);
        metrics.pushed(SECRET);
        metrics.rejected(ROUTE);
        metrics.converged(Duration::from_millis(250));
        metrics.converged(Duration::from_secs(60));
        metrics.made(CLUSTER, Duration::from_millis(2), 20_000);
        metrics.connected.add_one();
        let mut out = String::new();
        metrics.render(&mut out);
        for line in [
            "pilot_xds 0\n",
            "pilot_xds_pushes{type=\"cds\"} 2\n",
            "pilot_xds_pushes{type=\"other\"} 1\n",
            "pilot_total_xds_rejects 1\n",
            "pilot_xds_rds_reject 1\n",
            "pilot_xds_cds_reject 0\n",
            "pilot_proxy_convergence_time_bucket{le=\"0.1\"} 0\n",
            "pilot_proxy_convergence_time_bucket{le=\"0.5\"} 1\n",
            "pilot_proxy_convergence_time_bucket{le=\"30\"} 1\n",
            "pilot_proxy_convergence_time_bucket{le=\"+Inf\"} 2\n",
            "pilot_push_triggers{type=\"proxyrequest\"} 1\n",
            "pilot_xds_push_time_bucket{type=\"cds\",le=\"0.001\"} 0\n",
            "pilot_xds_push_time_bucket{type=\"cds\",le=\"0.01\"} 1\n",
            "pilot_xds_push_time_sum{type=\"cds\"} 0.002\npilot_xds_push_time_count{type=\"cds\"} 1\n",
            "pilot_xds_config_size_bytes_bucket{type=\"cds\",le=\"1000000\"} 1\n",
            "pilot_proxy_convergence_time_sum 60.25\npilot_proxy_convergence_time_count 2\n",
        ] {
            assert!(out.contains(line), "{line} is not in\n{out}");
        }
    }
}
