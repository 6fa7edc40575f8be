//! `/server_info`: version, state, uptime, command line, node.

use protos::json::Pool;
use serde_json::{Value, json};

use super::page::{Context, Page, Query, json as json_page};

/// How the process was started.
#[derive(Debug, Clone)]
pub struct CommandLine {
    /// The bootstrap's file.
    pub config_path: String,
    /// Worker threads, where they were given.
    pub concurrency: Option<u16>,
    /// Seconds that requests in flight get.
    pub drain_seconds: u32,
    /// The log filter.
    pub log_level: String,
}

/// Envoy's `envoy.admin.v3.ServerInfo`.
pub fn page(context: &Context, _: &Query) -> Page {
    let uptime = format!("{}s", context.started.elapsed().as_secs());
    let node = Pool::load()
        .and_then(|pool| pool.to_json(&context.node))
        .unwrap_or_else(|error| Value::String(error.to_string()));
    let options = &context.command_line;
    json_page(&json!({
        "version": format!("tulle-proxy/{}", env!("CARGO_PKG_VERSION")),
        "state": context.readiness.state().name(),
        "hot_restart_version": "disabled",
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": {
            "config_path": options.config_path,
            "concurrency": options.concurrency,
            "drain_time": format!("{}s", options.drain_seconds),
            "log_level": options.log_level,
        },
        "node": node,
    }))
}
