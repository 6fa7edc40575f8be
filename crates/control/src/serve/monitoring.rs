//! The monitoring port: `/metrics`, `/ready`, `/version`, `/debug/*`. Plain HTTP, loopback unless its user says otherwise.
//!
//! `/debug` shows what the mesh is made of, so it answers on loopback only, and only to requests that name this machine:
//! a web page whose name is made to point at 127.0.0.1 gets nothing.

use std::convert::Infallible;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::Tasks;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use translate::summary;

use super::debug;
use super::live::{self, Body};
use super::observe::{Observers, Selection, Who};
use super::query::Query;
use super::{raise, why};
use crate::metrics::{self, Render};
use crate::push::Connections;
use crate::serve::status;
use crate::store::{Store, verdicts};

/// The most connections of the port.
pub const MOST_CONNECTIONS: usize = 256;
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a proxy may take for a page.
const PAGE_LIMIT: Duration = Duration::from_secs(8);
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the port shows.
pub struct Monitoring {
    /// What serves.
    pub store: Arc<Store>,
    /// Metrics beside the store's own.
    pub metrics: Vec<Arc<dyn Render>>,
    /// The connected proxies, for `/debug/connections`.
    pub connections: Arc<Connections>,
    /// The proxies that can be asked, for `/debug/why`.
    pub observers: Arc<Observers>,
    /// When the root certificate ends, Unix seconds.
    pub root_ends: u64,
    /// Owner of the tasks.
    pub tasks: Tasks,
}

impl Monitoring {
    /// Serves one connection to its end.
    pub async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let local = stream.local_addr().ok();
        let drain = self.tasks.drain();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let this = self.clone();
            async move { Ok::<_, Infallible>(this.answer(&request, local).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = drain.started() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(%peer, "monitoring connection ended: {error}");
        }
    }

    async fn answer<B>(&self, request: &Request<B>, local: Option<SocketAddr>) -> Response<Body> {
        let changes = request.uri().path() == "/debug/log";
        if changes && (request.method() != Method::POST || !request.headers().contains_key(raise::HEADER)) {
            let wanted =
                format!("raising logs takes a POST with a header {}: use `tulle log`\n", raise::HEADER);
            return text(StatusCode::METHOD_NOT_ALLOWED, wanted);
        }
        if !changes && !matches!(*request.method(), Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here\n".to_owned());
        }
        let path = request.uri().path();
        if path.starts_with("/debug")
            && !(local.is_some_and(|it| it.ip().is_loopback()) && names_this_machine(request))
        {
            let reason =
                "/debug answers on a loopback address only, to requests for localhost or an IP address\n";
            return text(StatusCode::FORBIDDEN, reason.to_owned());
        }
        match path {
            "/ready" if self.store.is_synced() => text(StatusCode::OK, "ready\n".to_owned()),
            "/ready" => {
                text(StatusCode::SERVICE_UNAVAILABLE, "the configuration has not been read yet\n".to_owned())
            }
            "/version" => json(&json!({"version": VERSION, "name": "tulled"})),
            "/metrics" => {
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                response(StatusCode::OK, kind, self.metrics())
            }
            "/debug/config" => json(&self.store.verdicts()),
            "/debug/connections" => json(&self.connections.list()),
            "/debug/world" => json(&self.world()),
            "/debug/status" => json(&status::of(&self.store, &self.connections)),
            "/debug/why" => self.why(&Query::parse(request.uri().query())).await,
            "/debug/tap" => self.live(&Query::parse(request.uri().query()), false),
            "/debug/top" => self.live(&Query::parse(request.uri().query()), true),
            "/debug/log" => self.raise(&Query::parse(request.uri().query())).await,
            "/debug/renewal" => json(&self.renewal().await),
            "/debug/trace_context" => json(&self.trace_context().await),
            "/debug/proxy" => self.proxy(&Query::parse(request.uri().query())).await,
            "/debug/syncz" => json(&debug::syncz(&self.connections, VERSION)),
            "/debug/registryz" => json(&debug::registryz(&self.store.world())),
            "/debug/endpointz" => json(&debug::endpointz(&self.store.world())),
            "/debug/configz" => json(&debug::configz(&self.store.world())),
            "/debug" | "/debug/" => json(&json!([
                "/debug/config",
                "/debug/connections",
                "/debug/world",
                "/debug/status",
                "/debug/syncz",
                "/debug/registryz",
                "/debug/endpointz",
                "/debug/configz",
                "/debug/why?request_id=",
                "/debug/tap?workload=&path=&status=",
                "/debug/top?workload=",
                "/debug/log?workload=&request_id=&seconds= (POST)",
                "/debug/renewal",
                "/debug/trace_context",
                "/debug/proxy?workload=&page="
            ])),
            _ => text(
                StatusCode::NOT_FOUND,
                "there are /metrics, /ready, /version and what /debug lists\n".to_owned(),
            ),
        }
    }

    async fn why(&self, query: &Query) -> Response<Body> {
        let id = query.get("request_id");
        if id.is_empty() || id.len() > why::LONGEST_ID {
            let wanted = "ask for /debug/why?request_id=ID, the x-request-id of a request";
            return text(StatusCode::BAD_REQUEST, format!("{wanted} (at most {} bytes)\n", why::LONGEST_ID));
        }
        let replies = self.observers.ask(id, why::LIMIT).await;
        json(&why::why(&self.store.world(), id, replies))
    }

    async fn raise(&self, query: &Query) -> Response<Body> {
        match raise::wanted(query) {
            Ok(wanted) => json(&raise::raise(&self.observers, wanted, why::LIMIT).await),
            Err(reason) => text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        }
    }

    /// What passes now, line by line.
    fn live(&self, query: &Query, sums: bool) -> Response<Body> {
        let wanted = match live::wanted(query, sums) {
            Ok(wanted) => wanted,
            Err(reason) => return text(StatusCode::BAD_REQUEST, format!("{reason}\n")),
        };
        match live::body(&self.observers, &self.store, self.tasks.drain(), wanted) {
            Ok(body) => whole(StatusCode::OK, "application/x-ndjson", body),
            Err(reason) => text(StatusCode::TOO_MANY_REQUESTS, format!("{reason}\n")),
        }
    }

    /// How long the certificate of each proxy lasts, and how its renewal goes.
    async fn renewal(&self) -> Value {
        let pages = self.observers.pages("certs", why::LIMIT).await;
        let of = |(who, page): (Who, Vec<u8>)| {
            let page: Value = serde_json::from_slice(&page).ok()?;
            Some(json!({
                "proxy": who.to_string(),
                "expires": page["certificates"][0]["cert_chain"][0]["expiration_time"],
                "renewal": page["renewal"],
            }))
        };
        pages.into_iter().filter_map(of).collect()
    }

    /// The workloads whose programs do not pass trace context on, with what was counted.
    async fn trace_context(&self) -> Value {
        let pages = self.observers.pages("trace_context", why::LIMIT).await;
        let of = |(who, page): (Who, Vec<u8>)| {
            let page: Value = serde_json::from_slice(&page).ok()?;
            let told = json!({"proxy": who.to_string(), "calls": page["calls"], "lost": page["lost"]});
            (page["drops"] == true).then_some(told)
        };
        pages.into_iter().filter_map(of).collect()
    }

    /// A page of a proxy's admin server.
    async fn proxy(&self, query: &Query) -> Response<Body> {
        let (named, page) = (query.get("workload"), query.get("page"));
        if named.is_empty() || page.is_empty() {
            let wanted = "ask for /debug/proxy?workload=NAMESPACE/NAME&page=config_dump; pages: certs, clusters, config_dump, listeners, server_info, trace_context";
            return text(StatusCode::BAD_REQUEST, format!("{wanted}\n"));
        }
        let selection = Selection::parse(named);
        match self.observers.page(&selection, page, PAGE_LIMIT).await {
            Ok(page) => response(StatusCode::OK, "application/json", page),
            Err(reason) => {
                let known: Vec<String> = self.observers.list().iter().map(ToString::to_string).collect();
                let known = json!({"error": reason, "proxies": known});
                response(StatusCode::NOT_FOUND, "application/json", format!("{known}\n"))
            }
        }
    }

    fn metrics(&self) -> String {
        let mut out = String::new();
        metrics::header(&mut out, "pilot_info", "Version of the control plane.", "gauge");
        metrics::sample(&mut out, "pilot_info", &format!("{{version=\"{}\"}}", metrics::escaped(VERSION)), 1);
        let build = format!("{{component=\"pilot\",tag=\"{}\"}}", metrics::escaped(VERSION));
        metrics::header(&mut out, "istio_build", "Version of this component.", "gauge");
        metrics::sample(&mut out, "istio_build", &build, 1);
        metrics::process(&mut out);
        let world = self.store.world();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        metrics::gauge(&mut out, "pilot_services", "Services known.", count(world.services().count()));
        let routes: usize = world.namespaces().map(|(_, objects)| objects.virtual_services.len()).sum();
        metrics::gauge(&mut out, "pilot_virt_services", "VirtualServices known.", count(routes));
        let configuration = summary::counts(&world);
        for (name, help, number) in [
            (
                "pilot_vservice_dup_domain",
                "Hosts that several VirtualServices claim.",
                configuration.duplicate_hosts,
            ),
            (
                "pilot_eds_no_instances",
                "Service ports without a workload.",
                configuration.ports_without_workloads,
            ),
            (
                "pilot_destrule_subsets",
                "Subsets that several DestinationRules of a host name.",
                configuration.duplicate_subsets,
            ),
        ] {
            metrics::gauge(&mut out, name, help, count(number));
        }
        let name = "citadel_server_root_cert_expiry_seconds";
        let left = self.root_ends.saturating_sub(unix_now());
        metrics::gauge(&mut out, name, "Seconds until the root certificate ends.", left);
        let name = "citadel_server_root_cert_expiry_timestamp";
        metrics::gauge(&mut out, name, "Unix time at which the root certificate ends.", self.root_ends);
        let name = "tulle_config_resources";
        let all = self.store.verdicts();
        let refused = all.resources.iter().filter(|one| one.verdict == verdicts::Verdict::Refused).count();
        let help = "Resources that are refused as they are written now.";
        metrics::gauge(&mut out, "pilot_total_rejected_configs", help, count(refused));
        metrics::header(&mut out, name, "Resources by the verdict on them.", "gauge");
        for verdict in
            [verdicts::Verdict::Accepted, verdicts::Verdict::AcceptedWithNotes, verdicts::Verdict::Refused]
        {
            let label = serde_json::to_value(verdict).unwrap_or_default();
            let number = all.resources.iter().filter(|one| one.verdict == verdict).count();
            let _ = writeln!(out, "{name}{{verdict={label}}} {number}");
        }
        for source in &self.metrics {
            source.render(&mut out);
        }
        out
    }

    fn world(&self) -> Value {
        let world = self.store.world();
        let namespaces: serde_json::Map<String, Value> = world
            .namespaces()
            .map(|(name, objects)| {
                let counts = json!({
                    "services": objects.services.len(),
                    "workloadEntries": objects.workload_entries.len(),
                    "virtualServices": objects.virtual_services.len(),
                    "destinationRules": objects.destination_rules.len(),
                    "peerAuthentications": objects.peer_authentications.len(),
                    "authorizationPolicies": objects.authorization_policies.len(),
                    "telemetries": objects.telemetries.len(),
                });
                (name.to_owned(), counts)
            })
            .collect();
        let (streams, watches) = self.observers.counts();
        json!({
            "observe": {"streams": streams, "watches": watches},
            "revision": self.store.revision(),
            "synced": self.store.is_synced(),
            "trustDomain": world.mesh().trust_domain(),
            "namespaces": namespaces,
        })
    }
}

fn unix_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// Whether the request's Host is `localhost` or an IP address, as a person or a tool would write it.
fn names_this_machine<B>(request: &Request<B>) -> bool {
    let Some(host) = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()) else {
        return false;
    };
    let Ok(authority) = host.parse::<http::uri::Authority>() else {
        return false;
    };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_string_pretty(value) {
        Ok(text) => response(StatusCode::OK, "application/json", text + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Body> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    whole(status, kind, Full::new(body.into()).boxed_unsync())
}

fn whole(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
        .headers_mut()
        .insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CertificateMetrics;
    use crate::source::{Sink, Update};
    use runtime::{Drain, Supervisor};
    use translate::Change;

    fn monitoring() -> Monitoring {
        let (_, watch) = Drain::new();
        let tasks = Supervisor::new(watch).tasks();
        Monitoring {
            store: Store::new(),
            metrics: vec![Arc::new(CertificateMetrics::default())],
            connections: Arc::default(),
            root_ends: 7,
            observers: Observers::new(tasks.clone()),
            tasks,
        }
    }

    async fn get(monitoring: &Monitoring, path: &str, host: &str, local: &str) -> (u16, String) {
        let request = Request::get(path).header("host", host).body(()).unwrap();
        let response = monitoring.answer(&request, Some(local.parse().unwrap())).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    const LOCAL: &str = "127.0.0.1:15014";

    #[tokio::test]
    async fn shows_readiness_metrics_and_verdicts() {
        let monitoring = monitoring();
        assert_eq!(get(&monitoring, "/ready", "localhost", LOCAL).await.0, 503);
        let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.10.1, selector: {app: a}, ports: [{name: http, port: 80}]}\n";
        let parsed = api::parse("a.yaml", yaml.as_bytes(), "production");
        let changes = parsed.objects.into_iter().map(Change::Apply).collect();
        monitoring.store.apply(Update { changes, problems: Vec::new() });
        monitoring.store.synced();
        assert_eq!(get(&monitoring, "/ready", "localhost", LOCAL).await.0, 200);
        let (_, metrics) = get(&monitoring, "/metrics", "anything", "10.0.0.1:15014").await;
        for line in [
            "pilot_services 1",
            "citadel_server_csr_count 0",
            "citadel_server_root_cert_expiry_timestamp 7",
            "tulle_config_resources{verdict=\"accepted\"} 1",
            "pilot_total_rejected_configs 0",
            "pilot_eds_no_instances 1",
            "pilot_vservice_dup_domain 0",
            "citadel_server_root_cert_expiry_seconds 0",
        ] {
            assert!(metrics.lines().any(|found| found == line), "no {line} in {metrics}");
        }
        let (status, config) = get(&monitoring, "/debug/config", "127.0.0.1:15014", LOCAL).await;
        assert!(status == 200 && config.contains("\"accepted\""), "{config}");
        let (_, world) = get(&monitoring, "/debug/world", "localhost:15014", LOCAL).await;
        assert!(world.contains("\"services\": 1"), "{world}");
        let (_, status) = get(&monitoring, "/debug/status", "localhost:15014", LOCAL).await;
        assert!(status.contains("\"accepted\": 1") && status.contains("\"limits\": []"), "{status}");
        let (_, registry) = get(&monitoring, "/debug/registryz", "localhost:15014", LOCAL).await;
        assert!(registry.contains("\"hostname\": \"a.production.svc.cluster.local\""), "{registry}");
        let (_, endpoints) = get(&monitoring, "/debug/endpointz", "localhost:15014", LOCAL).await;
        assert!(endpoints.contains("\"endpoints\": []"), "{endpoints}");
        let (_, config) = get(&monitoring, "/debug/configz", "localhost:15014", LOCAL).await;
        assert!(config.contains("\"kind\": \"Service\"") && config.contains("a.yaml:4"), "{config}");
        assert_eq!(get(&monitoring, "/debug/syncz", "localhost:15014", LOCAL).await.1, "[]\n");
        assert!(metrics.contains("\nprocess_resident_memory_bytes "), "{metrics}");
        let (_, connections) = get(&monitoring, "/debug/connections", "[::1]:15014", LOCAL).await;
        assert_eq!(connections, "[]\n");
        assert_eq!(get(&monitoring, "/nothing", "localhost", LOCAL).await.0, 404);
    }

    #[tokio::test]
    async fn an_id_is_asked_for_in_a_query() {
        let monitoring = monitoring();
        let (status, answer) = get(&monitoring, "/debug/why?x=1&request_id=a%20b", "localhost", LOCAL).await;
        assert!(status == 200 && answer.contains("\"request_id\": \"a b\""), "{answer}");
        for bad in
            ["/debug/why", "/debug/why?request_id=", "/debug/why?request_id=%zz", "/debug/why?request_id=%2"]
        {
            assert_eq!(get(&monitoring, bad, "localhost", LOCAL).await.0, 400, "{bad}");
        }
    }

    #[tokio::test]
    async fn debug_is_for_this_machine_only() {
        let monitoring = monitoring();
        for (host, local) in
            [("evil.example", LOCAL), ("localhost", "10.0.0.1:15014"), ("localhost.evil.example", LOCAL)]
        {
            assert_eq!(get(&monitoring, "/debug/config", host, local).await.0, 403, "{host} {local}");
        }
        let request = Request::post("/ready").body(()).unwrap();
        assert_eq!(monitoring.answer(&request, None).await.status(), 405);
    }
}
