//! Certificates that live for seconds are renewed under load: every serial number changes, no request fails.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan};
use tests::{get, until, until_within};

/// Leaves that each sidecar must have had.
const LEAVES: usize = 3;

/// Serial number of a sidecar's own certificate.
fn serial(mesh: &Mesh, instance: &Instance) -> Option<String> {
    let answer = get(mesh.admin(instance), "/certs")?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let page: serde_json::Value = serde_json::from_str(&body[body.find('{')?..=body.rfind('}')?]).ok()?;
    Some(page["certificates"][0]["cert_chain"][0]["serial_number"].as_str()?.to_owned())
}

#[test]
fn every_leaf_changes_under_load_and_no_request_fails() {
    let mut mesh = Mesh::control(71, &[Instance::new("back", 31), Instance::new("back", 32)], "", "");
    mesh.lifetime_seconds = Some(16);
    let instances: Vec<_> = ["caller", "back"].iter().flat_map(|service| mesh.instances(service)).collect();
    for instance in &instances {
        mesh.start_program(instance);
        mesh.start_sidecar(instance);
    }
    instances.iter().for_each(|instance| mesh.ready(instance));
    let rate = either(400, 1_000);
    // New connections all the time: each of them is a handshake with the leaf of the moment.
    let plan = Plan { per_connection: 10, ..Plan::new(mesh.service("back"), "back", rate) };
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    let load = Load::start(&plan, "leaf");
    let mut seen: Vec<BTreeSet<String>> = vec![BTreeSet::new(); instances.len()];
    let requests = either(10_000, 60_000);
    until_within(Duration::from_secs(either(120, 900)), "leaves change under enough requests", || {
        for (instance, serials) in instances.iter().zip(&mut seen) {
            serials.extend(serial(&mesh, instance));
        }
        let all = seen.iter().all(|serials| serials.len() >= LEAVES);
        (all && load.ended() >= requests).then_some(())
    });
    let report = load.finish();
    let leaves: Vec<usize> = seen.iter().map(BTreeSet::len).collect();
    measured("rotation", &json!({"leaves": leaves, "load": report.numbers()}));
    report.assert_nothing_failed();
    mesh.records("back").assert_nothing_lost_or_done_twice(&report);
}
