//! The proxy from a bootstrap file to its end, with real sockets.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;

use super::run::serve;
use super::{Options, bootstrap};
use crate::tls::testing::{Authority, Leaf};

pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A proxy in this process.
pub(super) struct Proxy {
    pub(super) admin: SocketAddr,
    ended: Option<JoinHandle<Result<(), String>>>,
    _place: Option<tempfile::TempDir>,
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(place: tempfile::TempDir, resources: &str) -> Proxy {
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let text = format!(
        "node: {{id: test, cluster: test}}\n\
         admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}\n\
         static_resources:\n{resources}",
        admin.port()
    );
    let file = place.path().join("bootstrap.yaml");
    std::fs::write(&file, text).unwrap();
    Proxy { _place: Some(place), ..Proxy::of_file(file, admin) }
}

fn run_file(file: &Path, words: &[&str]) -> Result<(), String> {
    let file = file.to_str().unwrap();
    let first = ["tulle-proxy", "-c", file, "--concurrency", "2"];
    let options = Options::parse_from(first.iter().chain(words));
    let loaded = bootstrap::load(&options.config)?;
    runtime::thread::block_on_local(serve(options, loaded)).unwrap()
}

impl Proxy {
    /// Starts with the bootstrap in `file`, which names the address `admin`.
    pub(super) fn of_file(file: PathBuf, admin: SocketAddr) -> Proxy {
        Proxy::with_words(file, admin, &[])
    }

    fn with_words(file: PathBuf, admin: SocketAddr, words: &'static [&'static str]) -> Proxy {
        let handle = runtime::thread::spawn("proxy", move || run_file(&file, words)).unwrap();
        Proxy { admin, ended: Some(handle), _place: None }
    }

    pub(super) fn wait_ready(self) -> Proxy {
        self.wait_until("/ready", "LIVE")
    }

    /// Waits until an admin page says `wanted`.
    pub(super) fn wait_until(mut self, page: &str, wanted: &str) -> Proxy {
        let begun = Instant::now();
        loop {
            if self.ended.as_ref().is_some_and(JoinHandle::is_finished) {
                panic!("the proxy ended: {:?}", self.ended.take().unwrap().join().unwrap());
            }
            if TcpStream::connect(self.admin).is_ok() && self.get(page).contains(wanted) {
                return self;
            }
            assert!(begun.elapsed() < LIMIT, "{page} does not say {wanted}: {}", self.get(page));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn get(&self, path: &str) -> String {
        exchange(self.admin, &format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n"))
    }

    fn post(&self, path: &str) -> String {
        let head = "HTTP/1.1\r\nhost: admin\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        exchange(self.admin, &format!("POST {path} {head}"))
    }

    pub(super) fn end(mut self) {
        assert!(self.post("/quitquitquit").contains("OK"));
        self.ended.take().unwrap().join().unwrap().unwrap();
    }
}

/// Sends a request and reads until the peer closes.
pub(super) fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// An upstream that answers each request with `body`, after `gate` lets it.
pub(super) fn upstream(
    body: &'static str,
    gate: Option<mpsc::Receiver<()>>,
    asked: mpsc::Sender<()>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    runtime::thread::spawn("upstream", move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                head.push(byte[0]);
            }
            let _ = asked.send(());
            if let Some(gate) = &gate {
                let _ = gate.recv();
            }
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    })
    .unwrap();
    address
}

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const DOWNSTREAM_TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

pub(super) fn filters() -> String {
    format!(
        r#"[{{name: envoy.filters.network.http_connection_manager, typed_config: {{"@type": {HCM}, stat_prefix: test,
            route_config: {{name: r, virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: app}}}}]}}]}},
            http_filters: [{{name: envoy.filters.http.router, typed_config: {{"@type": {ROUTER}}}}}]}}}}]"#
    )
}

fn resources(port: u16, tls: &str, app: SocketAddr) -> String {
    let filters = filters();
    format!(
        "  listeners:\n  - {{name: in, address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}, filter_chains: [{{{tls} filters: {filters}}}]}}\n\
         \x20 clusters:\n  - {{name: app, type: STATIC, connect_timeout: 1s, load_assignment: {{cluster_name: app, endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}}}]}}]}}}}\n",
        app.ip(),
        app.port()
    )
}

pub(super) fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The least time of a drain is longer than all of it: its last task is still there when the workers are waited for.
#[test]
fn a_drain_that_uses_up_its_time_ends_the_process() {
    let place = tempfile::tempdir().unwrap();
    let admin = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let file = place.path().join("bootstrap.yaml");
    let port = admin.port();
    let text =
        format!("admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n");
    std::fs::write(&file, text).unwrap();
    let mut proxy = Proxy::with_words(file, admin, &["--drain-time-s", "1"]).wait_ready();
    assert!(proxy.post("/quitquitquit").contains("OK"));
    let ended = proxy.ended.take().unwrap();
    let begun = Instant::now();
    while !ended.is_finished() {
        assert!(begun.elapsed() < LIMIT, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
    ended.join().unwrap().unwrap();
}

#[test]
fn a_static_bootstrap_serves_http_and_its_admin_pages() {
    let (asked, _seen) = mpsc::channel();
    let app = upstream("hello", None, asked);
    let port = free_port();
    let proxy = start(tempfile::tempdir().unwrap(), &resources(port, "", app)).wait_ready();
    let answer = exchange(at(port), "GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hello"), "{answer}");

    assert!(proxy.get("/listeners").contains(&format!("in::127.0.0.1:{port}")));
    assert!(proxy.get("/clusters").contains(&format!("app::{app}::health_flags::healthy")));
    assert!(proxy.get("/clusters?format=json").contains("\"cluster_statuses\""));
    assert!(proxy.get("/stats/prometheus").contains("envoy_listener_downstream_cx_total"));
    assert!(proxy.get("/stats?filter=server.live").contains("server.live: 1"));
    let dump = proxy.get("/config_dump");
    assert!(
        dump.contains("envoy.admin.v3.ListenersConfigDump") && dump.contains("\"static_listeners\""),
        "{dump}"
    );
    assert!(proxy.get("/server_info").contains("\"state\": \"LIVE\""));
    assert!(proxy.get("/nothing").contains("404") && proxy.get("/nothing").contains("/config_dump"));
    assert!(proxy.get("/quitquitquit").contains("405"));
    proxy.end();
    assert!(TcpStream::connect(at(port)).is_err(), "still listening after the end");
}

#[test]
fn a_second_proxy_on_the_same_port_is_refused() {
    let port = free_port();
    let proxy = start(tempfile::tempdir().unwrap(), &resources(port, "", at(1))).wait_ready();
    let mut second = start(tempfile::tempdir().unwrap(), &resources(port, "", at(1)));
    let error = second.ended.take().unwrap().join().unwrap().unwrap_err();
    assert!(error.contains(&format!("127.0.0.1:{port}")) && error.contains("another process"), "{error}");
    proxy.end();
}

#[test]
fn the_drain_lets_a_request_finish_and_takes_no_new_connection() {
    let ((asked, seen), (release, gate)) = (mpsc::channel(), mpsc::channel());
    let app = upstream("late", Some(gate), asked);
    let port = free_port();
    let proxy = start(tempfile::tempdir().unwrap(), &resources(port, "", app)).wait_ready();
    // Keep-alive: it is the drain that ends this connection.
    let request =
        runtime::thread::spawn("client", move || exchange(at(port), "GET / HTTP/1.1\r\nhost: a\r\n\r\n"))
            .unwrap();
    seen.recv_timeout(LIMIT).unwrap();
    assert!(proxy.post("/quitquitquit").contains("OK"));
    let begun = Instant::now();
    while TcpStream::connect(at(port)).is_ok() {
        assert!(begun.elapsed() < LIMIT, "still accepting");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(proxy.get("/ready").contains("DRAINING"));
    release.send(()).unwrap();
    let answer = request.join().unwrap();
    assert!(
        answer.ends_with("late") && answer.to_ascii_lowercase().contains("connection: close"),
        "{answer}"
    );
    let mut proxy = proxy;
    proxy.ended.take().unwrap().join().unwrap().unwrap();
}

/// The listener of [`resources`], and one more at `out`, with their directions.
fn both_ways(port: u16, out: u16, app: SocketAddr) -> String {
    let text = resources(port, "", app);
    let (begin, end) = (text.find("  - {name: in,").unwrap(), text.find("  clusters:").unwrap());
    let listener = |name: &str, direction: &str, port: u16| {
        let wanted = format!("{{name: {name}, traffic_direction: {direction},");
        resources(port, "", app)[begin..].replacen("{name: in,", &wanted, 1)
    };
    let (first, second) = (listener("in", "INBOUND", port), listener("out", "OUTBOUND", out));
    let own = |text: &str| text[..text.find("  clusters:").unwrap()].to_owned();
    format!("{}{}{}{}", &text[..begin], own(&first), own(&second), &text[end..])
}

fn until(what: &str, mut state: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !state() {
        assert!(begun.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_way_out_stays_while_a_request_that_came_in_needs_it() {
    let ((asked, seen), (release, gate)) = (mpsc::channel(), mpsc::channel());
    let app = upstream("late", Some(gate), asked);
    let (port, out) = (free_port(), free_port());
    let mut proxy = start(tempfile::tempdir().unwrap(), &both_ways(port, out, app)).wait_ready();
    let request =
        runtime::thread::spawn("client", move || exchange(at(port), "GET / HTTP/1.1\r\nhost: a\r\n\r\n"))
            .unwrap();
    seen.recv_timeout(LIMIT).unwrap();
    assert!(proxy.post("/quitquitquit").contains("OK"));
    until("the way in is closed", || TcpStream::connect(at(port)).is_err());
    TcpStream::connect(at(out)).unwrap();
    release.send(()).unwrap();
    assert!(request.join().unwrap().ends_with("late"));
    until("the way out is closed", || TcpStream::connect(at(out)).is_err());
    proxy.ended.take().unwrap().join().unwrap().unwrap();
}

#[test]
fn a_graceful_drain_of_the_way_in_says_goodbye_and_goes_on_accepting() {
    let (asked, _seen) = mpsc::channel();
    let app = upstream("here", None, asked);
    let (port, out) = (free_port(), free_port());
    let proxy = start(tempfile::tempdir().unwrap(), &both_ways(port, out, app)).wait_ready();
    assert!(proxy.post("/drain_listeners?skip_exit").contains("skip_exit requires graceful"));
    assert!(proxy.post("/drain_listeners?inboundonly&graceful&skip_exit").contains("OK"));
    let request = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    // Keep-alive was asked for: without the drain this would wait for its client.
    let answer = exchange(at(port), request).to_ascii_lowercase();
    assert!(answer.ends_with("here") && answer.contains("connection: close"), "{answer}");
    let other = exchange(at(out), "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\nconnection: close\r\n\r\n");
    assert!(other.ends_with("here"), "{other}");
    assert!(proxy.post("/drain_listeners?inboundonly").contains("OK"));
    until("the way in is closed", || TcpStream::connect(at(port)).is_err());
    TcpStream::connect(at(out)).unwrap();
    proxy.end();
}

#[test]
fn plaintext_to_a_tls_chain_is_closed_without_a_byte() {
    let ca = Authority::new("root");
    let issued = ca.issue(Leaf::new(&["spiffe://cluster.local/ns/a/sa/b"]));
    let place = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| -> PathBuf {
        let file = place.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let (chain, key, root) =
        (write("chain.pem", &issued.leaf_pem), write("key.pem", &issued.key_pem), write("root.pem", &ca.pem));
    let tls = format!(
        r#"transport_socket: {{name: envoy.transport_sockets.tls, typed_config: {{"@type": {DOWNSTREAM_TLS}, require_client_certificate: true,
           common_tls_context: {{tls_certificates: [{{certificate_chain: {{filename: "{}"}}, private_key: {{filename: "{}"}}}}],
           validation_context: {{trusted_ca: {{filename: "{}"}}}}}}}}}},"#,
        chain.display(),
        key.display(),
        root.display()
    );
    let port = free_port();
    let proxy = start(place, &resources(port, &tls, at(1))).wait_ready();
    let mut stream = TcpStream::connect(at(port)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // Closed or reset, but never answered.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    let counted = format!("listener.127.0.0.1_{port}.no_filter_chain_match: 1");
    let begun = Instant::now();
    while !proxy.get("/stats?filter=no_filter_chain_match").contains(&counted) {
        assert!(begun.elapsed() < LIMIT, "not counted: {}", proxy.get("/stats"));
    }
    proxy.end();
}

#[test]
fn a_bootstrap_that_is_wrong_is_refused_with_file_and_reason() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("bad.yaml");
    std::fs::write(&file, "static_resources: {listners: []}").unwrap();
    let error = run_file(&file, &[]).unwrap_err();
    assert!(error.contains("bad.yaml") && error.contains("listners"), "{error}");
    let error = run_file(&place.path().join("none.yaml"), &[]).unwrap_err();
    assert!(error.contains("none.yaml"), "{error}");
}
