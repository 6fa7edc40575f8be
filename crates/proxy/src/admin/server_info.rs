//! `/server_info`: version, state, uptime, command line, node.

use protos::json::Pool;
use serde_json::{Value, json};

use super::page::{Context, Page, Query, json as json_page};
use crate::host::node;

/// Envoy's `envoy.admin.v3.ServerInfo`.
pub fn page(context: &Context, _: &Query) -> Page {
    let uptime = format!("{}s", context.started.elapsed().as_secs());
    let node = node::for_server(context.bootstrap.node.as_ref());
    let node = Pool::load()
        .and_then(|pool| pool.to_json(&node))
        .unwrap_or_else(|error| Value::String(error.to_string()));
    let options = &context.options;
    json_page(&json!({
        "version": format!("tulle-proxy/{}", env!("CARGO_PKG_VERSION")),
        "state": context.readiness.state().name(),
        "hot_restart_version": "disabled",
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": uptime,
        "command_line_options": {
            "config_path": options.config.display().to_string(),
            "concurrency": options.concurrency,
            "drain_time": format!("{}s", options.drain_seconds),
            "log_level": options.log_level,
        },
        "node": node,
    }))
}
