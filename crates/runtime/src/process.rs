//! What the process uses, as the kernel tells it (`/proc/self`), under the names that Prometheus' clients give it.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clock ticks per second in `/proc/self/stat`: fixed by the kernel's interface (`USER_HZ`).
const TICKS: f64 = 100.0;
/// Bytes of a page that `/proc/self/statm` counts in.
const PAGE: u64 = 4096;

/// What the process uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU time of all threads, user and system, in seconds.
    pub cpu_seconds: f64,
    /// Memory that is in RAM, in bytes.
    pub resident_bytes: u64,
    /// Address space, in bytes.
    pub virtual_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// Most open file descriptors.
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// When it started, Unix seconds.
    pub start_seconds: f64,
}

/// What the process uses now; `None` where there is no `/proc`.
pub fn usage() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse::<f64>().ok());
    let statm = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = statm.split_ascii_whitespace().map(|text| text.parse::<u64>().unwrap_or(0));
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = files.and_then(|line| line.split_ascii_whitespace().next());
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64();
    Some(Usage {
        cpu_seconds: (field(14)? + field(15)?) / TICKS,
        virtual_bytes: pages.next()?.saturating_mul(PAGE),
        resident_bytes: pages.next()?.saturating_mul(PAGE),
        open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        max_fds: soft.and_then(|text| text.parse().ok()).unwrap_or(0),
        threads: field(20)? as u64,
        start_seconds: now - uptime + field(22)? / TICKS,
    })
}

impl Usage {
    /// Name, help, kind and value of each figure.
    pub fn metrics(&self) -> [(&'static str, &'static str, &'static str, f64); 7] {
        [
            ("process_cpu_seconds_total", "CPU time, user and system.", "counter", self.cpu_seconds),
            ("process_resident_memory_bytes", "Memory in RAM.", "gauge", self.resident_bytes as f64),
            ("process_virtual_memory_bytes", "Address space.", "gauge", self.virtual_bytes as f64),
            ("process_open_fds", "Open file descriptors.", "gauge", self.open_fds as f64),
            ("process_max_fds", "Most open file descriptors.", "gauge", self.max_fds as f64),
            ("process_threads", "Threads.", "gauge", self.threads as f64),
            (
                "process_start_time_seconds",
                "When the process started, Unix time.",
                "gauge",
                self.start_seconds,
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_of_this_process() {
        let usage = usage().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes, "{usage:?}");
        assert!(usage.open_fds > 2 && usage.max_fds >= usage.open_fds && usage.threads > 0, "{usage:?}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((0.0..3600.0).contains(&(now - usage.start_seconds)), "{usage:?}");
    }
}
