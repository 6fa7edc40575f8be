//! Access logs over OpenTelemetry's protocol: a collector written with OpenTelemetry's own messages gets a record for every
//! request; one that is not there costs no request any time.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use serde_json::{Value, json};
use tests::traces::{Collector, python};
use tests::{Process, free_address, get, until};

fn proxy(folder: &std::path::Path, collector: SocketAddr) -> (Process, SocketAddr, SocketAddr) {
    let (admin, front) = (free_address(), free_address());
    let socket =
        |it: SocketAddr| json!({"socket_address": {"address": it.ip().to_string(), "port_value": it.port()}});
    let text = |text: &str| json!({"string_value": text});
    let manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let log = json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        "grpc_service": {"envoy_grpc": {"cluster_name": "collector", "authority": "collector"}, "timeout": "1s"},
        "log_name": "mesh",
        "resource_attributes": {"values": [{"key": "zone", "value": text("here")}]},
        "body": text("%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%"),
        "attributes": {"values": [
            {"key": "status", "value": text("%RESPONSE_CODE%")},
            {"key": "none", "value": text("%REQ(x-none)%")},
            {"key": "more", "value": {"kvlist_value": {"values": [
                {"key": "list", "value": {"array_value": {"values": [text("%PROTOCOL%"), text("x")]}}}]}}}
        ]}
    });
    let bootstrap = json!({
        "node": {"id": "node-1", "cluster": "group-1"},
        "admin": {"address": socket(admin)},
        "static_resources": {
            "listeners": [{"name": "front", "address": socket(front), "filter_chains": [{"filters": [
                {"name": "hcm", "typed_config": {"@type": manager, "stat_prefix": "front",
                    "access_log": [{"name": "otel", "typed_config": log}],
                    "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                        {"match": {"prefix": "/"}, "direct_response": {"status": 204}}]}]},
                    "http_filters": [{"name": "router", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}],
            "clusters": [{"name": "collector", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                    "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "collector", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(collector)}}]}]}}]}
    });
    let file = folder.join("bootstrap.json");
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    let words = ["-c", file.to_str().unwrap(), "--concurrency", "1"];
    let process = Process::start("tulle-proxy", &words, folder);
    until("the proxy is ready", || get(admin, "/ready").filter(|answer| answer.starts_with("HTTP/1.1 200")));
    (process, admin, front)
}

fn count(admin: SocketAddr, name: &str) -> f64 {
    let page = get(admin, "/stats/prometheus").unwrap();
    let line = page.lines().find(|line| line.starts_with(name));
    line.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_collector_gets_a_record_for_every_request() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&python, folder.path());
    let (_proxy, admin, front) = proxy(folder.path(), collector.grpc_address());
    for number in 0..20 {
        assert!(get(front, &format!("/r{number}")).unwrap().starts_with("HTTP/1.1 204"));
    }
    let records = until("all records have come", || {
        let records = collector.records();
        (records.len() >= 20).then_some(records)
    });
    assert_eq!(records.len(), 20);
    let first = &records[0];
    assert_eq!(first["body"], "GET /r0 204");
    assert_eq!(
        first["resource"],
        json!({"log_name": "mesh", "zone_name": "", "cluster_name": "group-1",
        "node_name": "node-1", "zone": "here"})
    );
    let expected: Value = json!({"status": "204", "none": "-", "more": {"list": ["HTTP/1.1", "x"]}});
    assert_eq!(first["attributes"], expected);
    assert!(first["time"].as_u64().unwrap() > 1_600_000_000_000_000);
    until("what was sent is counted", || {
        (count(admin, "envoy_access_logs_open_telemetry_access_log_logs_written_total") >= 20.0).then_some(())
    });
}

#[test]
fn a_collector_that_is_not_there_costs_records_and_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let (_proxy, admin, front) = proxy(folder.path(), free_address());
    for _ in 0..20 {
        assert!(get(front, "/").unwrap().starts_with("HTTP/1.1 204"));
    }
    until("what is lost is counted", || {
        (count(admin, "envoy_access_logs_open_telemetry_access_log_logs_dropped_total") >= 20.0).then_some(())
    });
}
