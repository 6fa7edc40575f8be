//! An access log that nobody reads: requests go on as fast as without, lines are dropped, and the drops are counted.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use serde_json::json;
use tests::{PATIENCE, Process, free_address, get, until};

/// Starts a proxy that answers by itself and logs a long line about each request to that file.
fn start(folder: &Path, log: &Path) -> (Process, SocketAddr, SocketAddr) {
    let (admin, front) = (free_address(), free_address());
    let socket =
        |it: SocketAddr| json!({"socket_address": {"address": it.ip().to_string(), "port_value": it.port()}});
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let bootstrap = json!({
        "admin": {"address": socket(admin)},
        "static_resources": {"listeners": [{"name": "front", "address": socket(front), "filter_chains": [{"filters": [
            {"name": "hcm", "typed_config": {"@type": manager, "stat_prefix": "front",
                "access_log": [{"name": "log", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": log,
                    "log_format": {"text_format_source": {"inline_string": format!("{}\n", "%REQ(X-LONG)%".repeat(50))}}}}],
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "direct_response": {"status": 200}}]}]},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}
    });
    let file = folder.join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let mut proxy =
        Process::start("tulle-proxy", &["-c", file.to_str().unwrap(), "--concurrency", "1"], folder);
    proxy.ready(admin);
    (proxy, admin, front)
}

/// Sends that many requests on one connection, each with a line of 200 KB, and reads every answer.
fn send(front: SocketAddr, requests: usize) {
    let mut stream = TcpStream::connect(front).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(4_000));
    for number in 0..requests {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).unwrap(), 1, "request {number} was not answered");
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"));
    }
}

fn dropped(admin: SocketAddr) -> u64 {
    let page = get(admin, "/stats/prometheus").unwrap();
    let line =
        page.lines().find(|line| line.starts_with("tulle_access_log_dropped_total{")).unwrap().to_owned();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_pipe_that_nobody_reads_costs_lines_and_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let (_proxy, admin, front) = start(folder.path(), &pipe);
    // 16 MiB may wait: 300 lines of 200 KB are more.
    send(front, 300);
    let lost = dropped(admin);
    assert!((150..300).contains(&lost), "{lost} lines were dropped");
}

#[test]
fn a_file_takes_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let (_proxy, admin, front) = start(folder.path(), &file);
    send(front, 30);
    until("every line is written", || {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        (lines == 30).then_some(())
    });
    assert_eq!(dropped(admin), 0);
}
