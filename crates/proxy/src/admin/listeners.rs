//! `/listeners`: what is bound.

use serde_json::{Value, json};

use super::json::socket_address;
use super::page::{Asked, Context, Page, json as json_page, text};

/// Envoy's `envoy.admin.v3.Listeners`, or its text form.
pub fn page(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&["format"]) {
        return page;
    }
    let bound = context.readiness.listening.list();
    if query.get("format") == Some("json") {
        let statuses: Vec<Value> = bound
            .iter()
            .map(|bound| json!({"name": &*bound.name, "local_address": socket_address(bound.address)}))
            .collect();
        return json_page(&json!({"listener_statuses": statuses}));
    }
    text(bound.iter().map(|bound| format!("{}::{}\n", bound.name, bound.address)).collect::<String>())
}
