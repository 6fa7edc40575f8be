//! The differential harness: one bootstrap, one script, two proxies, equal answers. See `docs/testing.md`.

// These threads play peers of the proxies; `runtime` has no part in them.
#![allow(clippy::disallowed_methods)]

pub mod admin;
pub mod align;
pub mod bootstrap;
pub mod cache;
pub mod case;
pub mod client;
pub mod compare;
pub mod enough;
pub mod http2;
pub mod message;
pub mod observe;
pub mod proxy;
pub mod tcp;
pub mod text;
pub mod tls;
pub mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde_json::Value;

use cache::Known;
use case::Case;
use compare::Tally;
use proxy::Kind;

use crate::root;

/// How a run treats Envoy.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Path of the real Envoy.
    pub envoy: Option<PathBuf>,
    /// Runs Envoy and compares with what was observed before.
    pub live: bool,
    /// Runs Envoy and writes what is observed.
    pub update: bool,
    /// Only cases whose name contains this.
    pub only: Option<String>,
}

/// What came out of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Both proxies did the same, or differed as the case says; how much that says.
    Same(Tally),
    /// There is nothing to compare with.
    Skipped,
    /// What is wrong.
    Failed(Vec<String>),
}

/// The folder of the cases and of what was observed of Envoy.
pub fn folder() -> PathBuf {
    root().join("tests/differential")
}

/// All cases of a folder, sorted by name.
///
/// # Errors
/// A file that is no case.
pub fn cases(folder: &Path, only: Option<&str>) -> Result<Vec<Case>, String> {
    let mut cases = Vec::new();
    for area in entries(&folder.join("cases")) {
        for file in entries(&area) {
            let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let name = format!("{}/{}", name(&area), name(&file));
            if only.is_none_or(|only| name.contains(only)) {
                let case = case::read(&file, &name)?;
                cases.push(Case { folder: folder.to_owned(), ..case });
            }
        }
    }
    Ok(cases)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

/// Runs cases, some at a time, and returns what came out, in order.
pub fn run(cases: &[Case], options: &Options) -> Vec<(String, Outcome)> {
    let next = Mutex::new(cases.iter().enumerate());
    let outcomes = Mutex::new(vec![Outcome::Skipped; cases.len()]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let Some((index, case)) = next.lock().unwrap().next() else { return };
                    let outcome = one(case, options);
                    outcomes.lock().unwrap()[index] = outcome;
                }
            });
        }
    });
    cases.iter().map(|case| case.name.clone()).zip(outcomes.into_inner().unwrap()).collect()
}

fn one(case: &Case, options: &Options) -> Outcome {
    let known = cache::read(case);
    let live = match (&options.envoy, &known) {
        (Some(path), _) if options.live || options.update => Some(path),
        (Some(path), Known::Nothing | Known::Stale) => Some(path),
        _ => None,
    };
    let mut faults = Vec::new();
    let envoy = match (live, known) {
        (Some(path), known) => {
            let observed = match observe::observe(case, &Kind::Envoy(path.clone()), None) {
                Ok(observed) => observed,
                Err(reason) => return Outcome::Failed(vec![format!("Envoy {reason}")]),
            };
            faults.extend(drift(case, &observed, known, options.update));
            observed
        }
        (None, Known::Observed(observed)) => observed,
        (None, Known::Stale) => {
            return Outcome::Failed(vec![
                "the case has changed since Envoy was observed: UPDATE=1".to_owned(),
            ]);
        }
        (None, Known::Nothing) => return Outcome::Skipped,
    };
    let expected = envoy["log"].as_array().map(Vec::len);
    let mut tally = Tally::default();
    match observe::observe(case, &Kind::Tulle, expected) {
        Ok(ours) => {
            let (found, told) = compare::verdict(case, &envoy, &ours);
            tally = told;
            faults.extend(found);
            faults.extend(enough::faults(case, &envoy, &ours, &tally));
        }
        Err(reason) => faults.push(format!("ours {reason}")),
    }
    if faults.is_empty() { Outcome::Same(tally) } else { Outcome::Failed(faults) }
}

/// Writes a new observation, or says how it differs from the one on record.
fn drift(case: &Case, observed: &Value, known: Known, update: bool) -> Vec<String> {
    match known {
        _ if update => {
            cache::write(case, observed);
            Vec::new()
        }
        Known::Observed(before) => {
            compare::differences(&compare::without_picks(&before), &compare::without_picks(observed))
                .iter()
                .filter(|difference| !compare::is_unsteady(case, difference))
                .map(|d| format!("{}: Envoy did {} and now does {}", d.at, d.envoy, d.ours))
                .collect()
        }
        Known::Stale | Known::Nothing => {
            vec!["Envoy's behaviour is not on record or the case has changed: UPDATE=1".to_owned()]
        }
    }
}
