//! `/trace_context`: whether the program beside this proxy passes trace context on. Envoy has nothing like it.

use serde_json::json;

use super::page::{Asked, Context, Page, json as json_page};

/// What was counted, and what follows from it.
pub fn page(context: &Context, _: &Asked<'_>) -> Page {
    let losses = context.shared.context_watch.losses();
    json_page(&json!({"calls": losses.calls, "lost": losses.lost, "drops": losses.drops()}))
}
