//! What the kernel says about a process.

use std::fs;
use std::time::Duration;

use serde::Serialize;

use super::load::Outcome;

/// One run of one cell.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Requests (or Gbit) per second.
    pub per_second: f64,
    /// CPU time of the proxies per request in microseconds, or per GB in seconds.
    pub cpu_per_unit: f64,
    /// Resident memory before the load, MiB.
    pub idle_mib: f64,
    /// Resident memory after it, MiB.
    pub loaded_mib: f64,
    /// Requests that failed.
    pub errors: u64,
}

impl Sample {
    /// From what the load did and what the proxies used.
    #[allow(clippy::cast_precision_loss, reason = "KiB of memory are far below 2^52")]
    pub fn new(outcome: &Outcome, cpu: Duration, idle_kib: u64, loaded_kib: u64) -> Sample {
        let cpu_per_unit = if outcome.bytes > 0.0 {
            cpu.as_secs_f64() / (outcome.bytes / 1e9)
        } else {
            cpu.as_secs_f64() * 1e6 / outcome.requests
        };
        Sample {
            per_second: outcome.per_second,
            cpu_per_unit,
            idle_mib: idle_kib as f64 / 1024.0,
            loaded_mib: loaded_kib as f64 / 1024.0,
            errors: outcome.errors,
        }
    }
}

/// The process and its children: nginx works in a child.
fn family(process: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    std::iter::once(process).chain(children.split_whitespace().filter_map(|it| it.parse().ok())).collect()
}

/// User and system time of a process and its children.
pub fn cpu(process: u32) -> Duration {
    family(process).into_iter().map(cpu_of_one).sum()
}

/// The kernel counts in ticks of 10 ms for `stat`, in nanoseconds for `schedstat`.
fn cpu_of_one(process: u32) -> Duration {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split_whitespace().next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    }
    Duration::from_nanos(nanoseconds)
}

/// Resident memory of a process and its children, KiB.
pub fn resident_kib(process: u32) -> u64 {
    let one = |process: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0)
    };
    family(process).into_iter().map(one).sum()
}
