//! A real gRPC library in the mesh without any proxy (`xds:///`): it accepts what the control plane sends, speaks
//! mutual TLS with its own certificates, and routes as the example says.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use serde_json::json;
use tests::grpc::{Client, bootstrap, certificates, python, start_server, start_xds_server};
use tests::mixed::{Dialect, Mesh, PORT, named};
use tests::until;

const TARGET: &str = "xds:///payment-service.production.svc.cluster.local:8080";
/// Calls by which a share is measured: 5 % give or take four standard deviations is 3 % to 7 %.
const MANY: usize = 2_000;
const SERVERS: [&str; 3] = ["payment-stable-1", "payment-stable-2", "payment-canary-1"];

fn client(mesh: &mut Mesh, python: &Path, name: &str) -> Client {
    let out = certificates(mesh, &named(name), &format!("{name}-client"));
    let bootstrap = bootstrap(mesh, &named(name), &out);
    Client::start(python, &bootstrap, TARGET)
}

/// Everything that was sent was accepted by so many gRPC programs.
fn all_synced(mesh: &Mesh, number: usize) {
    let connections = until("every gRPC program is synced", || {
        let connections = mesh.connections();
        let synced = connections.values().filter(|it| {
            let types = it["types"].as_object().unwrap();
            it["program"] == "grpc" && !types.is_empty() && types.values().all(|it| it["state"] == "synced")
        });
        (synced.count() == number).then_some(connections)
    });
    for (workload, connection) in connections {
        for (name, state) in connection["types"].as_object().unwrap() {
            assert_eq!(state["rejections"], 0, "{workload} {name}: {state}");
        }
    }
}

#[test]
fn a_grpc_client_and_servers_are_a_mesh_without_a_proxy() {
    let Some(python) = python() else { return };
    let mut mesh = Mesh::without_workloads(Path::new(""), 44, Dialect::StateOfTheWorld);
    for name in SERVERS {
        let at = mesh.address(&named(name), PORT);
        start_xds_server(&mut mesh, &python, &named(name), at);
    }
    let mut frontend = client(&mut mesh, &python, "frontend");
    until("all three servers answer", || {
        let some = frontend.calls(60);
        (some.only("OK") && some.names.len() == 3).then_some(())
    });
    let all = frontend.calls(MANY);
    assert!(all.only("OK"), "{all:?}");
    assert!((0.03..=0.07).contains(&all.share("canary")), "{all:?}");
    assert_eq!(all.last["peer"], json!(["spiffe://cluster.local/ns/production/sa/frontend"]));
    let canary = frontend.ask(&json!({"count": 60, "metadata": {"x-canary-user": "true"}}));
    assert_eq!((canary.only("OK"), canary.share("canary")), (true, 1.0), "{canary:?}");
    let others = frontend.ask(&json!({"count": 60, "metadata": {"x-canary-user": "no"}}));
    assert!(others.only("OK") && others.share("canary") < 0.5, "{others:?}");
    all_synced(&mesh, 4);

    // Who has no business here is told so, until a policy lets it in.
    let mut stranger = client(&mut mesh, &python, "stranger");
    let denied = until("the stranger is denied", || {
        let some = stranger.calls(20);
        some.only("PERMISSION_DENIED").then_some(some)
    });
    assert!(denied.names.is_empty(), "{denied:?}");
    let policy = "production/payment-callers.yaml";
    mesh.edit(policy, "sa/frontend]", "sa/frontend, cluster.local/ns/outside/sa/stranger]");
    until("the stranger is let in", || stranger.calls(20).only("OK").then_some(()));

    // Weights are followed while calls flow.
    for (from, to) in [("weight: 95", "weight: 50"), ("weight: 5}", "weight: 50}")] {
        mesh.edit("production/payment-service.yaml", from, to);
    }
    until("half of the calls go to the canary", || (frontend.calls(60).share("canary") > 0.2).then_some(()));
    let half = frontend.calls(MANY);
    assert!(half.only("OK") && (0.45..=0.55).contains(&half.share("canary")), "{half:?}");
    all_synced(&mesh, 5);

    // Certificates of 30 s were renewed meanwhile.
    for name in SERVERS {
        until("the certificate is renewed", || {
            (mesh.log(&format!("{name}-cert")).matches("certificate issued").count() >= 3).then_some(())
        });
    }
    assert!(frontend.calls(60).only("OK"));
}

#[test]
fn a_server_with_a_foreign_identity_is_refused_and_a_claim_to_be_another_gets_nothing() {
    let Some(python) = python() else { return };
    let mut mesh = Mesh::without_workloads(Path::new(""), 45, Dialect::StateOfTheWorld);
    let mut frontend = client(&mut mesh, &python, "frontend");
    // The stranger has a certificate of the mesh and sits on every address of the payment service.
    let foreign = certificates(&mut mesh, &named("stranger"), "foreign");
    for name in SERVERS {
        let at = mesh.address(&named(name), PORT).to_string();
        let words = ["tls-server", at.as_str(), name, foreign.to_str().unwrap()];
        start_server(&mut mesh, &python, &format!("{name}-foreign"), None, words);
    }
    for name in SERVERS {
        until("it listens", || mesh.log(&format!("{name}-foreign")).contains("started").then_some(()));
    }
    let refused = until("calls fail for the identity", || {
        let some = frontend.calls(20);
        some.last["details"].as_str().is_some_and(|it| it.contains("SAN")).then_some(some)
    });
    assert!(refused.only("UNAVAILABLE") && refused.names.is_empty(), "{refused:?}");
    // A server with the stranger's certificate that says it is the payment service gets no configuration.
    let claim = bootstrap(&mesh, &named("payment-stable-1"), &foreign);
    let at = mesh.address(&named("stranger"), PORT).to_string();
    start_server(&mut mesh, &python, "impostor", Some(&claim), ["server", at.as_str(), "impostor", "stable"]);
    until("it started", || mesh.log("impostor").contains("started").then_some(()));
    assert!(!mesh.connections().contains_key("payment-stable-1"));

    // The same addresses with the right certificate.
    for name in SERVERS {
        mesh.stop(&format!("{name}-foreign"));
        let at = mesh.address(&named(name), PORT);
        start_xds_server(&mut mesh, &python, &named(name), at);
    }
    until("every server is accepted", || {
        let some = frontend.calls(60);
        (some.only("OK") && some.names.len() == 3).then_some(())
    });
}

#[test]
fn grpc_with_and_without_sidecars_is_one_mesh() {
    let Some(python) = python() else { return };
    let mut mesh = Mesh::without_workloads(Path::new(""), 47, Dialect::Delta);
    mesh.edit("production/services.yaml", "name: http, port: 8080", "name: grpc, port: 8080");
    let at = mesh.address(&named("payment-stable-1"), PORT);
    start_xds_server(&mut mesh, &python, &named("payment-stable-1"), at);
    for name in ["payment-stable-2", "payment-canary-1"] {
        let workload = named(name);
        let at = mesh.program_address(&workload).to_string();
        let words = ["plain-server", at.as_str(), name, workload.version];
        start_server(&mut mesh, &python, &format!("{name}-program"), None, words);
        mesh.start_tulle(&workload);
    }
    mesh.start_tulle(&named("frontend"));
    let through_the_sidecar = mesh.payment_service().to_string();
    let nothing = mesh.own_folder("plain-client").join("no-bootstrap");
    let without = client(&mut mesh, &python, "frontend");
    let beside = Client::start(&python, &nothing, &through_the_sidecar);
    for (mut client, who) in [(without, "without a proxy"), (beside, "beside a sidecar")] {
        until(&format!("the client {who} reaches all three servers"), || {
            let some = client.calls(60);
            (some.only("OK") && some.names.len() == 3).then_some(())
        });
        let all = client.calls(MANY);
        assert!(all.only("OK") && (0.03..=0.07).contains(&all.share("canary")), "{who}: {all:?}");
        let canary =
            client.ask(&json!({"count": 40, "length": 100_000, "metadata": {"x-canary-user": "true"}}));
        assert_eq!((canary.only("OK"), canary.share("canary")), (true, 1.0), "{who}: {canary:?}");
        assert_eq!(canary.last["length"], 100_000);
        assert_eq!(canary.last["trailers"]["x-answered-by"], "payment-canary-1", "{canary:?}");
        let caller = "URI=spiffe://cluster.local/ns/production/sa/frontend";
        assert!(canary.last["xfcc"].as_str().unwrap().contains(caller), "{who}: {canary:?}");
    }
    // The policy of the sidecars and of the server without one is the same.
    let mut stranger = client(&mut mesh, &python, "stranger");
    until("the stranger is denied by everybody", || {
        stranger.calls(40).only("PERMISSION_DENIED").then_some(())
    });
}
