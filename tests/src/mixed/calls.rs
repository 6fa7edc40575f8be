//! Requests through the mesh, counted by who answered and how.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::exchange;

/// What came back.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers by status; 0 for a connection without an answer.
    pub statuses: BTreeMap<u16, usize>,
    /// Answers by the version that the program told.
    pub versions: BTreeMap<String, usize>,
    /// Answers by the program's address.
    pub instances: BTreeMap<String, usize>,
    /// The last answer.
    pub last: String,
}

impl Tally {
    /// Part of the answers that a version gave.
    pub fn share(&self, version: &str) -> f64 {
        let all: usize = self.statuses.values().sum();
        self.versions.get(version).copied().unwrap_or_default() as f64 / all as f64
    }

    /// Whether every answer had this status.
    pub fn only(&self, status: u16) -> bool {
        self.statuses.keys().eq([&status])
    }
}

/// Sends `count` GETs of `target` (absolute for an HTTP proxy) to `address`, each on a connection of its own.
pub fn calls(address: SocketAddr, target: &str, header: &str, count: usize) -> Tally {
    let mut tally = Tally::default();
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let request = format!(
        "GET {target} HTTP/1.1\r\nhost: payment-service.production:8080\r\n{header}connection: close\r\n\r\n"
    );
    for _ in 0..count {
        let answer = exchange(address, request.as_bytes()).unwrap_or_default();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or_default();
        *tally.statuses.entry(status).or_default() += 1;
        let version = answer.lines().find_map(|line| line.strip_prefix("x-echo-version: "));
        if let Some(version) = version {
            *tally.versions.entry(version.to_owned()).or_default() += 1;
        }
        let instance = answer.split_once("\"instance\":\"").and_then(|(_, rest)| rest.split_once('"'));
        if let Some((instance, _)) = instance {
            *tally.instances.entry(instance.to_owned()).or_default() += 1;
        }
        tally.last = answer;
    }
    tally
}
