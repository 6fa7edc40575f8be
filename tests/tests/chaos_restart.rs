//! Restarts under load: a chain of three services, two instances each, every one drained and started again, one after the
//! other. No request fails, and every request is executed exactly once at every hop.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan};
use tests::until;

const HOPS: [&str; 3] = ["front", "middle", "back"];

fn chain() -> Vec<Instance> {
    vec![
        Instance::to("front", 11, "middle"),
        Instance::to("front", 12, "middle"),
        Instance::to("middle", 21, "back"),
        Instance::to("middle", 22, "back"),
        Instance::new("back", 31),
        Instance::new("back", 32),
    ]
}

#[test]
fn a_rolling_restart_of_a_chain_loses_nothing() {
    let mut mesh = Mesh::start(60, &chain(), "", "");
    let plan = Plan::new(mesh.service("front"), "front", either(150, 1_000));
    until("the chain answers", || tests::get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    let load = Load::start(&plan, "roll");
    load.more(either(150, 5_000));
    for _ in 0..either(1, 4) {
        for service in HOPS {
            for instance in mesh.instances(service) {
                mesh.roll(&instance);
                load.more(either(50, 1_000));
            }
        }
    }
    let report = load.finish();
    measured("rolling restart of a chain of three, each instance in turn", &report.numbers());
    report.assert_nothing_failed();
    // Whoever meets a closing listener goes elsewhere at once: no handshake is repeated a second later.
    let p99 = report.latency(0.99);
    assert!(p99 < either(1_000.0, 300.0), "p99 is {p99} ms");
    for service in HOPS {
        mesh.records(service).assert_nothing_lost_or_done_twice(&report);
    }
}
