//! Every protocol under load while sidecars and programs restart and configuration is edited: HTTP/2 to HTTP/2 and to
//! HTTP/1, gRPC calls and streams, WebSocket sessions. None of them breaks off.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use serde_json::json;
use tests::chaos::soak::{either, measured};
use tests::chaos::{Instance, Mesh};
use tests::load::{Load, Plan, Report, Speaks};
use tests::{get, until};

/// One to three services by what their ports say, two instances each.
fn services() -> Vec<Instance> {
    vec![
        Instance::new("web", 31),
        Instance::new("web", 32),
        Instance::new("wide", 41).speaking("http2"),
        Instance::new("wide", 42).speaking("http2"),
        Instance::new("calls", 51).speaking("grpc"),
        Instance::new("calls", 52).speaking("grpc"),
    ]
}

/// Routes that say the same in other words each time.
fn rules(edit: u64) -> String {
    let mut text = String::new();
    for service in ["web", "wide", "calls"] {
        text.push_str(&format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {service}}}\nspec:\n  hosts: [{service}]\n  http:\n  - headers: {{response: {{set: {{x-edit: \"{edit}\"}}}}}}\n    route: [{{destination: {{host: {service}}}}}]\n---\n"
        ));
    }
    text
}

fn edit(mesh: &Mesh, number: u64) {
    mesh.write("rules.yaml", &rules(number));
    let wanted = format!("x-edit: {number}\r\n");
    until("the edit acts", || get(mesh.service("web"), "/").filter(|answer| answer.contains(&wanted)));
}

#[test]
fn no_protocol_loses_anything_to_restarts_and_edits() {
    let mut mesh = Mesh::start(73, &services(), "", &rules(0));
    edit(&mesh, 1);
    let plain = |service| Plan { get_every: 2, ..Plan::new(mesh.service(service), service, 1) };
    let messages = 20;
    let plans = [
        ("HTTP/2", Plan { speaks: Speaks::Http2, rate: either(40, 300), ..plain("wide") }),
        ("HTTP/2 to HTTP/1", Plan { speaks: Speaks::Http2, rate: either(40, 300), ..plain("web") }),
        (
            "gRPC calls",
            Plan { speaks: Speaks::Grpc { messages: 1 }, rate: either(40, 300), ..plain("calls") },
        ),
        ("gRPC streams", Plan { speaks: Speaks::Grpc { messages }, rate: either(4, 30), ..plain("calls") }),
        ("WebSocket", Plan { speaks: Speaks::WebSocket { messages }, rate: either(4, 30), ..plain("web") }),
    ];
    let plans = plans.map(|(name, plan)| (name, Plan { get_every: u64::from(name == "WebSocket"), ..plan }));
    let mut probes = 0;
    for (_, plan) in &plans {
        until("the service answers", || {
            // Its requests are counted too: each has a name of its own.
            probes += 1;
            let load = Load::start(&Plan { callers: 1, ..plan.clone() }, &format!("probe{probes}"));
            load.more(1);
            load.finish().failed().is_empty().then_some(())
        });
    }
    let loads = plans.each_ref().map(|(name, plan)| Load::start(plan, &name.replace(['/', ' '], ".")));
    loads[0].more(either(40, 1_000));
    let mut edits = 1;
    for _ in 0..either(1, 4) {
        for service in ["web", "wide", "calls"] {
            for instance in mesh.instances(service) {
                mesh.roll(&instance);
                edits += 1;
                edit(&mesh, edits);
                loads[0].more(either(20, 1_000));
            }
        }
    }
    let reports: Vec<Report> = loads.into_iter().map(Load::finish).collect();
    for ((name, _), report) in plans.iter().zip(&reports) {
        measured(&format!("{name} through restarts and {edits} edits"), &report.numbers());
    }
    measured("messages of a stream and of a session", &json!({"each": messages}));
    for ((name, _), report) in plans.iter().zip(&reports) {
        println!("{name}");
        report.assert_nothing_failed();
    }
    mesh.records("wide").assert_nothing_lost_or_done_twice(&reports[0]);
    mesh.records("web").assert_nothing_lost_or_done_twice(&reports[1]);
    mesh.records("calls").assert_nothing_lost_or_done_twice(&reports[2]);
    mesh.records("calls").assert_nothing_lost_or_done_twice(&reports[3]);
}
