//! Every case of `tests/differential/cases` with the real Envoy (or what was observed of it) and `tulle-proxy`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::Instant;

use tests::differential::compare::{self, Tally};
use tests::differential::{Options, Outcome, cache, cases, folder, run};
use tests::root;

fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value != "0")
}

#[test]
fn tulle_proxy_answers_as_envoy_does() {
    let started = Instant::now();
    let options = Options {
        envoy: std::env::var_os("TULLE_ENVOY").map(Into::into),
        live: set("TULLE_LIVE"),
        update: set("UPDATE"),
        only: std::env::var("TULLE_CASE").ok(),
    };
    let wants_envoy = options.live || options.update;
    assert!(
        !wants_envoy || options.envoy.is_some(),
        "TULLE_LIVE and UPDATE need TULLE_ENVOY: the path of Envoy"
    );
    // Cases that do not pass yet may lie elsewhere.
    let folder = std::env::var_os("TULLE_CASE_FOLDER").map_or_else(folder, Into::into);
    let cases = cases(&folder, options.only.as_deref()).unwrap();
    assert!(!cases.is_empty(), "no case is named so");
    let outcomes = run(&cases, &options);
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let skipped = count(|outcome| *outcome == Outcome::Skipped);
    println!(
        "{} cases: {} as Envoy, {skipped} skipped (no observation, no TULLE_ENVOY), {} differ; {} s",
        cases.len(),
        count(|outcome| matches!(outcome, Outcome::Same(_))),
        count(|outcome| matches!(outcome, Outcome::Failed(_))),
        started.elapsed().as_secs()
    );
    let mut compared = Tally::default();
    for (name, outcome) in &outcomes {
        if let Outcome::Same(tally) = outcome {
            compared += *tally;
            if set("TULLE_COUNT") {
                println!("{name}: {tally}");
            }
        }
    }
    println!("{compared}");
    let mut report = String::new();
    for (name, outcome) in &outcomes {
        if let Outcome::Failed(faults) = outcome {
            report.push_str(&format!("\n{name}\n    {}\n", faults.join("\n    ")));
        }
    }
    assert!(report.is_empty(), "{report}");
}

/// An observation that is not true must fail: otherwise the test above could not.
#[test]
fn a_false_observation_is_found() {
    let mut cases = cases(&folder(), Some("routing/prefix")).unwrap();
    let case = &mut cases[0];
    let told = match cache::read(case) {
        cache::Known::Observed(told) => told,
        _ => panic!("routing/prefix has no observation: UPDATE=1"),
    };
    let ours =
        tests::differential::observe::observe(case, &tests::differential::proxy::Kind::Tulle, None).unwrap();
    assert_eq!(compare::verdict(case, &told, &ours).0, Vec::<String>::new());
    let text = told.to_string().replacen("200 OK", "201 Created", 1);
    let wrong = serde_json::from_str(&text).unwrap();
    let (faults, _) = compare::verdict(case, &wrong, &ours);
    assert!(faults.len() == 1 && faults[0].contains("201 Created"), "{faults:?}");
}

/// A case that differs from another only in numbers proves nothing that the other does not.
#[test]
fn no_two_cases_differ_only_in_a_number() {
    let mut seen = std::collections::BTreeMap::new();
    for case in cases(&folder(), None).unwrap() {
        let text =
            std::fs::read_to_string(folder().join("cases").join(format!("{}.yaml", case.name))).unwrap();
        let told = text.lines().filter(|line| !line.starts_with("about:"));
        let told: String = told.map(|line| line.replace(|c: char| c.is_ascii_digit(), "")).collect();
        let twin = seen.insert(told, case.name.clone());
        assert_eq!(twin, None, "{} says the same", case.name);
    }
}

/// What differs on purpose stands in the document that says so.
#[test]
fn every_meant_difference_is_documented() {
    let cases = cases(&folder(), None).unwrap();
    let document = std::fs::read_to_string(root().join("docs/differences-from-envoy.md")).unwrap_or_default();
    let missing: Vec<&str> = cases
        .iter()
        .filter(|case| case.stricter.is_some() || !case.differs.is_empty())
        .map(|case| case.name.as_str())
        .filter(|name| !document.contains(name))
        .collect();
    assert!(missing.is_empty(), "docs/differences-from-envoy.md does not name {missing:?}");
    assert_eq!(cache::orphans(&folder(), &cases), Vec::<String>::new(), "observations without a case");
}
