//! Istio's status port (15020): the metrics of proxy and program on one page, and readiness for probes.
//!
//! Asked for in the node's metadata: `STATUS_PORT`; the program's page by `ISTIO_PROMETHEUS_ANNOTATIONS`, the
//! annotations `prometheus.io/*` as Istio's injector writes them (`{"scrape": "true", "port": "9090", "path":
//! "/metrics"}`); `ENABLE_PROMETHEUS_MERGE` `false` leaves the program's out. Unlike the admin page it can stop nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use config::model::Node;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::app_metrics::{self, AppPage};
use super::page::{Asked, Context, Page, Query, ready, status, typed};
use super::server::Answer;
use super::stats;
use crate::telemetry::prometheus::Format;

/// The longest that the program gets for its page.
const LONGEST: Duration = Duration::from_secs(10);
/// What it gets when the scraper does not say how long it waits.
const USUAL: Duration = Duration::from_secs(3);

/// What the node asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusPort {
    /// Where it listens.
    pub address: SocketAddr,
    /// The program's page, if it has one.
    pub app: Option<AppPage>,
}

impl StatusPort {
    /// Reads the node's metadata; `None` when it asks for no such port.
    ///
    /// # Errors
    /// A value that cannot be meant; the text names the key.
    pub fn of(node: &Node) -> Result<Option<StatusPort>, String> {
        let Some(text) = node.text("STATUS_PORT") else { return Ok(None) };
        let port = port("STATUS_PORT", text)?;
        let ip = node.id.split('~').nth(1).and_then(|part| part.parse::<IpAddr>().ok());
        let ip = ip.ok_or_else(|| format!("node.id {:?} has no address for STATUS_PORT", node.id))?;
        let app = match node.text("ISTIO_PROMETHEUS_ANNOTATIONS") {
            Some(text) if node.text("ENABLE_PROMETHEUS_MERGE") != Some("false") => app_page(text, node)?,
            _ => None,
        };
        Ok(Some(StatusPort { address: SocketAddr::new(ip, port), app }))
    }
}

fn port(key: &str, text: &str) -> Result<u16, String> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| format!("node.metadata.{key} is {text:?}: it must be a port"))
}

/// The program's page as the annotations describe it.
fn app_page(annotations: &str, node: &Node) -> Result<Option<AppPage>, String> {
    const KEY: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct Annotations {
        scrape: String,
        path: String,
        port: String,
    }
    let read: Annotations = serde_json::from_str(annotations)
        .map_err(|error| format!("node.metadata.{KEY} is not a JSON object of texts: {error}"))?;
    if read.scrape != "true" {
        return Ok(None);
    }
    let path = if read.path.is_empty() { "/metrics".to_owned() } else { read.path };
    if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte >= 0x7f) {
        return Err(format!("node.metadata.{KEY}: path {path:?} is not the path of a page"));
    }
    let port = port(KEY, if read.port.is_empty() { "80" } else { &read.port })?;
    let ip = match node.text("TULLE_APP_ADDRESS") {
        Some(text) => text.parse().map_err(|_| format!("node.metadata.TULLE_APP_ADDRESS is {text:?}"))?,
        None => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Ok(Some(AppPage { address: SocketAddr::new(ip, port), path }))
}

/// The pages of the port.
pub struct StatusPages {
    /// What the proxy's own part is made from.
    pub context: Rc<Context>,
    /// The program's page, if it has one.
    pub app: Option<AppPage>,
}

impl Answer for StatusPages {
    async fn answer(&self, request: &Request<Incoming>) -> Page {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return status(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n");
        }
        match request.uri().path() {
            "/stats/prometheus" => self.metrics(request).await,
            "/healthz/ready" => ready(&self.context, &Asked { query: Query::parse(""), accept: "" }),
            _ => status(StatusCode::NOT_FOUND, "there are /stats/prometheus and /healthz/ready\n"),
        }
    }
}

impl StatusPages {
    /// The proxy's metrics, then the program's. Always the plain text form: two pages of OpenMetrics are not one.
    async fn metrics(&self, request: &Request<Incoming>) -> Page {
        let format = Format::Text;
        let mut body = stats::prometheus_text(&self.context, format);
        if let Some(app) = &self.app {
            let asked = request.headers().get("x-prometheus-scrape-timeout-seconds");
            let seconds = asked.and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
            // The scraper shall still get this page when the program takes all its time.
            let limit = seconds
                .and_then(|seconds| Duration::try_from_secs_f64(seconds * 0.8).ok())
                .map_or(USUAL, |limit| limit.clamp(Duration::from_millis(100), LONGEST));
            match app_metrics::scrape(app, limit).await {
                Ok(page) => {
                    body.push_str("# TYPE tulle_app_scrape_up gauge\ntulle_app_scrape_up 1\n");
                    body.push_str(&page);
                }
                Err(reason) => {
                    tracing::debug!(address = %app.address, path = app.path, "the program's metrics: {reason}");
                    body.push_str("# TYPE tulle_app_scrape_up gauge\ntulle_app_scrape_up 0\n");
                }
            }
        }
        typed(format.content_type(), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::model::Value;
    use std::collections::BTreeMap;

    fn node(metadata: &[(&str, &str)]) -> Node {
        Node {
            id: "sidecar~127.10.0.1~a.b~c".into(),
            cluster: "a".into(),
            metadata: metadata
                .iter()
                .map(|(key, value)| ((*key).into(), Value::String((*value).into())))
                .collect::<BTreeMap<_, _>>(),
            locality: Default::default(),
        }
    }

    #[test]
    fn what_the_node_asks_for() {
        assert_eq!(StatusPort::of(&node(&[])), Ok(None));
        let wanted = [
            ("STATUS_PORT", "15020"),
            ("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"scrape":"true","port":"9090"}"#),
            ("TULLE_APP_ADDRESS", "127.10.2.1"),
        ];
        let port = StatusPort::of(&node(&wanted)).unwrap().unwrap();
        assert_eq!(port.address.to_string(), "127.10.0.1:15020");
        let app = port.app.unwrap();
        assert_eq!((app.address.to_string().as_str(), app.path.as_str()), ("127.10.2.1:9090", "/metrics"));
        let off = [wanted[0], wanted[1], ("ENABLE_PROMETHEUS_MERGE", "false")];
        assert_eq!(StatusPort::of(&node(&off)).unwrap().unwrap().app, None);
        let unscraped = [wanted[0], ("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"scrape":"false","port":"9090"}"#)];
        assert_eq!(StatusPort::of(&node(&unscraped)).unwrap().unwrap().app, None);
        for (key, value) in [
            ("STATUS_PORT", "x"),
            ("ISTIO_PROMETHEUS_ANNOTATIONS", "x"),
            ("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"scrape":"true","port":"0"}"#),
            ("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"scrape":"true","path":"a b"}"#),
        ] {
            let mut metadata = vec![("STATUS_PORT", "15020")];
            metadata.retain(|(known, _)| *known != key);
            metadata.push((key, value));
            assert!(StatusPort::of(&node(&metadata)).unwrap_err().contains(key), "{key} {value}");
        }
    }
}
