//! `tulle-proxy` under a static Envoy bootstrap: the three file formats, a request, refusal, drain.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use protos::Message;
use protos::envoy::envoy::config::bootstrap::v3::Bootstrap;
use protos::json::Pool;
use tests::{Process, exchange, free_address, get, until};

struct Place {
    folder: tempfile::TempDir,
    admin: SocketAddr,
    listener: SocketAddr,
    upstream: TcpListener,
}

fn place() -> Place {
    Place {
        folder: tempfile::tempdir().unwrap(),
        admin: free_address(),
        listener: free_address(),
        upstream: TcpListener::bind("127.0.0.1:0").unwrap(),
    }
}

fn bootstrap(place: &Place) -> String {
    let (admin, listener, upstream) = (place.admin, place.listener, place.upstream.local_addr().unwrap());
    format!(
        r#"
admin: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
static_resources:
  listeners:
  - name: front
    address: {{socket_address: {{address: {}, port_value: {}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            name: local
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: app}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: app
    type: STATIC
    connect_timeout: 1s
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: {}, port_value: {}}}}}}}
"#,
        admin.ip(),
        admin.port(),
        listener.ip(),
        listener.port(),
        upstream.ip(),
        upstream.port()
    )
}

fn write(place: &Place, name: &str, bytes: &[u8]) -> PathBuf {
    let path = place.folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn start(place: &Place, file: &Path) -> Process {
    Process::start("tulle-proxy", &["-c", file.to_str().unwrap(), "--concurrency", "1"], place.folder.path())
}

fn ready(place: &Place) {
    until("the proxy is ready", || {
        get(place.admin, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
}

/// Reads one request head from the proxy.
fn take_request(upstream: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = upstream.accept().unwrap();
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

fn passes_a_request(place: &Place) {
    let listener = place.listener;
    let client = std::thread::spawn(move || {
        exchange(listener, b"GET /a%2fb?q=1 HTTP/1.1\r\nHost: shop.example\r\nX-Mixed-CASE: Kept\r\nConnection: close\r\n\r\n")
    });
    let (mut stream, head) = take_request(&place.upstream);
    assert!(head.starts_with("GET /a%2fb?q=1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.contains("X-Mixed-CASE: Kept\r\n") && head.to_lowercase().contains("x-request-id: "),
        "{head}"
    );
    stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 5\r\nX-App: 1\r\n\r\nhello").unwrap();
    let answer = String::from_utf8(client.join().unwrap().unwrap()).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 201")
            && answer.contains("X-App: 1")
            && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
}

#[test]
fn yaml_json_and_binary_bootstraps_serve_the_same() {
    let pool = Pool::load().unwrap();
    for format in ["yaml", "json", "pb"] {
        let place = place();
        let text = bootstrap(&place);
        let message: Bootstrap = pool.from_yaml(&text).unwrap();
        let bytes = match format {
            "yaml" => text.into_bytes(),
            "json" => pool.to_json(&message).unwrap().to_string().into_bytes(),
            _ => message.encode_to_vec(),
        };
        let file = write(&place, &format!("bootstrap.{format}"), &bytes);
        let _proxy = start(&place, &file);
        ready(&place);
        passes_a_request(&place);
        let metrics = get(place.admin, "/stats/prometheus").unwrap();
        assert!(
            metrics.contains("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"app\"} 1"),
            "{metrics}"
        );
        let dump = get(place.admin, "/config_dump").unwrap();
        assert!(dump.contains("HttpConnectionManager"), "{dump}");
        let clusters = get(place.admin, "/clusters").unwrap();
        assert!(clusters.contains(&format!("app::{}::", place.upstream.local_addr().unwrap())), "{clusters}");
    }
}

/// What a program prints, when it is there.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new(program).args(arguments).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends a request through a proxy of its own by that program; what it printed.
fn through(codec: &str, program: &'static str, arguments: &[&str]) -> String {
    let place = place();
    let text = bootstrap(&place)
        .replace("stat_prefix: front", &format!("stat_prefix: front\n          codec_type: {codec}"));
    let file = write(&place, "bootstrap.yaml", text.as_bytes());
    let _proxy = start(&place, &file);
    ready(&place);
    let address = format!("http://{}/one?two", place.listener);
    let arguments: Vec<String> = arguments.iter().map(|it| (*it).to_owned()).chain([address]).collect();
    let client = std::thread::spawn(move || {
        printed(program, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    });
    let (mut stream, head) = take_request(&place.upstream);
    assert!(head.starts_with("GET /one?two HTTP/1.1\r\n"), "{head}");
    let lower = head.to_lowercase();
    let clean = !lower.contains("h2c") && !lower.contains("http2-settings");
    assert!(lower.contains("x-mine: 1") && clean, "{head}");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    let printed = client.join().unwrap().unwrap();
    let metrics = get(place.admin, "/stats/prometheus").unwrap();
    assert!(metrics.contains("envoy_cluster_upstream_rq_total{envoy_cluster_name=\"app\"} 1"), "{metrics}");
    printed
}

/// `curl --http2` and `nghttp --upgrade` offer `upgrade: h2c` on plaintext. The upstream sees one request, and nothing of
/// the offer.
#[test]
fn curl_and_nghttp_go_on_in_http2_where_http2_is_taken() {
    let curl = ["-sS", "--http2", "-m", "60", "-H", "X-Mine: 1", "-w", " over HTTP/%{http_version}"];
    if printed("curl", &["--version"]).is_some_and(|it| it.contains("HTTP2")) {
        for (codec, version) in [("AUTO", "2"), ("HTTP1", "1.1")] {
            assert_eq!(through(codec, "curl", &curl), format!("hello over HTTP/{version}"), "codec {codec}");
        }
    } else {
        println!("skipped: no curl with HTTP/2");
    }
    if printed("nghttp", &["--version"]).is_some() {
        let verbose = through("AUTO", "nghttp", &["--upgrade", "-v", "-t", "60", "-H", "x-mine: 1"]);
        assert!(
            verbose.contains("101 Switching Protocols")
                && verbose.contains("recv (stream_id=1) :status: 200")
                && verbose.contains("hello"),
            "{verbose}"
        );
    } else {
        println!("skipped: no nghttp");
    }
}

#[test]
fn a_bootstrap_that_cannot_be_honoured_is_refused_with_its_path() {
    for (from, to, words) in [
        ("stat_prefix: front", "stat_prefixx: front", ["stat_prefixx", "bootstrap.yaml"]),
        (
            "envoy.extensions.filters.http.router.v3.Router}",
            "envoy.extensions.filters.http.cors.v3.Cors}",
            ["http_filters[0]", "cors.v3.Cors"],
        ),
        (
            "connect_timeout: 1s",
            "connect_timeout: 1s\n    lb_policy: MAGLEV",
            ["clusters[0].lb_policy", "MAGLEV"],
        ),
    ] {
        let place = place();
        let text = bootstrap(&place);
        assert!(text.contains(from));
        let file = write(&place, "bootstrap.yaml", text.replace(from, to).as_bytes());
        let mut proxy = start(&place, &file);
        assert!(!proxy.wait().success());
        let log = proxy.log();
        assert!(words.iter().all(|word| log.contains(word)), "{words:?} not in {log}");
    }
}

#[test]
fn a_stop_lets_the_request_in_flight_finish() {
    let place = place();
    let file = write(&place, "bootstrap.yaml", bootstrap(&place).as_bytes());
    let mut proxy = start(&place, &file);
    ready(&place);
    let listener = place.listener;
    let client = std::thread::spawn(move || exchange(listener, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let (mut stream, _) = take_request(&place.upstream);
    proxy.signal(rustix::process::Signal::TERM);
    until("new connections are refused", || TcpStream::connect(listener).is_err().then_some(()));
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    let answer = String::from_utf8(client.join().unwrap().unwrap()).unwrap();
    assert!(answer.ends_with("done") && answer.to_lowercase().contains("connection: close"), "{answer}");
    assert!(proxy.wait().success(), "{}", proxy.log());
}
