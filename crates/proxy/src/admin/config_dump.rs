//! `/config_dump`: the raw resources in Envoy's JSON. The descriptors are loaded for one page and freed with it.

use std::time::SystemTime;

use protos::Any;
use protos::any::TYPE_PREFIX;
use protos::json::Pool;
use serde_json::{Map, Value, json};
use xds::order;

use super::json::{redact, time};
use super::page::{Context, Page, Query, json as json_page, status};
use crate::state::kept::Entry;

/// Envoy's `envoy.admin.v3.ConfigDump`.
pub fn page(context: &Context, query: &Query) -> Page {
    if let Err(page) = query.only(&["include_eds"]) {
        return page;
    }
    let pool = match Pool::load() {
        Ok(pool) => pool,
        Err(error) => return status(http::StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    };
    let bootstrap = pool.to_json(&context.bootstrap).unwrap_or_else(|error| Value::String(error.to_string()));
    let mut configs = vec![
        json!({"@type": of_type("BootstrapConfigDump"), "bootstrap": bootstrap}),
        json!({
            "@type": of_type("ClustersConfigDump"),
            "static_clusters": fixed(context, &pool, order::CLUSTER, "cluster"),
            "dynamic_active_clusters": dynamic(context, &pool, order::CLUSTER, "cluster"),
        }),
        listeners(context, &pool),
        json!({
            "@type": of_type("RoutesConfigDump"),
            "dynamic_route_configs": dynamic(context, &pool, order::ROUTE, "route_config"),
        }),
        secrets(context),
    ];
    if query.get("include_eds").is_some() {
        configs.push(json!({
            "@type": of_type("EndpointsConfigDump"),
            "dynamic_endpoint_configs": dynamic(context, &pool, order::ENDPOINT, "endpoint_config"),
        }));
    }
    drop(pool);
    let mut body = json!({"configs": configs});
    redact(&mut body);
    json_page(&body)
}

fn of_type(name: &str) -> String {
    format!("{TYPE_PREFIX}envoy.admin.v3.{name}")
}

fn message(pool: &Pool, any: &Any) -> Value {
    pool.any_to_json(any).unwrap_or_else(|error| json!({"@type": any.type_url, "error": error.to_string()}))
}

fn fixed(context: &Context, pool: &Pool, type_url: &str, field: &str) -> Vec<Value> {
    let entries = context.kept.of_type(type_url).into_iter().filter(|(_, entry)| entry.is_static);
    entries
        .filter_map(|(_, entry)| {
            let shown = message(pool, entry.any.as_ref()?);
            Some(json!({field: shown, "last_updated": time(entry.updated)}))
        })
        .collect()
}

fn dynamic(context: &Context, pool: &Pool, type_url: &str, field: &str) -> Vec<Value> {
    let entries = context.kept.of_type(type_url).into_iter().filter(|(_, entry)| !entry.is_static);
    entries
        .map(|(name, entry)| {
            let mut shown = active(pool, &entry, field).unwrap_or_default();
            if let Some(error) = error_state(&entry) {
                shown.insert("name".to_owned(), Value::String(name));
                shown.insert("error_state".to_owned(), error);
            }
            Value::Object(shown)
        })
        .collect()
}

fn active(pool: &Pool, entry: &Entry, field: &str) -> Option<Map<String, Value>> {
    let mut shown = Map::new();
    shown.insert("version_info".to_owned(), Value::String(entry.version.clone()));
    shown.insert(field.to_owned(), message(pool, entry.any.as_ref()?));
    shown.insert("last_updated".to_owned(), time(entry.updated));
    Some(shown)
}

fn error_state(entry: &Entry) -> Option<Value> {
    let refusal = entry.refusal.as_ref()?;
    Some(json!({
        "version_info": refusal.version,
        "last_update_attempt": time(refusal.at),
        "details": refusal.detail,
    }))
}

/// Listeners have a shape of their own.
fn listeners(context: &Context, pool: &Pool) -> Value {
    let entries = context.kept.of_type(order::LISTENER).into_iter().filter(|(_, entry)| !entry.is_static);
    let dynamic: Vec<Value> = entries
        .map(|(name, entry)| {
            let mut shown = Map::from_iter([("name".to_owned(), Value::String(name))]);
            if let Some(state) = active(pool, &entry, "listener") {
                shown.insert("active_state".to_owned(), Value::Object(state));
            }
            if let Some(error) = error_state(&entry) {
                shown.insert("error_state".to_owned(), error);
            }
            Value::Object(shown)
        })
        .collect();
    json!({
        "@type": of_type("ListenersConfigDump"),
        "static_listeners": fixed(context, pool, order::LISTENER, "listener"),
        "dynamic_listeners": dynamic,
    })
}

/// The names that are answered inside this process: certificates, never the key.
fn secrets(context: &Context) -> Value {
    let shown: Vec<Value> = context
        .readiness
        .secrets
        .current()
        .iter()
        .map(|set| {
            json!({
                "name": "default",
                "version_info": set.version.to_string(),
                "last_updated": time(set.installed),
                "secret": {"name": "default", "subject_alt_names": set.own.uri_sans, "not_after": time(set.own.not_after)},
            })
        })
        .collect();
    json!({"@type": of_type("SecretsConfigDump"), "dynamic_active_secrets": shown, "last_updated": time(SystemTime::now())})
}
