//! Limits of the machine: descriptors run out, the disk is full.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan};
use tests::{get, until, until_within};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn descriptors_run_out_and_come_back() {
    let mut mesh = Mesh::start(69, &[Instance::new("back", 31)], "", "");
    let caller = mesh.instances("caller")[0].clone();
    mesh.kill(&caller.name());
    mesh.start_sidecar_after(&caller, &[], "ulimit -n 160");
    mesh.ready(&caller);
    let plan = Plan { callers: 8, ..Plan::new(mesh.service("back"), "back", either(100, 1_000)) };
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
    measured("descriptors", &json!({"flood": held, "after": report.numbers()}));
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
    measured("disk full", &report.numbers());
    report.assert_nothing_failed();
}
