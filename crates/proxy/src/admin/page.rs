//! What pages are made of, and which exist.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use http_body_util::Full;
use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;
use protos::envoy::envoy::config::core::v3::Node;
use runtime::{Drain, Tasks};

use super::membership::Membership;
use super::readiness::{Readiness, State};
use super::server_info::CommandLine;
use super::{actions, certs, clusters, config_dump, listeners, server_info, stats, trace_context};
use crate::filter::Shared;
use crate::route::LiveRouting;
use crate::state::{Kept, Notes};
use crate::telemetry::Registry;
use crate::telemetry::raised::Raised;

/// A page.
pub type Page = Response<Full<Bytes>>;

/// What the pages are made from.
pub struct Context {
    /// Command line.
    pub command_line: CommandLine,
    /// The node, as xDS servers get it.
    pub node: Node,
    /// The bootstrap as it came.
    pub bootstrap: Bootstrap,
    /// Ready or not.
    pub readiness: Readiness,
    /// What all workers share.
    pub shared: Arc<Shared>,
    /// Metrics.
    pub registry: Arc<Registry>,
    /// Access logs that are raised.
    pub raised: Arc<Raised>,
    /// Clusters in use.
    pub routing: Arc<LiveRouting>,
    /// Hosts of the clusters, for the metrics.
    pub membership: Arc<Membership>,
    /// Raw resources.
    pub kept: Kept,
    /// Fields that do nothing.
    pub notes: Notes,
    /// Stops the process.
    pub drain: Drain,
    /// Starts what outlives a page.
    pub tasks: Tasks,
    /// When the process started.
    pub started: Instant,
}

/// The query of a request: `a=b&c`.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Splits a query; percent-encoding is resolved.
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|part| !part.is_empty()).map(|part| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(key), decode(value))
        });
        Query(pairs.collect())
    }

    /// The value of a parameter; empty when it has none.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A refusal of parameters that a page does not know: ignoring them would give a wrong answer.
    pub fn refusal(&self, known: &[&str]) -> Option<Page> {
        let (name, _) = self.0.iter().find(|(name, _)| !known.contains(&name.as_str()))?;
        let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let text = format!("unknown parameter \"{name}\"; this page knows: {list}\n");
        Some(status(StatusCode::BAD_REQUEST, text))
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let hex = text.get(index + 1..index + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                decoded.push(value);
                index += 2;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(*byte),
        }
        index += 1;
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A text page.
pub fn text(body: impl Into<String>) -> Page {
    status(StatusCode::OK, body)
}

/// A text page with a status.
pub fn status(code: StatusCode, body: impl Into<String>) -> Page {
    build(code, "text/plain; charset=UTF-8", body.into())
}

/// A page of JSON that is text already.
pub fn json_text(body: String) -> Page {
    build(StatusCode::OK, "application/json", body)
}

/// A JSON page.
pub fn json(value: &serde_json::Value) -> Page {
    let body =
        serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"));
    build(StatusCode::OK, "application/json", body + "\n")
}

fn build(code: StatusCode, kind: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = code;
    let headers = page.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert("x-content-type-options", header::HeaderValue::from_static("nosniff"));
    page
}

/// A page with a media type of its own.
pub fn typed(kind: &'static str, body: String) -> Page {
    build(StatusCode::OK, kind, body)
}

/// What was asked for, behind the path.
pub struct Asked<'a> {
    /// The query.
    pub query: Query,
    /// The `accept` header; empty without.
    pub accept: &'a str,
}

impl std::ops::Deref for Asked<'_> {
    type Target = Query;

    fn deref(&self) -> &Query {
        &self.query
    }
}

type Render = fn(&Context, &Asked<'_>) -> Page;

/// Path, whether it needs POST, what it does.
const PAGES: &[(&str, bool, &str, Render)] = &[
    (
        "/access_log",
        true,
        "log more for ten minutes; ?all, ?request_id=ID, &seconds=N, ?reset",
        actions::access_log,
    ),
    ("/certs", false, "certificates in use (JSON)", certs::page),
    ("/clusters", false, "clusters and their hosts; ?format=json", clusters::page),
    ("/config_dump", false, "the configuration as it came (JSON); ?include_eds", config_dump::page),
    ("/drain_listeners", true, "stop accepting, finish what runs", actions::drain_listeners),
    ("/listeners", false, "listeners and their addresses; ?format=json", listeners::page),
    ("/logging", false, "the log filter", actions::logging),
    ("/not_acting", false, "fields that are accepted and do nothing yet", actions::not_acting),
    ("/quitquitquit", true, "drain and end the process", actions::quit),
    ("/ready", false, "200 when ready for traffic, else 503 with the reasons; ?verbose", ready),
    ("/server_info", false, "version, state, node (JSON)", server_info::page),
    ("/stats", false, "counters and gauges; ?filter=REGEX, ?usedonly, ?format=prometheus", stats::page),
    ("/stats/prometheus", false, "metrics for Prometheus", stats::prometheus_page),
    ("/trace_context", false, "whether the program passes trace context on (JSON)", trace_context::page),
];

/// Finds and renders a page.
pub fn render(context: &Context, method: &Method, path: &str, query: &str, accept: &str) -> Page {
    if matches!(path, "/" | "/help") {
        return text(list());
    }
    let Some((_, post, _, render)) = PAGES.iter().find(|(name, ..)| *name == path) else {
        return status(StatusCode::NOT_FOUND, format!("no page {path}; there are:\n{}", list()));
    };
    let allowed = if *post { *method == Method::POST } else { matches!(*method, Method::GET | Method::HEAD) };
    if !allowed {
        let wanted = if *post { "POST" } else { "GET" };
        let reason = format!("{method} is not allowed on {path}: it takes {wanted}\n");
        return status(StatusCode::METHOD_NOT_ALLOWED, reason);
    }
    render(context, &Asked { query: Query::parse(query), accept })
}

fn list() -> String {
    PAGES
        .iter()
        .map(|(path, post, what, _)| format!("  {path}{}: {what}\n", if *post { " (POST)" } else { "" }))
        .collect()
}

/// Whether the proxy is ready for traffic.
pub fn ready(context: &Context, query: &Asked<'_>) -> Page {
    let state = context.readiness.state();
    let mut more = String::new();
    if query.get("verbose").is_some() {
        for line in context.readiness.remarks() {
            more.push_str(&line);
            more.push('\n');
        }
    }
    match &state {
        State::Live => text(format!("LIVE\n{more}")),
        State::Draining => status(StatusCode::SERVICE_UNAVAILABLE, format!("DRAINING\n{more}")),
        State::Initializing(reasons) => {
            let body = format!("{}\n{}\n{more}", state.name(), reasons.join("\n"));
            status(StatusCode::SERVICE_UNAVAILABLE, body)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_and_unknown_parameters_named() {
        let query = Query::parse("filter=istio%5F.%2A&usedonly&&x=%zz");
        assert_eq!(
            (query.get("filter"), query.get("usedonly"), query.get("x")),
            (Some("istio_.*"), Some(""), Some("%zz"))
        );
        assert!(query.refusal(&["filter", "usedonly", "x"]).is_none());
        assert_eq!(query.refusal(&["filter", "usedonly"]).unwrap().status(), StatusCode::BAD_REQUEST);
    }
}
