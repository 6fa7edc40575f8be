//! An access log that writes errors only is raised from outside for one request id, and for all, without a new
//! configuration and on the connection that is open.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::json;
use tests::{PATIENCE, Process, exchange, free_address, get, until};

fn ask(stream: &mut TcpStream, path: &str, id: &str) {
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nx-request-id: {id}\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1);
        answer.push(byte[0]);
    }
}

fn post(admin: SocketAddr, path: &str) -> String {
    let request =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    String::from_utf8(exchange(admin, request.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_log_of_errors_is_raised_for_one_id_and_for_all() {
    let (folder, admin, front) = (tempfile::tempdir().unwrap(), free_address(), free_address());
    let socket =
        |it: SocketAddr| json!({"socket_address": {"address": it.ip().to_string(), "port_value": it.port()}});
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let errors = json!({"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "x"}}}});
    let bootstrap = json!({
        "admin": {"address": socket(admin)},
        "static_resources": {"listeners": [{"name": "front", "address": socket(front), "filter_chains": [{"filters": [
            {"name": "hcm", "typed_config": {"@type": manager, "stat_prefix": "front",
                "preserve_external_request_id": true,
                "access_log": [{"name": "log", "filter": errors, "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                    "log_format": {"text_format_source": {"inline_string": "[LOG] id=%REQ(X-REQUEST-ID)% %RESPONSE_CODE%\n"}}}}],
                "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/bad"}, "direct_response": {"status": 503}},
                    {"match": {"prefix": "/"}, "direct_response": {"status": 204}}]}]},
                "http_filters": [{"name": "router", "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]}
    });
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let words = ["-c", file.to_str().unwrap(), "--concurrency", "1"];
    let mut proxy = Process::start("tulle-proxy", &words, folder.path());
    until("the proxy is ready", || get(admin, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200")));
    let mut client = TcpStream::connect(front).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();

    ask(&mut client, "/", "quiet-1");
    assert!(post(admin, "/access_log?request_id=wanted").starts_with("HTTP/1.1 200"));
    ask(&mut client, "/", "wanted");
    ask(&mut client, "/", "quiet-2");
    assert!(post(admin, "/access_log?all&seconds=600").starts_with("HTTP/1.1 200"));
    ask(&mut client, "/", "raised");
    assert!(post(admin, "/access_log?reset").starts_with("HTTP/1.1 200"));
    ask(&mut client, "/", "quiet-3");
    ask(&mut client, "/bad", "bad");
    proxy.says(&["[LOG] id=bad 503"]);
    let log = proxy.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.starts_with("[LOG]")).collect();
    assert_eq!(lines, ["[LOG] id=wanted 204", "[LOG] id=raised 204", "[LOG] id=bad 503"]);
    for wrong in ["", "?all&reset", "?all&seconds=0", "?request_id=", "?nonsense"] {
        assert!(post(admin, &format!("/access_log{wrong}")).starts_with("HTTP/1.1 400"), "{wrong}");
    }
    assert!(get(admin, "/access_log?all").unwrap().starts_with("HTTP/1.1 405"), "a GET changes nothing");
}
