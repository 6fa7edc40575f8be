//! The control plane driven by strangers: the real Envoy as a sidecar in one mesh with `tulle-proxy`, both ways.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;

use tests::mixed::calls::{Tally, calls};
use tests::mixed::{Dialect, Mesh, PORT, envoy, named};
use tests::{exchange, until};

/// Requests by which a share is measured: 5 % give or take four standard deviations is 3 % to 7 %.
const MANY: usize = 2_000;
const FEW: usize = 60;

fn pay(mesh: &Mesh, header: &str, count: usize) -> Tally {
    calls(mesh.payment_service(), "/pay", header, count)
}

fn stranger(mesh: &Mesh, count: usize) -> Tally {
    calls(mesh.address(&named("stranger"), 15080), "http://payment-service.production:8080/pay", "", count)
}

/// Everything that was sent was accepted, over the dialect that the Envoys speak.
fn all_synced(mesh: &Mesh, dialect: &str, envoys: &[&str]) {
    let connections = until("five proxies are synced", || {
        let connections = mesh.connections();
        let synced = connections.values().all(|it| {
            let types = it["types"].as_object().unwrap();
            types.len() >= 4 && types.values().all(|it| it["state"] == "synced")
        });
        (connections.len() == 5 && synced).then_some(connections)
    });
    for (workload, connection) in connections {
        let program = if envoys.contains(&workload.as_str()) { "envoy" } else { "tulle-proxy" };
        assert_eq!(connection["program"], program, "{workload}");
        if program == "envoy" {
            assert_eq!(connection["dialect"], dialect, "{workload}");
        }
        for (name, state) in connection["types"].as_object().unwrap() {
            assert_eq!(state["rejections"], 0, "{workload} {name}: {state}");
        }
        assert!(connection["types"]["cds"]["resources"].as_u64() > Some(0), "{connection}");
    }
}

/// Weights, headers and identities are as written; then as edited.
fn routes(mesh: &Mesh) {
    until("the first answer", || pay(mesh, "", 1).only(200).then_some(()));
    let tally = pay(mesh, "", MANY);
    assert!(tally.only(200), "{tally:?}");
    let share = tally.share("canary");
    assert!((0.03..=0.07).contains(&share), "{share}");
    assert_eq!(tally.instances.len(), 3, "every instance has its part: {:?}", tally.instances);
    let caller = "URI=spiffe://cluster.local/ns/production/sa/frontend";
    assert!(tally.last.contains(caller), "no {caller} in {}", tally.last);
    let canary = pay(mesh, "x-canary-user: true", FEW);
    assert_eq!((canary.only(200), canary.share("canary")), (true, 1.0), "{canary:?}");
    assert!(pay(mesh, "x-canary-user: no", FEW).share("canary") < 0.5);

    for (from, to) in [("weight: 95", "weight: 50"), ("weight: 5}", "weight: 50}")] {
        mesh.edit("production/payment-service.yaml", from, to);
    }
    until("half of the requests go to the canary", || {
        (pay(mesh, "", 40).share("canary") > 0.2).then_some(())
    });
    let half = pay(mesh, "", MANY);
    assert!(half.only(200) && (0.45..=0.55).contains(&half.share("canary")), "{half:?}");
}

/// Plain bytes to an Envoy sidecar: closed without a byte while STRICT, answered once PERMISSIVE.
fn plaintext(mesh: &Mesh, server: SocketAddr) {
    let plain = || {
        let request = format!("GET /plain HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n");
        exchange(server, request.as_bytes()).expect("the sidecar listens")
    };
    assert_eq!(plain(), b"", "an answer to plaintext");
    mesh.edit("production/mutual-tls.yaml", "STRICT", "PERMISSIVE");
    until("PERMISSIVE lets plaintext in", || plain().starts_with(b"HTTP/1.1 403").then_some(()));
    mesh.edit("production/mutual-tls.yaml", "PERMISSIVE", "STRICT");
    until("STRICT is back", || plain().is_empty().then_some(()));
}

/// The stranger is in the mesh and has no business here; an Envoy server says so itself.
fn denied(mesh: &Mesh, envoy_server: &str) {
    let server = named(envoy_server);
    let before = mesh.counter(&server, "rbac.denied");
    let tally = until("the stranger's sidecar knows the way", || {
        let tally = stranger(mesh, FEW);
        tally.only(403).then_some(tally)
    });
    assert!(tally.last.contains("RBAC: access denied"), "{}", tally.last);
    assert!(mesh.counter(&server, "rbac.denied") > before, "{envoy_server} denied nothing");
    mesh.edit(
        "production/payment-callers.yaml",
        "sa/frontend]",
        "sa/frontend, cluster.local/ns/outside/sa/stranger]",
    );
    until("the stranger is allowed", || stranger(mesh, FEW).only(200).then_some(()));
    mesh.edit("production/payment-callers.yaml", ", cluster.local/ns/outside/sa/stranger]", "]");
    until("the stranger is denied again", || stranger(mesh, FEW).only(403).then_some(()));
}

/// Certificates of 30 s were renewed meanwhile, and Envoy took them.
fn renewed(mesh: &Mesh, envoys: &[&str]) {
    for name in envoys {
        until("the certificate is renewed twice", || {
            (mesh.log(&format!("{name}-cert")).matches("certificate issued").count() >= 3).then_some(())
        });
        assert_eq!(mesh.counter(&named(name), "update_rejected"), 0, "{name}");
    }
    assert!(pay(mesh, "", FEW).only(200));
}

#[test]
fn envoy_calls_and_serves_over_the_state_of_the_world() {
    let Some(envoy) = envoy() else { return };
    let envoys = ["frontend", "payment-stable-2"];
    let mesh = Mesh::start(&envoy, 40, Dialect::StateOfTheWorld, &envoys);
    all_synced(&mesh, "state-of-the-world", &envoys);
    routes(&mesh);
    plaintext(&mesh, mesh.address(&named("payment-stable-2"), PORT));
    denied(&mesh, "payment-stable-2");
    renewed(&mesh, &envoys);
    all_synced(&mesh, "state-of-the-world", &envoys);
}

#[test]
fn tulle_calls_envoy_and_an_envoy_stranger_is_denied_over_delta() {
    let Some(envoy) = envoy() else { return };
    let envoys = ["payment-stable-1", "payment-canary-1", "stranger"];
    let mesh = Mesh::start(&envoy, 41, Dialect::Delta, &envoys);
    all_synced(&mesh, "delta", &envoys);
    routes(&mesh);
    plaintext(&mesh, mesh.address(&named("payment-canary-1"), PORT));
    denied(&mesh, "payment-canary-1");
    renewed(&mesh, &envoys);
    all_synced(&mesh, "delta", &envoys);
}

#[test]
fn an_envoy_that_claims_anothers_identity_gets_nothing() {
    let Some(envoy) = envoy() else { return };
    let mut mesh = Mesh::start(&envoy, 42, Dialect::StateOfTheWorld, &[]);
    // It is the stranger by its certificate and says that it is the frontend.
    mesh.stop("frontend");
    let frontend = named("frontend");
    mesh.start_envoy(&frontend, &named("stranger"), "impostor");
    until("the control plane refuses the impostor", || {
        (mesh.counter(&frontend, "cluster.xds-grpc.upstream_rq_total") > 1).then_some(())
    });
    assert!(exchange(mesh.payment_service(), b"GET / HTTP/1.1\r\n\r\n").is_none(), "the impostor listens");
    assert!(!mesh.connections().contains_key("frontend"));
    assert_eq!(mesh.counter(&frontend, "listener_manager.total_listeners_active"), 0);
    mesh.stop("impostor");
    mesh.start_envoy(&frontend, &frontend, "honest");
    until("with its own certificate it gets everything", || pay(&mesh, "", 1).only(200).then_some(()));
}
