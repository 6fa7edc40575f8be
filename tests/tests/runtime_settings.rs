//! What a bootstrap's runtime and cluster manager set: most connections of a listener and of the process, the file for
//! ejections, whether hosts that cannot be reached are passed over; and that a silent connection ends.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};
use tests::{PATIENCE, Process, free_address, get, until};

/// A proxy with one listener and one cluster, whose bootstrap `change` finishes.
struct Proxy {
    folder: tempfile::TempDir,
    admin: SocketAddr,
    listener: SocketAddr,
    _process: Process,
}

fn socket(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn start(upstreams: &[SocketAddr], change: impl FnOnce(&mut Value, &std::path::Path)) -> Proxy {
    let (folder, admin, listener) = (tempfile::tempdir().unwrap(), free_address(), free_address());
    let types = "type.googleapis.com/envoy.extensions.filters";
    let endpoints: Vec<_> =
        upstreams.iter().map(|it| json!({"endpoint": {"address": socket(*it)}})).collect();
    let mut bootstrap = json!({
        "admin": {"address": socket(admin)},
        "static_resources": {
            "listeners": [{"name": "front", "address": socket(listener), "filter_chains": [{"filters": [{
                "name": "http",
                "typed_config": {
                    "@type": format!("{types}.network.http_connection_manager.v3.HttpConnectionManager"),
                    "stat_prefix": "front",
                    "common_http_protocol_options": {"idle_timeout": "2s"},
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": "app"}}]}]},
                    "http_filters": [{"name": "router",
                        "typed_config": {"@type": format!("{types}.http.router.v3.Router")}}]}}]}]}],
            "clusters": [{"name": "app", "type": "STATIC", "connect_timeout": "1s",
                "load_assignment": {"cluster_name": "app", "endpoints": [{"lb_endpoints": endpoints}]}}]}
    });
    change(&mut bootstrap, folder.path());
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let words = ["-c", file.to_str().unwrap(), "--concurrency", "2"];
    let process = Process::start("tulle-proxy", &words, folder.path());
    let proxy = Proxy { folder, admin, listener, _process: process };
    until("the proxy is ready", || get(admin, "/ready").filter(|answer| answer.contains(" 200 ")));
    proxy
}

/// A program that answers every request with this status.
fn program(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let (mut stream, mut buffer) = (stream, [0; 4096]);
                while stream.read(&mut buffer).is_ok_and(|read| read > 0) {
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn layer(key: &str, value: Value) -> Value {
    json!({"layers": [{"name": "static", "static_layer": {key: value}}]})
}

/// Whether a request on this connection is answered; it stays open then.
fn is_served(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other side may have closed.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).is_ok() && &answer == b"HTTP/1.1 200"
}

fn overflow(proxy: &Proxy) -> u64 {
    let stats = get(proxy.admin, "/stats?filter=downstream_cx_overflow").unwrap();
    stats.lines().filter_map(|line| line.split_once("overflow: ")?.1.trim().parse::<u64>().ok()).sum()
}

#[test]
fn five_connections_never_become_six() {
    for key in [
        "envoy.resource_limits.listener.front.connection_limit",
        "overload.global_downstream_max_connections",
    ] {
        let proxy =
            start(&[program("200 OK")], |bootstrap, _| bootstrap["layered_runtime"] = layer(key, json!(5)));
        let mut open: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(proxy.listener).unwrap()).collect();
        let served: Vec<bool> = open.iter_mut().map(is_served).collect();
        assert_eq!(served.iter().filter(|served| **served).count(), 5, "{key}: {served:?}");
        assert_eq!(overflow(&proxy), 7, "{key}");
        // A place that is given back is taken again.
        drop(open);
        until("there is a place again", || {
            is_served(&mut TcpStream::connect(proxy.listener).unwrap()).then_some(())
        });
    }
}

#[test]
fn without_a_limit_twelve_are_served() {
    let proxy = start(&[program("200 OK")], |_, _| ());
    let mut open: Vec<TcpStream> = (0..12).map(|_| TcpStream::connect(proxy.listener).unwrap()).collect();
    assert!(open.iter_mut().all(is_served));
    assert_eq!(overflow(&proxy), 0);
}

#[test]
fn a_connection_that_never_sends_a_byte_is_closed() {
    let proxy = start(&[program("200 OK")], |_, _| ());
    let mut silent = TcpStream::connect(proxy.listener).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
}

#[test]
fn ejections_are_written_to_the_event_log() {
    let (good, bad) = (program("200 OK"), program("503 Service Unavailable"));
    let proxy = start(&[good, bad], |bootstrap, folder| {
        let path = folder.join("events.log");
        bootstrap["cluster_manager"] = json!({"outlier_detection": {"event_log_path": path}});
        bootstrap["static_resources"]["clusters"][0]["outlier_detection"] = json!({
            "consecutive_5xx": 5, "interval": "0.2s", "base_ejection_time": "0.5s", "max_ejection_percent": 50});
    });
    let log = || std::fs::read_to_string(proxy.folder.path().join("events.log")).unwrap_or_default();
    until("the bad host is ejected", || {
        get(proxy.listener, "/")?;
        log().contains("\"EJECT\"").then_some(())
    });
    until("it returns", || log().contains("\"UNEJECT\"").then_some(()));
    let text = log();
    let event: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(event["type"], "CONSECUTIVE_5XX", "{event}");
    assert_eq!((&event["cluster_name"], &event["upstream_url"]), (&json!("app"), &json!(bad.to_string())));
    assert!(event["ejected_until"].as_str() > event["timestamp"].as_str(), "{event}");
}

/// With the switch off a host that refuses gets its turns, as with Envoy; with it on only now and then.
#[test]
fn passing_over_a_host_that_refuses_can_be_turned_off() {
    let refusals = |change: fn(&mut Value)| {
        let (good, refuses) = (program("200 OK"), free_address());
        let proxy = start(&[good, refuses], |bootstrap, _| change(bootstrap));
        for _ in 0..60 {
            get(proxy.listener, "/").unwrap();
        }
        let stats = get(proxy.admin, "/stats?filter=cluster.app.upstream_cx_connect_fail").unwrap();
        let count = |line: &str| {
            line.strip_prefix("cluster.app.upstream_cx_connect_fail: ")?.trim().parse::<u32>().ok()
        };
        stats.lines().find_map(count).unwrap()
    };
    let off = |bootstrap: &mut Value| {
        bootstrap["layered_runtime"] = layer("tulle.upstream.pass_over_unreachable_hosts", json!(false));
    };
    let (without, with) = (refusals(off), refusals(|_| ()));
    assert!(without >= 15 && with <= 10, "off: {without} refusals of 60, on: {with}");
}
