//! The main job, from outside: `tulle demo --check`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods)]

use std::process::Command;

const CLAIMS: [&str; 11] = [
    "mutual-tls-with-both-identities",
    "plaintext-refused",
    "canary-share",
    "canary-header",
    "stranger-denied",
    "live-edit-without-failures",
    "broken-edit-named-and-harmless",
    "overflow-answered-at-once",
    "ejected-after-exactly-5-errors",
    "rotation-without-failures",
    "control-plane-killed-sidecar-restarted",
];

#[test]
fn every_claim_is_measured_and_holds() {
    let output = Command::new(tests::binary("tulle")).args(["demo", "--check"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let shown = format!("{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {shown}"));
    let claims = report["claims"].as_array().unwrap();
    let names: Vec<&str> = claims.iter().map(|claim| claim["name"].as_str().unwrap()).collect();
    assert_eq!(names, CLAIMS, "{shown}");
    for claim in claims {
        assert_eq!(claim["ok"], true, "{claim}\n{shown}");
        assert!(claim["measured"]["twin"].is_object(), "{claim} has no negative twin");
    }
    assert!(output.status.success() && report["ok"] == true, "{shown}");
    let share = claims[2]["measured"]["share"].as_f64().unwrap();
    assert_eq!(claims[2]["measured"]["requests"], 20_000);
    assert!((0.044..=0.056).contains(&share), "{share}");
}
