//! A program that does not pass trace context on is found by its own proxy and named by `tulle status`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::process::Command;

use serde_json::Value;
use tests::chaos::{Instance, Mesh};
use tests::{binary, get, until};

/// Traces are asked for; where spans go does not matter here.
const TRACES: &str =
    "enableTracing: true\ndefaultConfig: {tracing: {zipkin: {address: \"back.shop:8080\"}, sampling: 1}}\n";

fn status(mesh: &Mesh, words: &[&str]) -> String {
    let monitoring = mesh.monitoring().to_string();
    let words = [&["status", "--monitoring", &monitoring], words].concat();
    String::from_utf8(Command::new(binary("tulle")).args(words).output().unwrap().stdout).unwrap()
}

#[test]
fn a_program_that_drops_trace_context_is_named_and_one_that_passes_it_on_is_not() {
    let instances = [
        Instance::to("forgetful", 31, "back"),
        Instance::to("careful", 32, "back"),
        Instance::new("back", 33),
    ];
    let mut mesh = Mesh::control(101, &instances, TRACES, "");
    for service in ["caller", "forgetful", "careful", "back"] {
        let instance = mesh.instances(service)[0].clone();
        mesh.echo_words =
            (service == "forgetful").then(|| "--without-context".to_owned()).into_iter().collect();
        mesh.start_program(&instance);
        mesh.start_sidecar(&instance);
        mesh.ready(&instance);
    }
    let services = ["forgetful", "careful"].map(|name| mesh.service(name));
    for service in services {
        until("the service behind it answers", || {
            get(service, "/").filter(|it| it.starts_with("HTTP/1.1 200"))
        });
    }
    for _ in 0..40 {
        services.iter().for_each(|service| assert!(get(*service, "/").unwrap().starts_with("HTTP/1.1 200")));
    }
    let told: Value = until("every proxy can be asked, and one program is named", || {
        let told: Value = serde_json::from_str(&status(&mesh, &["-o", "json"])).ok()?;
        let asked = told["certificates"].as_array()?.len() == 4;
        (asked && !told["trace_context_lost"].as_array()?.is_empty()).then_some(told)
    });
    let lost = told["trace_context_lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{lost:?}");
    assert_eq!(lost[0]["proxy"], "shop/forgetful-31", "{lost:?}");
    assert!(lost[0]["lost"].as_u64().unwrap() >= 40 && lost[0]["calls"] == lost[0]["lost"], "{lost:?}");
    let shown = status(&mesh, &[]);
    assert!(shown.contains("shop/forgetful-31: its program passes no trace context on"), "{shown}");
    assert!(!shown.contains("shop/careful-32: its program"), "{shown}");
    // What the careful one's own proxy has counted: it was watched as well.
    let careful = get(mesh.admin(&mesh.instances("careful")[0]), "/trace_context").unwrap();
    assert!(careful.contains("\"drops\": false") || careful.contains("\"drops\":false"), "{careful}");
    let zero = careful.contains("\"calls\": 0,") || careful.contains("\"calls\":0,");
    assert!(!zero && (careful.contains("\"lost\": 0") || careful.contains("\"lost\":0")), "{careful}");
}
