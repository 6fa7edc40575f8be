//! The page for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Run, Runs};

/// Lists longer than this are told by their ends: the raw numbers have them whole.
const SHOWN: usize = 6;

const HEAD: &str = "# Soak

Written by `cargo xtask soak`: the chaos tests (`tests/tests/chaos_*.rs`) in their long form, with release binaries of the mesh. Every
request has a name; it is counted by whoever sent it and by whoever executed it. A test passes when nothing was lost and nothing that is not
idempotent was done twice, beside what the table says. `.ci/run` runs the same assertions for a shorter time. Whole series (such as resident
memory over time) are in [soak.json](soak.json). Rounds of fuzzing: [fuzzing.md](fuzzing.md).
";

/// The page of all runs.
pub fn of(runs: &Runs, machine: &str) -> String {
    let mut text = HEAD.to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nMachine: {machine}; shared by the mesh, its programs, the load, and whatever else the load average shows.\n"
    );
    text.push_str("| test | passed | begun (UTC) | seconds | load before, after | nice | commit |\n|---|---|---|---|---|---|---|\n");
    for (file, run) in runs {
        let Run { passed, begun, seconds, load_before, load_after, commit, nice, .. } = run;
        let passed = if *passed { "yes" } else { "**no**" };
        let _ = writeln!(
            text,
            "| {file} | {passed} | {begun} | {seconds} | {load_before}, {load_after} | {nice} | {commit} |"
        );
    }
    for (file, run) in runs {
        let _ = writeln!(text, "\n## {file}\n\n| measured | numbers |\n|---|---|");
        for (name, numbers) in &run.measured {
            let _ = writeln!(text, "| {} | {} |", name.replace('|', "/"), shown(numbers));
        }
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| match value {
                Value::Object(_) => format!("{}: {{{}}}", name.replace('_', " "), shown(value)),
                _ => format!("{}: {}", name.replace('_', " "), shown(value)),
            });
            fields.collect::<Vec<_>>().join(", ")
        }
        Value::Array(items) if items.len() > SHOWN => {
            let ends = [items.first(), items.last()].map(|item| item.map(shown).unwrap_or_default());
            format!("{} … {} ({} values)", ends[0], ends[1], items.len())
        }
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(" / "),
        Value::String(text) => text.replace('|', "/"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_failure_is_shown_and_long_series_are_cut() {
        let run = Run {
            commit: "abc".to_owned(),
            begun: "2026-01-01 10:00".to_owned(),
            seconds: 61,
            passed: false,
            nice: -5,
            load_before: 1.5,
            load_after: 2.0,
            measured: vec![(
                "kill tulled".to_owned(),
                json!({"requests": 5, "statuses": {"200": 5}, "series": [1, 2, 3, 4, 5, 6, 7]}),
            )],
        };
        let page = of(&Runs::from([("chaos_kill".to_owned(), run)]), "2 × x");
        assert!(
            page.contains("| chaos_kill | **no** | 2026-01-01 10:00 | 61 | 1.5, 2 | -5 | abc |"),
            "{page}"
        );
        assert!(
            page.contains("| kill tulled | requests: 5, statuses: {200: 5}, series: 1 … 7 (7 values) |"),
            "{page}"
        );
    }
}
