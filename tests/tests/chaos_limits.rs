//! Limits of the machine: descriptors run out, memory stays flat, the disk is full.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::upstream::connect;
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan};
use tests::{get, until, until_within};

const PATIENCE: Duration = Duration::from_secs(60);
/// Most that a sidecar may grow while it passes bytes on.
const ROOM: u64 = 24 << 20;

#[test]
fn descriptors_run_out_and_come_back() {
    let mut mesh = Mesh::start(69, &[Instance::new("back", 31)], "", "");
    let caller = mesh.instances("caller")[0].clone();
    mesh.kill(&caller.name());
    mesh.start_sidecar_after(&caller, &[], "ulimit -n 160");
    mesh.ready(&caller);
    let plan = Plan { callers: 8, ..Plan::new(mesh.service("back"), "back", 100) };
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    let flood: Vec<TcpStream> = (0..400).filter_map(|_| TcpStream::connect(plan.address).ok()).collect();
    until("connections are turned away", || {
        let stats = get(mesh.admin(&caller), "/stats?filter=downstream_cx_overflow")?;
        stats.lines().any(|line| line.contains("overflow") && !line.ends_with(": 0")).then_some(())
    });
    let turned_away = get(plan.address, "/").unwrap_or_default();
    assert!(!turned_away.contains(" 200 "), "the limit was not reached: {turned_away}");
    let held = flood.len();
    drop(flood);
    until("the service answers again", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    let load = Load::start(&plan, "recovered");
    load.more(either(200, 10_000));
    let report = load.finish();
    measured("descriptors", &json!({"flood": held, "after": report.statuses()}));
    report.assert_nothing_failed();
}

/// A file system of the sidecar's own with room for its identity and not for its snapshot.
#[test]
fn a_full_disk_under_the_snapshot_costs_no_request() {
    let wrapper = ["unshare", "--map-root-user", "--mount"];
    let allowed = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: this user cannot make a mount namespace");
        return;
    }
    let mut mesh = Mesh::start(72, &[Instance::new("back", 31), Instance::new("back", 32)], "", "");
    let caller = mesh.instances("caller")[0].clone();
    mesh.kill(&caller.name());
    let state = mesh.state(&caller);
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    let place = state.display();
    let before = format!(
        "mount -t tmpfs -o size=1m,mode=0700 tmpfs {place} && head -c {} /dev/zero > {place}/filler",
        (1 << 20) - 2 * 4096
    );
    mesh.start_sidecar_after(&caller, &wrapper, &before);
    mesh.ready(&caller);
    let plan = Plan::new(mesh.service("back"), "back", either(100, 1_000));
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    let load = Load::start(&plan, "disk");
    let process = mesh.processes.get_mut(&caller.name()).unwrap();
    process.says(&["the sealed snapshot is not written"]);
    load.more(either(200, 10_000));
    // As seen from outside: the namespace is the sidecar's own.
    let inside = |name: &str| PathBuf::from(format!("/proc/{}/root{}/{name}", process.id(), state.display()));
    assert!(!inside("snapshot.sealed").exists(), "the disk was not full");
    std::fs::remove_file(inside("filler")).unwrap();
    until_within(PATIENCE, "the snapshot is written after all", || {
        inside("snapshot.sealed").exists().then_some(())
    });
    load.more(either(100, 5_000));
    let report = load.finish();
    measured("disk full", &json!({"requests": report.outcomes.len(), "statuses": report.statuses()}));
    report.assert_nothing_failed();
}

#[test]
fn bytes_flow_both_ways_with_flat_memory() {
    let mesh = Mesh::start(70, &[Instance::new("back", 31)], "", "");
    let address = mesh.service("back");
    until("the service answers", || get(address, "/").filter(|answer| answer.contains(" 200 ")));
    let size: u64 = either(512 << 20, 20 << 30);
    // A little first, so that what is allocated once does not count.
    for (name, transfer) in [("down", down as fn(_, _, &mut dyn FnMut())), ("up", up)] {
        transfer(address, 16 << 20, &mut || ());
        let before = sizes(&mesh);
        let (mut peak, started) = (before, Instant::now());
        transfer(address, size, &mut || {
            let now = sizes(&mesh);
            peak = [peak[0].max(now[0]), peak[1].max(now[1])];
        });
        let grown = [peak[0] - before[0], peak[1] - before[1]];
        let rate = size as f64 / started.elapsed().as_secs_f64() / 1e6;
        measured(
            &format!("bytes {name}"),
            &json!({"bytes": size, "megabytes_per_second": rate, "grown_bytes": grown, "resident_bytes": peak}),
        );
        assert!(grown.iter().all(|grown| *grown < ROOM), "{name}: the sidecars grew by {grown:?} bytes");
    }
}

fn sizes(mesh: &Mesh) -> [u64; 2] {
    ["caller-9", "back-31"].map(|name| mesh.processes[name].resident())
}

/// Reads an answer of so many bytes.
fn down(address: std::net::SocketAddr, size: u64, look: &mut dyn FnMut()) {
    let mut stream = connect(address, PATIENCE);
    let head =
        format!("GET / HTTP/1.1\r\nhost: back\r\nconnection: close\r\nx-echo-do: bytes={size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (mut read, mut looked, mut buffer) = (0, 0, vec![0; 1 << 20]);
    loop {
        let more = stream.read(&mut buffer).unwrap() as u64;
        read += more;
        if more == 0 || read - looked > size / 32 {
            look();
            looked = read;
        }
        if more == 0 {
            break;
        }
    }
    assert!(read > size, "{read} of {size} bytes came");
}

/// Sends a body of so many bytes.
fn up(address: std::net::SocketAddr, size: u64, look: &mut dyn FnMut()) {
    let mut stream = connect(address, PATIENCE);
    let head =
        format!("POST / HTTP/1.1\r\nhost: back\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let (piece, mut left, mut looked) = (vec![b'u'; 1 << 20], size, size);
    while left > 0 {
        let now = left.min(piece.len() as u64);
        stream.write_all(&piece[..now as usize]).unwrap();
        left -= now;
        if looked - left > size / 32 {
            look();
            looked = left;
        }
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains(&format!("\"body_bytes\":{size}")), "{answer}");
}
