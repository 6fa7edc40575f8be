//! Programs that misbehave under load: what they do to one request stays with that request, and no POST is done twice.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan, Report};
use tests::{get, until, until_within};

/// Whoever asks for `/hang` waits for a second.
const RULES: &str = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: back}
spec:
  hosts: [back]
  http:
  - {match: [{uri: {prefix: /hang}}], timeout: 1s, route: [{destination: {host: back}}]}
  - {route: [{destination: {host: back}}], retries: {attempts: 0}}
";

/// How long a load may take on a busy machine.
const LONG: Duration = Duration::from_secs(300);

/// A load in which every request asks the program for the same.
fn asking(good: &Plan, target: &str, script: &str) -> Plan {
    Plan {
        target: target.to_owned(),
        headers: format!("x-echo-do: {script}\r\n"),
        rate: either(40, 100),
        callers: 16,
        ..good.clone()
    }
}

/// Sends a load for a while beside the good one.
fn beside(good: &Load, plan: &Plan, run: &str, requests: usize) -> Report {
    let load = Load::start(plan, run);
    until_within(LONG, "the bad requests have ended", || (load.ended() >= requests).then_some(()));
    good.more(10);
    load.finish()
}

/// What a program sends beyond its length may meet the next request on that connection, which is answered 502 then:
/// surplus bytes are nobody's answer. So no other load runs beside this one.
fn more_than_announced(plan: &Plan, requests: usize) -> Report {
    let load = Load::start(&asking(plan, "/", "bytes=5000,length=1000"), "surplus");
    until_within(LONG, "the requests have ended", || (load.ended() >= requests).then_some(()));
    let report = load.finish();
    let statuses = report.statuses();
    measured("upstream bytes=5000,length=1000", &report.numbers());
    let answered = statuses.get(&200).copied().unwrap_or(0);
    let refused = statuses.get(&502).copied().unwrap_or(0);
    assert_eq!(answered + refused, report.outcomes.len(), "{statuses:?}");
    assert!(answered > report.outcomes.len() / 2, "{statuses:?}");
    report
}

fn mesh(block: u8) -> (Mesh, Plan) {
    let mesh = Mesh::start(block, &[Instance::new("back", 31), Instance::new("back", 32)], "", RULES);
    let plan = Plan::new(mesh.service("back"), "back", either(100, 1_000));
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    (mesh, plan)
}

#[test]
fn what_a_program_breaks_is_its_own_answer_only() {
    let (mesh, plan) = mesh(61);
    let good = Load::start(&plan, "good");
    let many = either(40, 2_500);
    let mut all = Vec::new();
    // What is asked for, and the status that the client must see: 0 is an answer that visibly breaks off.
    for (script, target, status) in [
        ("reset", "/", 503),
        ("bytes=5000,reset=1000", "/", 0),
        ("bytes=5000,length=9000", "/", 0),
        ("bytes=20,dribble=5ms", "/", 200),
        ("close", "/", 200),
        ("status=500", "/", 500),
        ("hang", "/hang", 504),
    ] {
        let report = beside(&good, &asking(&plan, target, script), &script.replace([',', '='], "."), many);
        measured(&format!("upstream {script}"), &report.numbers());
        let other: Vec<_> =
            report.outcomes.iter().filter(|outcome| outcome.status != status).take(3).collect();
        assert!(other.is_empty(), "{script}: expected {status}, also saw {other:#?}");
        all.push(report);
    }
    let report = good.finish();
    measured("beside them", &report.numbers());
    report.assert_nothing_failed();
    all.push(report);
    all.push(more_than_announced(&plan, many));
    let records = mesh.records("back");
    for report in &all {
        records.assert_nothing_lost_or_done_twice(report);
        // Whatever the answer was: a POST that arrived was done, once. One that met surplus bytes need not have arrived.
        let posts = report.outcomes.iter().filter(|it| it.id.starts_with('P') && it.status != 502);
        let not_once: Vec<_> = posts.filter(|outcome| records.of(&outcome.id) != 1).take(3).collect();
        assert!(not_once.is_empty(), "{not_once:#?}");
    }
}
