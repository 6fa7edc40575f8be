//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The data plane of Tulle: a sidecar that speaks Envoy's configuration.
#[derive(Debug, Clone, Parser)]
#[command(name = "tulle-proxy", version)]
pub struct Options {
    /// Envoy v3 bootstrap: YAML, JSON, or binary protobuf (.pb).
    #[arg(short = 'c', long = "config-path", value_name = "FILE")]
    pub config: PathBuf,
    /// Worker threads; one for each CPU by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: Option<u16>,
    /// Seconds from SIGTERM to the end: requests in flight get this long.
    #[arg(long = "drain-time-s", value_name = "SECONDS", default_value_t = 5)]
    pub drain_seconds: u32,
    /// Seconds after SIGTERM for which new connections are still taken, so that others learn to go elsewhere; then the
    /// proxy ends as soon as it is idle (Istio's MINIMUM_DRAIN_DURATION with EXIT_ON_ZERO_ACTIVE_CONNECTIONS).
    #[arg(long = "minimum-drain-time-s", value_name = "SECONDS", default_value_t = 1)]
    pub minimum_drain_seconds: u32,
    /// What is logged: a level, or a filter such as `info,proxy::tls=debug`.
    #[arg(short = 'l', long = "log-level", value_name = "FILTER", default_value = "info")]
    pub log_level: String,
    /// One JSON object for each log line.
    #[arg(long)]
    pub log_json: bool,
    /// `validate` checks the bootstrap and ends.
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    pub mode: Mode,
}

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Serves.
    Serve,
    /// Checks the bootstrap.
    Validate,
}

impl Options {
    /// From the start of the drain to its deadline.
    pub fn drain_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.drain_seconds))
    }

    /// For how long a draining proxy still takes new connections.
    pub fn minimum_drain(&self) -> Duration {
        Duration::from_secs(u64::from(self.minimum_drain_seconds)).min(self.drain_time())
    }
}
