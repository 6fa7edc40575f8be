//! The mode of mutual TLS changes under load: no meshed call fails.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan};
use tests::{get, until};

fn mode(mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
    )
}

#[test]
fn a_switch_to_strict_and_back_loses_no_meshed_call() {
    let mesh =
        Mesh::start(68, &[Instance::new("back", 31), Instance::new("back", 32)], "", &mode("PERMISSIVE"));
    let plan = Plan { per_connection: 20, ..Plan::new(mesh.service("back"), "back", either(100, 1_000)) };
    until("the service answers", || get(plan.address, "/").filter(|answer| answer.contains(" 200 ")));
    let direct = mesh.address(&mesh.instances("back")[0]);
    let plaintext = || get(direct, "/").is_some_and(|answer| answer.contains(" 200 "));
    until("plaintext is answered", || plaintext().then_some(()));
    let load = Load::start(&plan, "mode");
    load.more(either(100, 5_000));
    for _ in 0..either(2, 4) {
        mesh.write("rules.yaml", &mode("STRICT"));
        // The control: the switch is real.
        until("plaintext is refused", || (!plaintext()).then_some(()));
        load.more(either(150, 5_000));
        mesh.write("rules.yaml", &mode("PERMISSIVE"));
        until("plaintext is answered", || plaintext().then_some(()));
        load.more(either(150, 5_000));
    }
    let report = load.finish();
    measured("PERMISSIVE to STRICT and back", &report.numbers());
    report.assert_nothing_failed();
    mesh.records("back").assert_nothing_lost_or_done_twice(&report);
}
