//! `/config_dump`: the raw resources in Envoy's JSON. The descriptors are loaded for one page and freed with it.

use std::thread::JoinHandle;
use std::time::SystemTime;

use http::StatusCode;
use protos::Any;
use protos::any::TYPE_PREFIX;
use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;
use protos::json::{JsonError, Pool};
use serde_json::{Map, Value, json};
use xds::order;

use super::json::{redact, time};
use super::page::{Asked, Context, Page, json_text, status};
use crate::state::kept::Entry;

/// What a dump is made from, copied so that another thread can render it.
struct Raw {
    bootstrap: Bootstrap,
    listeners: Entries,
    clusters: Entries,
    routes: Entries,
    endpoints: Option<Entries>,
    secrets: Value,
}

type Entries = Vec<(String, Entry)>;

/// Envoy's `envoy.admin.v3.ConfigDump`.
pub fn page(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&["include_eds"]) {
        return page;
    }
    let kept = &context.kept;
    let raw = Raw {
        bootstrap: context.bootstrap.clone(),
        listeners: kept.of_type(order::LISTENER),
        clusters: kept.of_type(order::CLUSTER),
        routes: kept.of_type(order::ROUTE),
        endpoints: query.get("include_eds").map(|_| kept.of_type(order::ENDPOINT)),
        secrets: secrets(context),
    };
    // The allocator gives the memory of a thread back when it ends: a dump weighs more than an idle proxy.
    let rendering = runtime::thread::spawn("config_dump", move || render(raw));
    match rendering.map(JoinHandle::join) {
        Ok(Ok(Ok(body))) => json_text(body),
        Ok(Ok(Err(error))) => status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Ok(Err(_)) => status(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be rendered\n"),
        Err(error) => status(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
    }
}

fn render(raw: Raw) -> Result<String, JsonError> {
    let pool = Pool::load()?;
    let listeners = listeners(&raw.listeners, &pool);
    let mut configs = vec![
        json!({"@type": of_type("BootstrapConfigDump"), "bootstrap": pool.to_json(&raw.bootstrap)?}),
        json!({
            "@type": of_type("ClustersConfigDump"),
            "static_clusters": fixed(&raw.clusters, &pool, "cluster"),
            "dynamic_active_clusters": dynamic(&raw.clusters, &pool, "cluster"),
        }),
        json!({
            "@type": of_type("RoutesConfigDump"),
            "static_route_configs": inline_routes(&listeners),
            "dynamic_route_configs": dynamic(&raw.routes, &pool, "route_config"),
        }),
        raw.secrets,
    ];
    configs.insert(2, listeners);
    if let Some(endpoints) = &raw.endpoints {
        configs.push(json!({
            "@type": of_type("EndpointsConfigDump"),
            "dynamic_endpoint_configs": dynamic(endpoints, &pool, "endpoint_config"),
        }));
    }
    let mut body = json!({"configs": configs});
    redact(&mut body);
    Ok(format!("{body:#}\n"))
}

fn of_type(name: &str) -> String {
    format!("{TYPE_PREFIX}envoy.admin.v3.{name}")
}

fn message(pool: &Pool, any: &Any) -> Value {
    pool.any_to_json(any).unwrap_or_else(|error| json!({"@type": any.type_url, "error": error.to_string()}))
}

fn fixed(entries: &Entries, pool: &Pool, field: &str) -> Vec<Value> {
    let entries = entries.iter().filter(|(_, entry)| entry.is_static);
    entries
        .filter_map(|(_, entry)| {
            let shown = message(pool, entry.any.as_ref()?);
            Some(json!({field: shown, "last_updated": time(entry.updated)}))
        })
        .collect()
}

fn dynamic(entries: &Entries, pool: &Pool, field: &str) -> Vec<Value> {
    let entries = entries.iter().filter(|(_, entry)| !entry.is_static);
    entries
        .map(|(name, entry)| {
            let mut shown = active(pool, entry, field).unwrap_or_default();
            if let Some(error) = error_state(entry) {
                shown.insert("name".to_owned(), Value::String(name.clone()));
                shown.insert("error_state".to_owned(), error);
            }
            Value::Object(shown)
        })
        .collect()
}

/// Routes that static listeners carry in themselves.
fn inline_routes(listeners: &Value) -> Vec<Value> {
    let list = |value: &Value, field: &str| value[field].as_array().cloned().unwrap_or_default();
    let mut shown = Vec::new();
    for entry in list(listeners, "static_listeners") {
        let chains = list(&entry["listener"], "filter_chains").into_iter();
        let filters = chains.chain([entry["listener"]["default_filter_chain"].clone()]);
        for mut filter in filters.flat_map(|chain| list(&chain, "filters")) {
            if let Value::Object(mut route) = filter["typed_config"]["route_config"].take() {
                route.insert("@type".to_owned(), json!(order::ROUTE));
                shown.push(json!({"route_config": route, "last_updated": entry["last_updated"]}));
            }
        }
    }
    shown
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
fn listeners(entries: &Entries, pool: &Pool) -> Value {
    let dynamic: Vec<Value> = entries
        .iter()
        .filter(|(_, entry)| !entry.is_static)
        .map(|(name, entry)| {
            let mut shown = Map::from_iter([("name".to_owned(), Value::String(name.clone()))]);
            if let Some(state) = active(pool, entry, "listener") {
                shown.insert("active_state".to_owned(), Value::Object(state));
            }
            if let Some(error) = error_state(entry) {
                shown.insert("error_state".to_owned(), error);
            }
            Value::Object(shown)
        })
        .collect();
    json!({
        "@type": of_type("ListenersConfigDump"),
        "static_listeners": fixed(entries, pool, "listener"),
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
