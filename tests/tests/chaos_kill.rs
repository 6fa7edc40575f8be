//! kill -9 under load: of the control plane, a sidecar, a program. What was under way may fail; nothing is done twice, and
//! everything comes back.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan, Report};
use tests::{get, until};

fn mesh(block: u8) -> (Mesh, Plan) {
    let mesh = Mesh::start(block, &[Instance::new("back", 31), Instance::new("back", 32)], "", "");
    let plan = Plan::new(mesh.service("back"), "back", either(100, 1_000));
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    (mesh, plan)
}

fn tell(test: &str, report: &Report) {
    let numbers = json!({
        "requests": report.outcomes.len(), "rate": report.rate(), "statuses": report.statuses(),
        "p99_ms": report.latency(0.99), "max_ms": report.latency(1.0),
    });
    measured(test, &numbers);
}

#[test]
fn a_killed_control_plane_costs_no_request() {
    let (mut mesh, plan) = mesh(65);
    let load = Load::start(&plan, "control");
    load.more(either(100, 10_000));
    mesh.kill("tulled");
    load.more(either(100, 60_000));
    // A sidecar that is restarted now comes up from its sealed snapshot.
    for instance in mesh.instances("back") {
        mesh.roll(&instance);
        load.more(either(100, 5_000));
    }
    mesh.start_control();
    load.more(either(200, 10_000));
    let report = load.finish();
    tell("kill tulled", &report);
    report.assert_nothing_failed();
    mesh.records("back").assert_nothing_lost_or_done_twice(&report);
}

/// Requests that may have been under way at a kill: no more than there are callers, each of which loses one.
fn only_what_was_under_way_failed(report: &Report, plan: &Plan, kills: usize) {
    let failed = report.failed();
    assert!(
        failed.len() <= kills * plan.callers,
        "{} of {} failed: {:#?}",
        failed.len(),
        report.outcomes.len(),
        &failed[..3]
    );
}

#[test]
fn a_killed_sidecar_costs_only_what_was_under_way() {
    let (mut mesh, plan) = mesh(66);
    let load = Load::start(&plan, "sidecar");
    let kills = either(2, 20);
    for number in 0..kills {
        load.more(either(100, 5_000));
        let instance = mesh.instances("back")[number % 2].clone();
        mesh.kill(&instance.name());
        load.more(either(100, 5_000));
        mesh.start_sidecar(&instance);
        mesh.ready(&instance);
    }
    load.more(either(100, 5_000));
    let report = load.finish();
    tell("kill a sidecar", &report);
    only_what_was_under_way_failed(&report, &plan, kills);
    mesh.records("back").assert_nothing_lost_or_done_twice(&report);
    after(&plan);
}

#[test]
fn a_killed_program_does_nothing_twice() {
    let (mut mesh, plan) = mesh(67);
    let load = Load::start(&plan, "program");
    let kills = either(2, 20);
    for number in 0..kills {
        load.more(either(100, 5_000));
        let instance = mesh.instances("back")[number % 2].clone();
        mesh.kill(&instance.program());
        load.more(either(20, 100));
        mesh.start_program(&instance);
    }
    load.more(either(200, 5_000));
    let report = load.finish();
    tell("kill a program", &report);
    // Its sidecar lives and answers 503 until the program is back; the control that a failure is seen at all.
    assert!(report.statuses().contains_key(&503), "{:?}", report.statuses());
    mesh.records("back").assert_nothing_lost_or_done_twice(&report);
    after(&plan);
}

/// Everything works again.
fn after(plan: &Plan) {
    let load = Load::start(plan, "after");
    load.more(100);
    load.finish().assert_nothing_failed();
}
