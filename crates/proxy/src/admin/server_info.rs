//! `/server_info`: version, state, uptime, command line, node.

use protos::json::Pool;
use serde_json::{Value, json};

use super::certs::renewal;
use super::json::time;
use super::page::{Asked, Context, Page, json as json_page};

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

/// Where the configuration in use comes from, beside Envoy's fields.
fn configuration(context: &Context) -> Value {
    let readiness = &context.readiness;
    let facts = readiness.sealed.facts();
    let stream = readiness.stream.borrow();
    let source = match (readiness.from_snapshot(), stream.was_up) {
        (true, _) => "sealed snapshot",
        (_, true) => "xDS",
        _ => "bootstrap",
    };
    json!({
        "source": source,
        "xds_connected": stream.up,
        "xds_failure": stream.reason,
        "renewal": readiness.identity.as_ref().map(|status| renewal(&status.renewal())),
        "snapshot": {
            "started_from": facts.loaded.as_ref().map(|loaded| json!({
                "saved": time(loaded.saved),
                "resources": loaded.resources,
            })),
            "refused": facts.refused,
            "saved": facts.saved.map(time),
            "bytes": facts.bytes,
            "writes": facts.writes,
            "write_failures": facts.write_failures,
            "last_failure": facts.failure,
        },
    })
}

/// Envoy's `envoy.admin.v3.ServerInfo`.
pub fn page(context: &Context, _: &Asked<'_>) -> Page {
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
        "configuration": configuration(context),
        "node": node,
    }))
}
