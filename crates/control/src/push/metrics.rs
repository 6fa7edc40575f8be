//! What ADS counts, under Istio's names.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Connections;
use crate::metrics::{Counter, Render, gauge, header, sample};

/// The short names of types that are counted one by one.
const TYPES: [&str; 5] = ["cds", "eds", "lds", "rds", "other"];

/// Upper bounds of the buckets of `pilot_proxy_convergence_time`, in milliseconds; Istio's.
const BUCKETS: [u64; 8] = [100, 500, 1_000, 3_000, 5_000, 10_000, 20_000, 30_000];

/// What ADS counts.
#[derive(Debug)]
pub struct XdsMetrics {
    connections: Arc<Connections>,
    pushes: [Counter; TYPES.len()],
    rejects: [Counter; TYPES.len()],
    /// Streams that were not admitted.
    pub refused: Counter,
    convergence: Histogram,
}

/// Not cumulative; the last bucket has no bound.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

impl XdsMetrics {
    /// Zeros; the number of proxies is read from `connections`.
    pub fn new(connections: Arc<Connections>) -> Self {
        XdsMetrics {
            connections,
            pushes: Default::default(),
            rejects: Default::default(),
            refused: Counter::default(),
            convergence: Histogram::default(),
        }
    }

    /// A response of a type was sent.
    pub fn pushed(&self, type_url: &str) {
        self.pushes[index(type_url)].add_one();
    }

    /// A response of a type was refused.
    pub fn rejected(&self, type_url: &str) {
        self.rejects[index(type_url)].add_one();
    }

    /// A proxy had accepted everything so long after the change.
    pub fn converged(&self, after: Duration) {
        let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|bound| millis <= *bound).unwrap_or(BUCKETS.len());
        self.convergence.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.convergence.micros.fetch_add(micros, Ordering::Relaxed);
    }
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
        self.convergence.render(out);
    }
}

fn total(out: &mut String, name: &str, help: &str, value: u64) {
    header(out, name, help, "counter");
    sample(out, name, "", value);
}

impl Histogram {
    fn render(&self, out: &mut String) {
        const NAME: &str = "pilot_proxy_convergence_time";
        header(out, NAME, "Seconds from a change until a proxy has accepted all of it.", "histogram");
        let mut count = 0;
        for (bound, bucket) in BUCKETS.iter().map(Some).chain([None]).zip(&self.buckets) {
            count += bucket.load(Ordering::Relaxed);
            let bound = bound.map_or("+Inf".to_owned(), |millis| {
                format!("{}", Duration::from_millis(*millis).as_secs_f64())
            });
            sample(out, "pilot_proxy_convergence_time_bucket", &format!("{{le=\"{bound}\"}}"), count);
        }
        let seconds = Duration::from_micros(self.micros.load(Ordering::Relaxed)).as_secs_f64();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{NAME}_sum {seconds}\n{NAME}_count {count}");
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
            "pilot_proxy_convergence_time_sum 60.25\npilot_proxy_convergence_time_count 2\n",
        ] {
            assert!(out.contains(line), "{line} is not in\n{out}");
        }
    }
}
