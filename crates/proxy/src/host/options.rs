//! The command line.

use std::path::PathBuf;

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
    /// Seconds that requests in flight get after SIGTERM.
    #[arg(long = "drain-time-s", value_name = "SECONDS", default_value_t = 5)]
    pub drain_seconds: u32,
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
