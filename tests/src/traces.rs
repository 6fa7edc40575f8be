//! Four workloads in a row, each behind a proxy of its own, whose spans go to a collector.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{Process, free_address, get, root, until};

/// The workloads in the order of the call.
pub const NAMES: [&str; 4] = ["front", "middle", "pricing", "stock"];
/// What programs pass on from the request they serve to the one they send.
const CONTEXT: [&str; 8] = [
    "traceparent",
    "tracestate",
    "x-request-id",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
];

/// A Python with OpenTelemetry's messages; `None` (said on standard output) where there is none.
pub fn python() -> Option<PathBuf> {
    let python = std::env::var_os("TULLE_OTLP_PYTHON").map(PathBuf::from);
    if python.is_none() {
        println!("skipped: TULLE_OTLP_PYTHON does not name a Python with grpcio and opentelemetry-proto");
    }
    python
}

/// How spans are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// OTLP over gRPC.
    Grpc,
    /// OTLP over HTTP.
    Http,
    /// Zipkin's JSON.
    Zipkin,
}

/// A span as the collector decoded it.
#[derive(Debug, Clone, Deserialize)]
pub struct Span {
    /// How it came.
    pub protocol: String,
    /// The headers with which it came.
    pub headers: BTreeMap<String, String>,
    /// The service.
    pub service: String,
    /// Attributes of the resource.
    #[serde(default)]
    pub resource: BTreeMap<String, String>,
    /// Hexadecimal.
    pub trace: String,
    /// Hexadecimal.
    pub id: String,
    /// Hexadecimal; empty for the first one.
    pub parent: String,
    /// Name.
    pub name: String,
    /// `SERVER` or `CLIENT`.
    pub kind: String,
    /// It failed.
    pub error: bool,
    /// Microseconds.
    pub start: u64,
    /// Microseconds.
    pub end: u64,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Names and tags of events.
    pub events: Vec<(String, BTreeMap<String, String>)>,
}

/// The running collector.
pub struct Collector {
    process: Process,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Collector {
    /// Starts it.
    pub fn start(python: &Path, folder: &Path) -> Collector {
        let (grpc, http) = (free_address(), free_address());
        let script = root().join("tests/otlp/collector.py");
        let ports = [grpc.port().to_string(), http.port().to_string()];
        let mut process = Process::start_command(Command::new(python).arg(script).args(ports), folder);
        process.says(&["ready"]);
        Collector { process, grpc, http }
    }

    /// Where it takes gRPC.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc
    }

    /// The records of access logs that it has received.
    pub fn records(&self) -> Vec<Value> {
        let log = self.process.log();
        let whole = log.lines().filter(|line| line.contains("\"body\""));
        whole.filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What it has received.
    pub fn spans(&self) -> Vec<Span> {
        let log = self.process.log();
        // The last line may still be on its way.
        let whole =
            log.split_inclusive('\n').filter(|line| line.ends_with('\n') && line.contains("\"trace\""));
        whole
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}

/// A program that calls the next one, if there is one, and passes the context on; the last one fails its first request.
fn program(own: TcpListener, next: Option<SocketAddr>) {
    let served = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in own.incoming() {
            let served = served.clone();
            std::thread::spawn(move || serve(stream.unwrap(), next, &served));
        }
    });
}

fn serve(mut stream: TcpStream, next: Option<SocketAddr>, served: &AtomicUsize) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    loop {
        let mut context = String::new();
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then_some(())?;
        loop {
            line.clear();
            (reader.read_line(&mut line).ok()? > 0).then_some(())?;
            match line.split_once(':') {
                Some((name, _)) if CONTEXT.contains(&name) => context.push_str(&line),
                Some(_) => {}
                None => break,
            }
        }
        let status = match next {
            None if served.fetch_add(1, Ordering::SeqCst) == 0 => 503,
            None => 200,
            Some(next) => call(next, &context)?,
        };
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).ok()?;
    }
}

/// Sends a request with these header lines and returns the status.
pub fn call(to: SocketAddr, lines: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(to).ok()?;
    let request = format!(
        "GET /basket?id=1 HTTP/1.1\r\nhost: shop\r\nuser-agent: test\r\n{lines}connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

fn cluster(name: &str, to: SocketAddr, http2: bool) -> Value {
    let address = json!({"socket_address": {"address": to.ip().to_string(), "port_value": to.port()}});
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]},
    });
    if http2 {
        let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({(kind): {
            "@type": format!("type.googleapis.com/{kind}"), "explicit_http_config": {"http2_protocol_options": {}}}});
    }
    cluster
}

/// The provider of a connection manager's tracing.
pub fn provider(protocol: Protocol, service: &str) -> Value {
    let otel = "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig";
    let config = match protocol {
        Protocol::Grpc => json!({"@type": otel, "service_name": service, "grpc_service": {
            "timeout": "5s", "envoy_grpc": {"cluster_name": "grpc", "authority": "collector.example"},
            "initial_metadata": [{"key": "x-tenant", "value": "shop"}]}}),
        Protocol::Http => json!({"@type": otel, "service_name": service, "http_service": {
            "http_uri": {"uri": "http://collector.example/v1/traces", "cluster": "http", "timeout": "5s"},
            "request_headers_to_add": [{"header": {"key": "x-tenant", "value": "shop"}}]}}),
        Protocol::Zipkin => json!({
            "@type": "type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
            "trace_id_128bit": true, "shared_span_context": false, "collector_endpoint_version": "HTTP_JSON",
            "collector_service": {"http_uri": {"uri": "http://collector.example/api/v2/spans", "cluster": "http", "timeout": "5s"},
            "request_headers_to_add": [{"header": {"key": "x-tenant", "value": "shop"}}]}}),
    };
    let name = if protocol == Protocol::Zipkin { "zipkin" } else { "opentelemetry" };
    json!({"name": format!("envoy.tracers.{name}"), "typed_config": config})
}

fn listener(name: &str, at: SocketAddr, direction: &str, tracing: &Value, route: &Value) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name, "tracing": tracing,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
    });
    json!({
        "name": name, "traffic_direction": direction,
        "address": {"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}},
        "filter_chains": [{"filters": [
            {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}],
    })
}

impl Protocol {
    /// What the proxies' statistics call it.
    fn stat(self) -> &'static str {
        match self {
            Protocol::Grpc | Protocol::Http => "tracing.opentelemetry",
            Protocol::Zipkin => "tracing.zipkin",
        }
    }
}

/// The chain: whoever calls `entry` calls the first workload.
pub struct Chain {
    /// Where the first workload is called.
    pub entry: SocketAddr,
    /// Admin addresses, in the order of the names.
    pub admins: Vec<SocketAddr>,
    protocol: Protocol,
    _proxies: Vec<Process>,
}

impl Chain {
    /// A number of the workload's proxy about its traces; 0 before there is one.
    pub fn count(&self, at: usize, name: &str) -> u64 {
        let name = format!("{}.{name}: ", self.protocol.stat());
        let stats = get(self.admins[at], "/stats?filter=tracing").unwrap();
        let line = stats.lines().find_map(|line| line.strip_prefix(&name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// The spans that the collector has taken from all proxies.
    pub fn sent(&self) -> u64 {
        (0..self.admins.len()).map(|at| self.count(at, "spans_sent")).sum()
    }

    /// Calls once, waits until that many spans have been taken, and returns them: exactly those.
    pub fn spans(&self, collector: &Collector, lines: &str, number: usize) -> Vec<Span> {
        let (before, sent) = (collector.spans().len(), self.sent());
        assert_eq!(call(self.entry, lines), Some(200));
        // Ours counts what the collector took, Envoy what it has sent.
        let all = until("all spans have come", || {
            let all = collector.spans();
            let come = self.sent() >= sent + number as u64 && all.len() >= before + number;
            come.then_some(all)
        });
        assert_eq!(all.len() - before, number, "{:#?}", &all[before..]);
        all[before..].to_vec()
    }
}

/// Starts programs and proxies; `start` starts a proxy with a bootstrap.
pub fn chain(
    protocol: Protocol,
    tracing: &Value,
    (grpc, http): (SocketAddr, SocketAddr),
    folder: &Path,
    start: impl Fn(&Path, usize) -> Process,
) -> Chain {
    let places: Vec<[SocketAddr; 3]> = NAMES.iter().map(|_| [(); 3].map(|()| free_address())).collect();
    let mut proxies = Vec::new();
    for (at, name) in NAMES.iter().enumerate() {
        let [inbound, outbound, admin] = places[at];
        let app = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = app.local_addr().unwrap();
        let next = places.get(at + 1);
        program(app, next.map(|_| outbound));
        let mut tracing = tracing.clone();
        tracing["provider"] = provider(protocol, name);
        let service = |name: &str| json!({"operation": format!("{name}:80/*")});
        let route =
            json!({"match": {"prefix": "/"}, "decorator": service(name), "route": {"cluster": "app"}});
        let mut listeners = vec![listener("inbound", inbound, "INBOUND", &tracing, &route)];
        let mut clusters =
            vec![cluster("app", own, false), cluster("grpc", grpc, true), cluster("http", http, false)];
        if let Some([called, ..]) = next {
            let retry = json!({"retry_on": "5xx", "num_retries": 1});
            let route = json!({"match": {"prefix": "/"}, "decorator": service(NAMES[at + 1]),
                "route": {"cluster": "next", "retry_policy": retry}});
            listeners.push(listener("outbound", outbound, "OUTBOUND", &tracing, &route));
            clusters.push(cluster("next", *called, false));
        }
        let bootstrap = json!({
            "node": {"id": format!("sidecar~127.0.0.1~{name}.shop~shop.svc"), "cluster": name, "locality": {"zone": "z1"}},
            "admin": {"address": {"socket_address": {"address": admin.ip().to_string(), "port_value": admin.port()}}},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        });
        let file = folder.join(format!("{name}.json"));
        std::fs::write(&file, bootstrap.to_string()).unwrap();
        proxies.push(start(&file, at));
    }
    let admins: Vec<SocketAddr> = places.iter().map(|[.., admin]| *admin).collect();
    for (admin, proxy) in admins.iter().zip(&mut proxies) {
        proxy.ready(*admin);
    }
    Chain { entry: places[0][0], admins, protocol, _proxies: proxies }
}

impl Collector {
    /// The chain with its spans sent here.
    pub fn chain(
        &self,
        protocol: Protocol,
        tracing: &Value,
        folder: &Path,
        start: impl Fn(&Path, usize) -> Process,
    ) -> Chain {
        chain(protocol, tracing, (self.grpc, self.http), folder, start)
    }
}

/// The tree, a line a span: depth, workload, kind, name, status, what failed, retries.
pub fn tree(spans: &[Span]) -> Vec<String> {
    let mut lines = Vec::new();
    let ids: Vec<&str> = spans.iter().map(|span| &*span.id).collect();
    let mut roots: Vec<&Span> = spans.iter().filter(|span| !ids.contains(&&*span.parent)).collect();
    roots.sort_by_key(|span| span.start);
    roots.iter().for_each(|root| add(root, 0, spans, &mut lines));
    lines
}

fn add(span: &Span, depth: usize, spans: &[Span], lines: &mut Vec<String>) {
    let Span { service, kind, name, .. } = span;
    let error = if span.error { " error" } else { "" };
    lines.push(format!("{depth} {service} {kind} {name} {}{error}", span.tags["http.status_code"]));
    let mut below: Vec<&Span> = spans.iter().filter(|it| it.parent == span.id).collect();
    below.sort_by_key(|span| span.start);
    below.iter().for_each(|span| add(span, depth + 1, spans, lines));
}
