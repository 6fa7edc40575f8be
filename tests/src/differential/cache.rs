//! Observations of Envoy, one file per case and version.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::case::Case;

/// The version whose behaviour is the measure.
pub const VERSION: &str = "1.40";

fn file(case: &Case) -> PathBuf {
    let name = case.name.replace('/', "-");
    case.folder.join("observed").join(VERSION).join(format!("{name}.json"))
}

/// What is known of Envoy's behaviour in a case.
pub enum Known {
    /// This.
    Observed(Value),
    /// The case changed since it was observed.
    Stale,
    /// Nothing.
    Nothing,
}

/// Reads the observation of a case.
pub fn read(case: &Case) -> Known {
    let Ok(text) = std::fs::read_to_string(file(case)) else { return Known::Nothing };
    match serde_json::from_str::<Value>(&text) {
        Ok(mut value) if value["case"] == case.checksum.as_str() => Known::Observed(value["observed"].take()),
        _ => Known::Stale,
    }
}

/// Writes the observation of a case.
pub fn write(case: &Case, observed: &Value) {
    let file = file(case);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = serde_json::to_string_pretty(&json!({ "case": case.checksum, "observed": observed })).unwrap();
    std::fs::write(file, text + "\n").unwrap();
}

/// Observations without a case: left over when a case was renamed or removed.
pub fn orphans(folder: &Path, cases: &[Case]) -> Vec<String> {
    let folder = folder.join("observed").join(VERSION);
    let known: Vec<PathBuf> = cases.iter().map(file).collect();
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| !known.contains(path))
        .map(|path| path.display().to_string())
        .collect()
}
