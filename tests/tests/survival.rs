//! Life without a control plane: it is killed, and traffic, policy and restarts go on; it comes back, and nothing that did
//! not change is sent again.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::mixed::calls::{Tally, calls};
use tests::mixed::{Dialect, Mesh, WORKLOADS, Workload, named};
use tests::{binary, get, until, until_within};

/// Requests of one measurement.
const MANY: usize = 300;

fn pay(mesh: &Mesh, count: usize) -> Tally {
    calls(mesh.payment_service(), "/pay", "", count)
}

fn stranger(mesh: &Mesh, count: usize) -> Tally {
    calls(mesh.address(&named("stranger"), 15080), "http://payment-service.production:8080/pay", "", count)
}

/// A number of a sidecar's metrics page.
fn number(mesh: &Mesh, workload: &Workload, name: &str) -> Option<i64> {
    let page = get(mesh.admin(workload), "/stats/prometheus")?;
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name} ")))?;
    line.trim().parse().ok()
}

fn is_ready(mesh: &Mesh, workload: &Workload) -> Option<()> {
    get(mesh.admin(workload), "/ready")?.starts_with("HTTP/1.1 200").then_some(())
}

/// `tulle status` with these words: how it ended, what it printed, what it said of errors.
fn status(words: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(binary("tulle")).arg("status").args(words).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Starts the example without an Envoy, and waits until every sidecar has saved a configuration.
fn example(block: u8) -> Mesh {
    let mesh = Mesh::start(Path::new(""), block, Dialect::Delta, &[]);
    until("the first answer", || pay(&mesh, 1).only(200).then_some(()));
    for workload in WORKLOADS {
        until(&format!("{} has a snapshot", workload.name), || {
            (number(&mesh, &workload, "tulle_snapshot_writes_total")? > 0).then_some(())
        });
    }
    mesh
}

/// Kills a sidecar and starts it again; the time from its start until it says that it is ready.
fn restart(mesh: &mut Mesh, workload: &Workload) -> Duration {
    mesh.stop(workload.name);
    let started = Instant::now();
    mesh.start_tulle_again(workload);
    until("the sidecar is ready again", || is_ready(mesh, workload));
    started.elapsed()
}

#[test]
fn traffic_policy_and_restarts_go_on_without_a_control_plane_and_nothing_is_sent_again() {
    let mut mesh = example(93);
    mesh.stop("tulled");
    for workload in WORKLOADS {
        until("the loss is noticed", || {
            (number(&mesh, &workload, "envoy_control_plane_connected_state")? == 0).then_some(())
        });
    }
    let tally = pay(&mesh, MANY);
    assert!(tally.only(200) && tally.instances.len() == 3, "{tally:?}");
    assert!(stranger(&mesh, 20).only(403), "the policy is gone with the control plane");

    for name in ["payment-stable-1", "frontend"] {
        let took = restart(&mut mesh, &named(name));
        println!("{name}: ready {} ms after its start, from the snapshot", took.as_millis());
        let workload = named(name);
        assert_eq!(number(&mesh, &workload, "tulle_snapshot_in_use"), Some(1));
        assert!(get(mesh.admin(&workload), "/server_info").unwrap().contains("\"sealed snapshot\""));
        let tally = pay(&mesh, MANY);
        assert!(tally.only(200) && tally.instances.len() == 3, "after the restart of {name}: {tally:?}");
    }
    assert!(stranger(&mesh, 20).only(403), "the restarted sidecar lets the stranger in");

    let received = |mesh: &Mesh| -> Vec<i64> {
        let count = |workload| number(mesh, workload, "tulle_xds_resources_received_total").unwrap();
        WORKLOADS.iter().map(count).collect()
    };
    let before = received(&mesh);
    assert!(before.iter().filter(|count| **count > 0).count() == 3, "{before:?}");
    mesh.start_control_again();
    for workload in WORKLOADS {
        until("the sidecar is connected again", || {
            (number(&mesh, &workload, "envoy_control_plane_connected_state")? == 1).then_some(())
        });
    }
    until("tulled sees all of them in step", || {
        let connections = mesh.connections();
        let synced = connections
            .values()
            .all(|it| it["types"].as_object().unwrap().values().all(|it| it["state"] == "synced"));
        (connections.len() == 5 && synced).then_some(())
    });
    assert_eq!(received(&mesh), before, "something that did not change was sent again");
    assert_eq!(number(&mesh, &named("frontend"), "tulle_snapshot_in_use"), Some(0));

    // The negative twin: a change does come.
    mesh.edit("production/payment-service.yaml", "weight: 95", "weight: 50");
    mesh.edit("production/payment-service.yaml", "weight: 5}", "weight: 50}");
    until("the edit is sent", || (received(&mesh) != before).then_some(()));
    assert!(pay(&mesh, MANY).only(200));
}

#[test]
fn a_certificate_that_ended_meanwhile_is_named_and_replaced_when_the_control_plane_is_back() {
    let mut mesh = Mesh::without_workloads(Path::new(""), 94, Dialect::Delta);
    mesh.lifetime_seconds = Some(6);
    let frontend = named("frontend");
    mesh.start_tulle(&frontend);
    until("the sidecar is ready", || is_ready(&mesh, &frontend));
    until("its certificate is renewed", || {
        (number(&mesh, &frontend, "tulle_certificates_issued_total")? > 1).then_some(())
    });
    mesh.stop("tulled");
    until("renewals fail, and it says so", || {
        (number(&mesh, &frontend, "tulle_certificate_renewal_failing")? == 1).then_some(())
    });
    let page = until("its certificate ends", || {
        get(mesh.admin(&frontend), "/ready?verbose").filter(|page| page.contains("INITIALIZING"))
    });
    for wanted in ["identity: ", "renewal: failed", "next at", "certificate: ends at", "xDS: not connected"] {
        assert!(page.contains(wanted), "no {wanted:?} in {page}");
    }
    let certs = get(mesh.admin(&frontend), "/certs").unwrap();
    assert!(certs.contains("\"failures_in_a_row\"") && certs.contains("connection to"), "{certs}");
    assert!(number(&mesh, &frontend, "tulle_certificate_expiry_seconds").unwrap() <= 0);

    // The command has nobody to ask but the sidecar, and says so.
    let admin = mesh.admin(&frontend).to_string();
    let (_, _, error) = status(&["--monitoring", &mesh.monitoring().to_string()]);
    assert!(error.contains("cannot be asked") && error.contains("tulle status --admin"), "{error}");
    let (code, text, _) = status(&["--admin", &admin]);
    assert_eq!(code, Some(1), "{text}");
    for wanted in ["production/frontend: INITIALIZING", "control plane: not connected: ", " in a row", " ms "]
    {
        assert!(text.contains(wanted), "no {wanted:?} in {text}");
    }
    let (_, text, _) = status(&["--admin", &admin, "-o", "json"]);
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    let renewal = &page["certificates"][0]["renewal"];
    assert!(renewal["failures_in_a_row"].as_u64().unwrap() > 0, "{page:#}");
    assert!(renewal["back_off_ms"].as_u64().unwrap() > 0, "{page:#}");
    assert!(renewal["next_attempt"].is_string() && renewal["last_failure"].is_string(), "{page:#}");

    mesh.start_control_again();
    until("it joined again with its token", || is_ready(&mesh, &frontend));
    assert!(number(&mesh, &frontend, "tulle_certificate_expiry_seconds").unwrap() > 0);
    let monitoring = mesh.monitoring().to_string();
    let shown = until("tulled shows what became of it", || {
        let (_, text, _) = status(&["--monitoring", &monitoring, "-o", "json"]);
        let page: serde_json::Value = serde_json::from_str(&text).ok()?;
        Some(page["certificates"][0]["renewal"].clone()).filter(serde_json::Value::is_object)
    });
    assert!(shown["failures"].as_u64().unwrap() > 0, "{shown:#}");
    assert_eq!((&shown["failures_in_a_row"], &shown["back_off_ms"]), (&0.into(), &serde_json::Value::Null));
    let (code, text, _) = status(&["--admin", &admin]);
    assert!(code == Some(0) && text.contains("control plane: connected"), "{text}");
}

#[test]
fn a_snapshot_of_another_workload_is_not_used_and_the_control_plane_is_waited_for() {
    let mut mesh = example(95);
    let (frontend, other) = (named("frontend"), named("stranger"));
    mesh.stop("tulled");
    mesh.stop("frontend");
    let sealed = |workload: &Workload| mesh.own_folder(workload.name).join("state/snapshot.sealed");
    std::fs::copy(sealed(&other), sealed(&frontend)).unwrap();
    mesh.start_tulle_again(&frontend);
    let page = until("it says why", || {
        get(mesh.admin(&frontend), "/ready?verbose").filter(|page| page.contains("snapshot: not used"))
    });
    assert!(page.contains("belongs to another workload") && page.contains("INITIALIZING"), "{page}");
    mesh.start_control_again();
    until("the control plane gives what the snapshot did not", || is_ready(&mesh, &frontend));
    until("the first answer", || pay(&mesh, 1).only(200).then_some(()));
}

/// Serial numbers of a sidecar's own leaf, as seen so far.
fn serial(mesh: &Mesh, workload: &Workload) -> Option<String> {
    let page = get(mesh.admin(workload), "/certs")?;
    let page: serde_json::Value = serde_json::from_str(&page[page.find('{')?..=page.rfind('}')?]).ok()?;
    Some(page["certificates"][0]["cert_chain"][0]["serial_number"].as_str()?.to_owned())
}

#[test]
fn leaves_are_renewed_at_half_life_under_load_and_no_request_fails() {
    let mut mesh = Mesh::without_workloads(Path::new(""), 97, Dialect::Delta);
    mesh.lifetime_seconds = Some(16);
    mesh.start_workloads(&[]);
    until("the first answer", || pay(&mesh, 1).only(200).then_some(()));
    let mut seen = WORKLOADS.map(|workload| BTreeSet::from_iter(serial(&mesh, &workload)));
    let mut requests = 0;
    until_within(Duration::from_secs(120), "every sidecar has its third leaf", || {
        let tally = pay(&mesh, 100);
        assert!(tally.only(200), "after {requests} requests: {tally:?}");
        requests += 100;
        for (workload, serials) in WORKLOADS.iter().zip(&mut seen) {
            serials.extend(serial(&mesh, workload));
        }
        seen.iter().all(|serials| serials.len() >= 3).then_some(())
    });
    println!("{requests} requests over three leaves of each sidecar, none failed");
}
