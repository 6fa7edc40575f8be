//! Clients that misbehave, beside a load that must not notice them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::upstream::connect;
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan};
use tests::{get, until};

const PATIENCE: Duration = Duration::from_secs(30);
/// Most that a sidecar may grow under clients that stall, in bytes.
const ROOM: u64 = 48 << 20;

fn mesh(block: u8) -> (Mesh, Plan) {
    let mesh = Mesh::start(block, &[Instance::new("back", 31), Instance::new("back", 32)], "", "");
    let plan = Plan::new(mesh.service("back"), "back", either(100, 1_000));
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    (mesh, plan)
}

#[test]
fn clients_that_stall_cost_nobody_else_anything() {
    let (mesh, plan) = mesh(63);
    let caller = &mesh.processes["caller-9"];
    let before = caller.resident();
    let load = Load::start(&plan, "beside");
    let stalled: Vec<_> = (0..either(60, 600))
        .map(|number| {
            let mut stream = connect(plan.address, PATIENCE);
            let begin: &[u8] = match number % 3 {
                // A head that does not end, a body that does not come, an answer that nobody reads.
                0 => b"GET / HTTP/1.1\r\nhost: back\r\nx-slow",
                1 => b"POST / HTTP/1.1\r\nhost: back\r\ncontent-length: 100000\r\n\r\nbegin",
                _ => b"GET / HTTP/1.1\r\nhost: back\r\nx-echo-do: bytes=100000000\r\n\r\n",
            };
            stream.write_all(begin).unwrap();
            stream
        })
        .collect();
    load.more(either(400, 30_000));
    let grown = caller.resident().saturating_sub(before);
    let report = load.finish();
    measured(
        "clients that stall",
        &json!({"stalled": stalled.len(), "requests": report.outcomes.len(), "rate": report.rate(),
            "statuses": report.statuses(), "grown_bytes": grown}),
    );
    report.assert_nothing_failed();
    assert!(grown < ROOM, "{} stalled clients cost {grown} bytes", stalled.len());
    drop(stalled);
    // The control: an answer that is read comes whole.
    let mut stream = connect(plan.address, PATIENCE);
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: back\r\nconnection: close\r\nx-echo-do: bytes=1000000\r\n\r\n")
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.len() > 1_000_000, "{}", answer.len());
}

#[test]
fn a_client_that_has_said_all_it_has_to_say_gets_its_answer() {
    let (mesh, plan) = mesh(64);
    for (method, script) in
        [("GET", "delay=200ms"), ("POST", "delay=200ms"), ("GET", "bytes=3000000,delay=200ms")]
    {
        let mut stream = connect(plan.address, PATIENCE);
        let head = format!(
            "{method} / HTTP/1.1\r\nhost: back\r\nx-echo-id: half-{method}\r\ncontent-length: 0\r\nx-echo-do: {script}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let text = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
        assert!(text.starts_with("HTTP/1.1 200"), "{method} {script}: {} bytes: {text}", answer.len());
        assert!(!script.contains("bytes") || answer.len() > 3_000_000, "{}", answer.len());
    }
    assert_eq!(mesh.records("back").of("half-POST"), 1);
}
