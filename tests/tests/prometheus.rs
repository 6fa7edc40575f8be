//! A real Prometheus scrapes a mesh with traffic of every kind and evaluates the expressions of Istio's dashboards: each
//! returns data, or stands in `testdata/expected-empty.yaml` with the reason why it cannot.
//!
//! The dashboards are read from the corpus beside the project and are no part of it. `TULLE_CORPUS` names its folder
//! where it stands elsewhere, `TULLE_PROMETHEUS` the program.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;
use tests::chaos::{Instance, Mesh};
use tests::{Process, free_address, get, root, until, until_within};

const BLOCK: u8 = 90;
const TCP_PORT: u16 = 9000;
const APP_METRICS_PORT: u16 = 9102;
/// How long every expression gets to return data.
const PATIENCE: Duration = Duration::from_secs(120);

/// Beside HTTP: bytes, and a service that is called without TLS.
fn rules() -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: store}}\nspec: {{selector: {{app: back}}, clusterIP: 127.{BLOCK}.1.200, ports: [{{name: tcp, port: {TCP_PORT}, targetPort: {TCP_PORT}}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: plain}}\nspec: {{selector: {{app: back}}, clusterIP: 127.{BLOCK}.1.201, ports: [{{name: http, port: 8080, targetPort: 8080}}, {{name: tcp, port: {TCP_PORT}, targetPort: {TCP_PORT}}}]}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: plain}}\nspec: {{host: plain, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: back}}\nspec:\n  hosts: [back]\n  http:\n  - match: [{{uri: {{prefix: /broken}}}}]\n    directResponse: {{status: 503}}\n  - route: [{{destination: {{host: back}}}}]\n"
    )
}

/// Threads that run until they are told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Traffic {
    fn new() -> Traffic {
        Traffic { stop: Arc::default(), threads: Vec::new() }
    }

    fn again(&mut self, pause: Duration, mut call: impl FnMut() + Send + 'static) {
        let stop = self.stop.clone();
        self.threads.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                call();
                std::thread::sleep(pause);
            }
        }));
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn echo_bytes(address: SocketAddr) -> Option<()> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(b"ping").ok()?;
    stream.read_exact(&mut [0; 4]).ok()
}

/// A program of bytes beside the HTTP one.
fn serve_bytes(address: SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut bytes = [0; 64];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    if stream.write_all(&bytes[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn calls(mesh: &Mesh, traffic: &mut Traffic) {
    let back = mesh.instances("back")[0].clone();
    serve_bytes(SocketAddr::new(mesh.program(&back).ip(), TCP_PORT));
    let vip = |last: u8, port: u16| SocketAddr::new(IpAddr::from([127, BLOCK, 1, last]), port);
    let pause = Duration::from_millis(100);
    let broken = mesh.service("back");
    let http = [mesh.service("back"), vip(201, 8080), mesh.address(&back)];
    for address in http {
        traffic.again(pause, move || drop(get(address, "/")));
    }
    traffic.again(pause, move || drop(get(broken, "/broken")));
    let own = SocketAddr::new(mesh.address(&back).ip(), TCP_PORT);
    for address in [vip(200, TCP_PORT), vip(201, TCP_PORT), own] {
        until("bytes are passed on", || echo_bytes(address));
        traffic.again(pause, move || {
            echo_bytes(address);
        });
    }
}

/// Where things are.
fn corpus() -> Option<PathBuf> {
    let named = std::env::var_os("TULLE_CORPUS").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| root().join("../shared/corpus")).join("samples/addons");
    folder.is_dir().then_some(folder)
}

fn prometheus_program() -> Option<PathBuf> {
    let named = std::env::var_os("TULLE_PROMETHEUS").map(PathBuf::from);
    let program = named.unwrap_or_else(|| "/usr/bin/prometheus".into());
    program.is_file().then_some(program)
}

/// The Prometheus and where it answers.
struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    fn start(program: &Path, folder: &Path, mesh: &Mesh) -> Prometheus {
        let sidecars: Vec<String> = ["caller", "back"]
            .iter()
            .flat_map(|service| mesh.instances(service))
            .map(|instance| format!("\"{}\"", SocketAddr::new(mesh.address(&instance).ip(), 15020)))
            .collect();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nscrape_configs:\n\
             - job_name: istiod\n  static_configs: [{{targets: [\"{}\"], labels: {{app: istiod, pod: istiod-0, namespace: istio-system}}}}]\n\
             - job_name: sidecars\n  metrics_path: /stats/prometheus\n  static_configs: [{{targets: [{}]}}]\n",
            mesh.monitoring(),
            sidecars.join(", ")
        );
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let address = free_address();
        let mut command = Command::new(program);
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let process = Process::start_command(&mut command, folder);
        let this = Prometheus { _process: process, address };
        until_within(PATIENCE, "Prometheus scrapes every target", || {
            let up = this.query("sum(up)").ok()?;
            (up == ["3"]).then_some(())
        });
        this
    }

    /// The values of an expression that are numbers.
    fn query(&self, expression: &str) -> Result<Vec<String>, String> {
        let path = format!("/api/v1/query?query={}", encoded(expression));
        let answer = get(self.address, &path).ok_or("no answer")?;
        let body = answer.split_once("\r\n\r\n").ok_or("no body")?.1;
        let begin = body.find('{').ok_or("no JSON")?;
        let end = body.rfind('}').ok_or("no JSON")?;
        let value: Value =
            serde_json::from_str(&body[begin..=end]).map_err(|error| format!("{error}: {body}"))?;
        if value["status"] != "success" {
            return Err(format!("{}", value["error"]));
        }
        let data = &value["data"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let found: Vec<String> = match data["resultType"].as_str() {
            Some("scalar") => vec![text(&data["result"][1])],
            _ => data["result"].as_array().into_iter().flatten().map(|one| text(&one["value"][1])).collect(),
        };
        Ok(found.into_iter().filter(|value| value != "NaN").collect())
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// Every PromQL expression of a dashboard: of its panels and of its variables.
fn expressions(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("expr", Value::String(text)) if !text.trim().is_empty() => {
                        found.insert(text.clone());
                    }
                    ("query" | "definition", Value::String(text)) => {
                        let inner =
                            text.trim().strip_prefix("query_result(").and_then(|it| it.strip_suffix(')'));
                        found.extend(inner.map(|it| it.trim().to_owned()));
                    }
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn of_corpus(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap().chain(std::fs::read_dir(folder.join("extras")).unwrap()) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "yaml") {
            continue;
        }
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap_or_default();
        for document in documents {
            for text in document["data"].as_object().into_iter().flat_map(serde_json::Map::values) {
                if let Ok(dashboard) = serde_json::from_str::<Value>(text.as_str().unwrap_or_default()) {
                    expressions(&dashboard, &mut found);
                }
            }
        }
    }
    found
}

/// An expression as a dashboard sends it, for each choice of its variables.
fn filled(expression: &str) -> Vec<String> {
    let services = ["back", "store", "plain"].map(|name| format!("{name}.shop.svc.cluster.local"));
    let mut all = Vec::new();
    for service in &services {
        for workload in ["back-31", "caller-9"] {
            let mut text = expression.to_owned();
            for (variable, value) in [
                ("$__rate_interval", "20s"),
                ("$service", service.as_str()),
                ("$workload", workload),
                ("$qrep", "source|destination"),
                ("$namespace", ".*"),
                ("$srcns", ".*"),
                ("$dstns", ".*"),
                ("$srcwl", ".*"),
                ("$dstwl", ".*"),
                ("$dstsvc", ".*"),
                ("$srccluster", ".*"),
                ("$dstcluster", ".*"),
            ] {
                text = text.replace(variable, value);
            }
            if !all.contains(&text) {
                all.push(text);
            }
        }
    }
    all
}

/// What cannot return data, and why.
#[derive(Debug, Deserialize)]
struct Empty {
    /// A part of the expression.
    has: String,
    reason: String,
}

#[test]
fn every_expression_of_the_dashboards_returns_data_or_has_a_reason_not_to() {
    let (Some(corpus), Some(program)) = (corpus(), prometheus_program()) else {
        println!("skipped: the corpus or Prometheus is not here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let mut mesh = Mesh::control(BLOCK, &[Instance::new("back", 31)], "", &rules());
    mesh.app_metrics = Some(format!("{{\"scrape\":\"true\",\"port\":\"{APP_METRICS_PORT}\"}}"));
    for instance in ["caller", "back"].iter().flat_map(|name| mesh.instances(name)).collect::<Vec<_>>() {
        mesh.start_program(&instance);
        mesh.start_sidecar(&instance);
        mesh.ready(&instance);
    }
    let mut traffic = Traffic::new();
    calls(&mesh, &mut traffic);
    let prometheus = Prometheus::start(&program, folder.path(), &mesh);
    merged_page(&mesh);

    let reasons: Vec<Empty> = serde_saphyr::from_str(
        &std::fs::read_to_string(root().join("testdata/expected-empty.yaml")).unwrap(),
    )
    .unwrap();
    assert!(reasons.iter().all(|it| it.has.len() > 5 && it.reason.len() > 20), "{reasons:?}");
    let all = of_corpus(&corpus);
    assert!(all.len() > 200, "{} expressions", all.len());
    let started = Instant::now();
    let mut left: Vec<&String> = all.iter().collect();
    let expected = |expression: &str| reasons.iter().position(|it| expression.contains(&it.has));
    while started.elapsed() < PATIENCE && left.iter().any(|it| expected(it).is_none()) {
        left.retain(|expression| {
            !filled(expression).iter().any(|text| {
                let values = prometheus.query(text).unwrap_or_else(|error| panic!("{text}: {error}"));
                !values.is_empty()
            })
        });
        std::thread::sleep(Duration::from_secs(1));
    }
    let mut used = BTreeSet::new();
    let mut unexplained = Vec::new();
    for expression in &left {
        match expected(expression) {
            Some(reason) => drop(used.insert(reason)),
            None => unexplained.push(expression),
        }
    }
    println!(
        "{} expressions: {} with data, {} empty for {} reasons",
        all.len(),
        all.len() - left.len(),
        left.len(),
        used.len()
    );
    assert!(unexplained.is_empty(), "no data and no reason: {unexplained:#?}");
    for (at, reason) in reasons.iter().enumerate() {
        assert!(used.contains(&at), "nothing is empty for this reason any more: {reason:?}");
    }
    // What this test would say of a metric that does not exist.
    assert_eq!(prometheus.query("sum(tulle_no_such_metric)"), Ok(Vec::new()));
}

/// The program's metrics stand beside the sidecar's, and a broken page of it spoils nothing.
fn merged_page(mesh: &Mesh) {
    let back = mesh.instances("back")[0].clone();
    let status = SocketAddr::new(mesh.address(&back).ip(), 15020);
    let page = || get(status, "/stats/prometheus").unwrap();
    assert!(get(status, "/healthz/ready").unwrap().starts_with("HTTP/1.1 200"));
    assert!(page().contains("\ntulle_app_scrape_up 0\n"), "nobody listens there yet");
    let listener = TcpListener::bind(SocketAddr::new(mesh.program(&back).ip(), APP_METRICS_PORT)).unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let says = broken.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let line =
                if says.load(Ordering::Relaxed) { "orders_total{ 7" } else { "orders_total{kind=\"new\"} 7" };
            let body = format!("{line}\nistio_requests_total{{reporter=\"forged\"}} 9\n");
            let _ = write!(stream, "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\n{body}");
        }
    });
    let merged = page();
    assert!(
        merged.contains("\norders_total{kind=\"new\"} 7\n") && merged.contains("\nistio_requests_total{")
    );
    assert!(!merged.contains("forged") && merged.contains("\ntulle_app_scrape_up 1\n"), "{merged}");
    broken.store(true, Ordering::Relaxed);
    let own = page();
    assert!(own.contains("\ntulle_app_scrape_up 0\n") && own.contains("\nistio_requests_total{"), "{own}");
    assert!(!own.contains("orders_total"));
    broken.store(false, Ordering::Relaxed);
}
