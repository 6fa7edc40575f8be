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
/// Most that a sidecar may grow under clients that stall, in bytes: for what the load beside them takes, and for each: a
/// connection that waits, one to the upstream, and, for an answer that nobody reads, 16 KiB that are queued, the piece behind
/// them and the one that TLS holds.
const ROOM: u64 = 16 << 20;
const ROOM_EACH: u64 = 40 << 10;

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
        &json!({"stalled": stalled.len(), "grown_bytes": grown, "load": report.numbers()}),
    );
    report.assert_nothing_failed();
    let room = ROOM + ROOM_EACH * stalled.len() as u64;
    assert!(grown < room, "{} stalled clients cost {grown} bytes", stalled.len());
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

/// As with Envoy, a client that half-closes has gone: its request is given up. What it asked for was done at most once, and
/// nothing of it stays behind.
#[test]
fn clients_that_half_close_leave_nothing_behind() {
    let (mesh, plan) = mesh(64);
    let load = Load::start(&plan, "beside");
    let halves_sent = either(60, 300);
    for number in 0..halves_sent {
        let mut stream = connect(plan.address, PATIENCE);
        let (length, body) = if number % 2 == 0 { (0, "") } else { (100, "half of it") };
        let head = format!(
            "POST / HTTP/1.1\r\nhost: back\r\nx-echo-id: Phalf-{number}\r\ncontent-length: {length}\r\nx-echo-do: delay=200ms\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        // Closed, reset or answered; but it ends.
        let _ = stream.read_to_end(&mut answer);
    }
    let report = load.finish();
    measured("clients that half close", &json!({"halves": halves_sent, "load": report.numbers()}));
    report.assert_nothing_failed();
    let records = mesh.records("back");
    records.assert_nothing_lost_or_done_twice(&report);
    let halves =
        (1..halves_sent).step_by(2).filter(|number| records.of(&format!("Phalf-{number}")) > 0).count();
    assert_eq!(halves, 0, "a body that broke off was executed");
    let caller = mesh.instances("caller")[0].clone();
    until("no request is active", || {
        let stats = get(mesh.admin(&caller), "/clusters")?;
        let active = stats.lines().filter(|line| line.contains("::rq_active::"));
        active.clone().count().gt(&0).then_some(())?;
        active.clone().all(|line| line.ends_with("::0")).then_some(())
    });
}
