//! kill -9 under load: of the control plane, a sidecar, a program. What was under way may fail; nothing is done twice, and
//! everything comes back.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan, Report};
use tests::{exchange, get, until, until_within};

fn mesh(block: u8) -> (Mesh, Plan) {
    let mesh = Mesh::start(block, &[Instance::new("back", 31), Instance::new("back", 32)], "", "");
    let plan = Plan::new(mesh.service("back"), "back", either(100, 1_000));
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    (mesh, plan)
}

fn tell(test: &str, report: &Report) {
    measured(test, &report.numbers());
}

#[test]
fn a_killed_control_plane_costs_no_request() {
    let (mut mesh, plan) = mesh(65);
    let load = Load::start(&plan, "control");
    load.more(either(100, 3_000));
    mesh.kill("tulled");
    load.more(either(100, 30_000));
    // A sidecar that is restarted now comes up from its sealed snapshot.
    for instance in mesh.instances("back") {
        mesh.roll(&instance);
        load.more(either(100, 3_000));
    }
    mesh.start_control();
    load.more(either(200, 5_000));
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
    let kills = either(2, 6);
    for number in 0..kills {
        load.more(either(100, 3_000));
        let instance = mesh.instances("back")[number % 2].clone();
        mesh.kill(&instance.name());
        load.more(either(100, 3_000));
        mesh.start_sidecar(&instance);
        mesh.ready(&instance);
    }
    load.more(either(100, 3_000));
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
    let kills = either(2, 6);
    for number in 0..kills {
        load.more(either(100, 3_000));
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

/// A host that answers 503 five times is ejected for a while, and so it is without a control plane.
const EJECTING: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: flaky}
spec:
  host: flaky
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 5, interval: 1s, baseEjectionTime: 3s, maxEjectionPercent: 100}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: flaky}
spec:
  hosts: [flaky]
  http: [{route: [{destination: {host: flaky}}], retries: {attempts: 0}}]
";

/// A number of a sidecar's metrics page.
fn number(mesh: &Mesh, instance: &Instance, name: &str) -> Option<i64> {
    let page = get(mesh.admin(instance), "/stats/prometheus")?;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")))?;
    line.trim().parse().ok()
}

fn ejected(mesh: &Mesh, caller: &Instance) -> Option<usize> {
    let page = get(mesh.admin(caller), "/clusters")?;
    let flaky = page.lines().filter(|line| line.contains("||flaky."));
    Some(flaky.filter(|line| line.contains("failed_outlier_check")).count())
}

#[test]
fn without_a_control_plane_hosts_are_ejected_and_return_and_renewals_are_tried() {
    let instances = [Instance::new("back", 31), Instance::new("flaky", 41), Instance::new("flaky", 42)];
    let mut mesh = Mesh::control(76, &instances, "", EJECTING);
    mesh.lifetime_seconds = Some(either(40, 120));
    let caller = mesh.instances("caller")[0].clone();
    let all = [&instances[..], std::slice::from_ref(&caller)].concat();
    for instance in &all {
        mesh.start_program(instance);
        mesh.start_sidecar(instance);
    }
    all.iter().for_each(|instance| mesh.ready(instance));
    let plan = Plan::new(mesh.service("back"), "back", either(100, 1_000));
    let flaky = mesh.service("flaky");
    for address in [plan.address, flaky] {
        until("the service answers", || get(address, "/").filter(|answer| answer.contains(" 200 ")));
    }
    let load = Load::start(&plan, "alone");
    load.more(either(100, 3_000));
    mesh.kill("tulled");

    let broken = mesh.program(&instances[1]);
    let script = |script: &str| {
        let head = format!(
            "POST /echo/do?{script} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
        exchange(broken, head.as_bytes()).unwrap();
    };
    let (mut failures, mut ejections) = (0, 0);
    let mut renewals_failed = None;
    // Until it is time to renew, again and again.
    while renewals_failed.is_none() {
        script("status=503");
        until("the host is ejected", || {
            failures += usize::from(get(flaky, "/")?.contains(" 503 "));
            (ejected(&mesh, &caller)? == 1).then_some(())
        });
        ejections += 1;
        for _ in 0..20 {
            assert!(get(flaky, "/").unwrap().contains(" 200 "), "an ejected host is asked");
        }
        script("");
        until_within(Duration::from_secs(120), "the host returns", || {
            (ejected(&mesh, &caller)? == 0).then_some(())
        });
        renewals_failed =
            number(&mesh, &caller, "tulle_certificate_renewal_failures_total").filter(|count| *count > 0);
    }
    let page = get(mesh.admin(&caller), "/ready?verbose").unwrap();
    assert!(page.contains("renewal: failed") && page.contains("next at"), "{page}");
    load.more(either(100, 3_000));
    mesh.start_control();
    until_within(Duration::from_secs(60), "the certificate is renewed", || {
        (number(&mesh, &caller, "tulle_certificate_renewal_failing")? == 0).then_some(())
    });
    load.more(either(100, 3_000));
    let report = load.finish();
    measured(
        "without tulled: ejections, returns, failing renewals",
        &json!({"ejections": ejections, "answers_503_of_the_broken_host": failures,
            "failed_renewals": renewals_failed, "load": report.numbers()}),
    );
    assert_eq!(failures, ejections * 5, "an ejection takes exactly five errors");
    report.assert_nothing_failed();
    mesh.records("back").assert_nothing_lost_or_done_twice(&report);
}
