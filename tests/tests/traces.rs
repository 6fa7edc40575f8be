//! Traces end to end: a collector written with OpenTelemetry's own messages gets the spans of four workloads in a row,
//! of which the last fails once; the real Envoy under the same bootstraps makes the same tree.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tests::traces::{Collector, NAMES, Protocol, Span, call, chain, python, tree};
use tests::{Process, get, until};

const ALL: [Protocol; 3] = [Protocol::Grpc, Protocol::Http, Protocol::Zipkin];

fn percent(random: f64) -> Value {
    json!({"random_sampling": {"value": random}})
}

fn tulle(folder: &Path) -> impl Fn(&Path, usize) -> Process {
    move |file, _| {
        let words = ["-c", file.to_str().unwrap(), "--concurrency", "1"];
        Process::start("tulle-proxy", &words, folder)
    }
}

fn envoy(program: &str, folder: &Path) -> impl Fn(&Path, usize) -> Process {
    move |file, at| {
        let id = (std::process::id() % 10_000 * 4 + at as u32).to_string();
        let words = ["-c", file.to_str().unwrap(), "--concurrency", "1", "--base-id", &id, "-l", "error"];
        Process::start_command(Command::new(program).args(words), folder)
    }
}

/// The entry's server, then client and server of every call; the last call is made twice.
const TREE: [&str; 8] = [
    "0 front SERVER front:80/* 200",
    "1 front CLIENT middle:80/* 200",
    "2 middle SERVER middle:80/* 200",
    "3 middle CLIENT pricing:80/* 200",
    "4 pricing SERVER pricing:80/* 200",
    "5 pricing CLIENT stock:80/* 200",
    "6 stock SERVER stock:80/* 503 error",
    "6 stock SERVER stock:80/* 200",
];

fn names(span: &Span) -> BTreeSet<&str> {
    span.tags.keys().map(String::as_str).collect()
}

#[test]
fn four_workloads_and_a_retry_are_one_tree_and_the_real_envoys_is_the_same() {
    let Some(python) = python() else { return };
    for protocol in ALL {
        let folder = tempfile::tempdir().unwrap();
        let collector = Collector::start(&python, folder.path());
        let own = collector.chain(protocol, &percent(100.0), folder.path(), tulle(folder.path()));
        let ours = own.spans(&collector, "", TREE.len());
        assert_eq!(tree(&ours), TREE, "{protocol:?} {ours:#?}");
        check(&ours, protocol);
        let Some(program) = std::env::var_os("TULLE_ENVOY") else {
            println!("skipped: TULLE_ENVOY does not name an Envoy to compare with");
            continue;
        };
        let start = envoy(program.to_str().unwrap(), folder.path());
        let other = collector.chain(protocol, &percent(100.0), folder.path(), start);
        let theirs = other.spans(&collector, "", TREE.len());
        assert_eq!(tree(&theirs), TREE, "{protocol:?} {theirs:#?}");
        let find = |all: &[Span], line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let is = |it: &&Span| {
                it.service == words[1] && it.kind == words[2] && it.tags["http.status_code"] == words[4]
            };
            all.iter().find(is).cloned().unwrap()
        };
        for line in TREE {
            let (a, b) = (find(&ours, line), find(&theirs, line));
            assert_eq!(names(&a), names(&b), "{protocol:?} {line}");
            for tag in [
                "http.method",
                "component",
                "response_flags",
                "upstream_cluster",
                "peer.address",
                "user_agent",
                "zone",
                "node_id",
                "request_size",
                "http.protocol",
                "downstream_cluster",
            ] {
                assert_eq!(a.tags[tag], b.tags[tag], "{protocol:?} {line}: {tag}");
            }
        }
    }
}

/// What the tree does not show.
fn check(ours: &[Span], protocol: Protocol) {
    let traces: BTreeSet<&str> = ours.iter().map(|span| &*span.trace).collect();
    assert_eq!(traces.len(), 1);
    let ids: BTreeSet<&str> = ours.iter().map(|span| &*span.tags["guid:x-request-id"]).collect();
    assert!(ids.len() == 1 && ids.iter().all(|id| id.as_bytes()[14] == b'9'), "{ids:?}");
    for span in ours {
        assert_eq!(span.headers["x-tenant"], "shop");
        assert_eq!(span.tags["node_id"], format!("sidecar~127.0.0.1~{}.shop~shop.svc", span.service));
        assert!(span.tags["http.url"].ends_with("/basket?id=1"), "{span:?}");
        assert_eq!(span.tags.contains_key("error"), span.error);
        assert!(span.end >= span.start);
        let path = span.headers.get(":path").map(String::as_str);
        match protocol {
            Protocol::Grpc => assert!(span.headers["user-agent"].starts_with("OTel-OTLP-Exporter-Tulle")),
            Protocol::Http => assert_eq!(path, Some("/v1/traces")),
            Protocol::Zipkin => assert_eq!(path, Some("/api/v2/spans")),
        }
    }
    let retried: Vec<&Span> =
        ours.iter().filter(|it| it.events.iter().any(|(name, _)| name.starts_with("retry"))).collect();
    assert_eq!(retried.len(), 1, "{ours:#?}");
    assert_eq!((&*retried[0].service, &*retried[0].kind), ("pricing", "CLIENT"));
    if protocol != Protocol::Zipkin {
        let (_, tags) = &retried[0].events[0];
        assert_eq!((&*tags["retry.count"], &*tags["retry.status_code"]), ("1", "503"));
    }
}

#[test]
fn a_span_for_every_try_where_it_is_asked_for() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&python, folder.path());
    let tracing = json!({"spawn_upstream_span": true});
    let own = collector.chain(Protocol::Grpc, &tracing, folder.path(), tulle(folder.path()));
    let ours = own.spans(&collector, "", 17);
    let tries: Vec<String> =
        tree(&ours).into_iter().filter(|line| line.contains("pricing CLIENT router next")).collect();
    assert_eq!(
        tries,
        ["11 pricing CLIENT router next egress 503 error", "11 pricing CLIENT router next egress 200"]
    );
    let retries: Vec<&str> =
        ours.iter().filter_map(|span| span.tags.get("retry.count")).map(String::as_str).collect();
    assert_eq!(retries, ["1"]);
}

#[test]
fn without_a_decision_to_trace_the_context_travels_and_no_span_is_made() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start(&python, folder.path());
    let own = collector.chain(Protocol::Grpc, &percent(0.0), folder.path(), tulle(folder.path()));
    assert_eq!(call(own.entry, ""), Some(200));
    // The caller decides otherwise, for all hops at once: the request before it has left nothing.
    let parent = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n";
    let whole = NAMES.len() * 2 - 1;
    let traced = own.spans(&collector, parent, whole);
    assert!(traced.iter().all(|span| span.trace == "4bf92f3577b34da6a3ce929d0e0e4736"), "{traced:#?}");
    assert_eq!(traced.iter().filter(|span| span.parent == "00f067aa0ba902b7").count(), 1);
    // By the client's header, and by the digit of the id.
    for line in ["x-client-trace-id: a\r\n", "x-request-id: 12345678-1234-9234-9234-123456789012\r\n"] {
        own.spans(&collector, line, whole);
    }
    assert_eq!(collector.spans().len(), whole * 3);
    let stats = get(own.admins[0], "/stats?filter=tracing").unwrap();
    for line in [
        "http.inbound.tracing.not_traceable: 2",
        "http.inbound.tracing.client_enabled: 1",
        "http.inbound.tracing.random_sampling: 1",
    ] {
        assert!(stats.contains(line), "{line} is not in {stats}");
    }
}

#[test]
fn a_stuck_collector_costs_spans_and_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let stuck = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = stuck.local_addr().unwrap();
    let own = chain(Protocol::Http, &percent(100.0), (to, to), folder.path(), tulle(folder.path()));
    let many = 3_000;
    let mut stream = TcpStream::connect(own.entry).unwrap();
    let worst = (0..many).map(|_| one(&mut stream)).max().unwrap();
    assert!(worst < std::time::Duration::from_secs(5), "{worst:?}");
    let dropped =
        until("spans are dropped and counted", || Some(own.count(0, "spans_dropped")).filter(|it| *it > 0));
    assert!(dropped < many as u64 * 2, "{dropped}");
    assert_eq!(own.count(0, "spans_sent"), 0);
}

fn one(stream: &mut TcpStream) -> std::time::Duration {
    let begun = std::time::Instant::now();
    stream.write_all(b"GET /x HTTP/1.1\r\nhost: shop\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let mut byte = [0; 512];
    while !answer.ends_with(b"\r\n\r\nok") {
        let read = stream.read(&mut byte).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&byte[..read]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    begun.elapsed()
}
