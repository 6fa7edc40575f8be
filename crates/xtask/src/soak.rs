//! `cargo xtask soak`: the chaos tests in their long form, on release binaries, with the numbers written down.
//!
//! The tests are those of every change (`tests/tests/chaos_*.rs`): what is longer is only how long and how hard.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the numbers go.
const PAGE: &str = "docs/soak.md";
/// Makes the tests long.
const LONG: &str = "TULLE_SOAK";

/// Flags of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only tests whose file has this in its name, such as `restart`; the page is not written then
    #[arg(long)]
    only: Option<String>,
    /// The debug profile, for trying it out; the page is not written then
    #[arg(long)]
    debug: bool,
}

/// A test file and how it went.
struct Run {
    file: String,
    passed: bool,
    took: Duration,
    /// `name {numbers}`
    measured: Vec<String>,
}

/// Runs the soak; `Ok(false)` when a test failed.
///
/// # Errors
/// Cargo or git cannot be run, or the page cannot be written.
pub fn run(options: &Options, root: &Path, tracked: &[PathBuf]) -> Result<bool, String> {
    let profile: &[&str] = if options.debug { &[] } else { &["--release"] };
    let build = Command::new("cargo")
        .args(["build", "--workspace", "--bins"])
        .args(profile)
        .current_dir(root)
        .status();
    if !build.map_err(|error| format!("cargo build: {error}"))?.success() {
        return Err("cargo build failed".to_owned());
    }
    let mut runs = Vec::new();
    for file in chaos_files(tracked, options.only.as_deref()) {
        eprintln!("soak: {file}");
        runs.push(one(root, &file, profile)?);
    }
    if runs.is_empty() {
        return Err("no test file fits".to_owned());
    }
    let page = page(&runs, &commit(root)?);
    if options.only.is_none() && !options.debug {
        std::fs::write(root.join(PAGE), page).map_err(|error| format!("{PAGE}: {error}"))?;
    } else {
        println!("{page}");
    }
    Ok(runs.iter().all(|run| run.passed))
}

fn chaos_files(tracked: &[PathBuf], only: Option<&str>) -> Vec<String> {
    let names =
        tracked.iter().filter_map(|path| path.to_str()?.strip_prefix("tests/tests/")?.strip_suffix(".rs"));
    let chaos = names.filter(|name| name.starts_with("chaos_"));
    chaos.filter(|name| only.is_none_or(|only| name.contains(only))).map(str::to_owned).collect()
}

fn one(root: &Path, file: &str, profile: &[&str]) -> Result<Run, String> {
    let started = Instant::now();
    let output = Command::new("cargo")
        .args(["test", "-p", "tests", "--test", file])
        .args(profile)
        // One after the other: each of them wants the whole machine.
        .args(["--", "--nocapture", "--test-threads", "1"])
        .env(LONG, "1")
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo test: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        eprintln!("{text}");
    }
    // The harness may have begun the line with the name of the test.
    let measured =
        text.lines().filter_map(|line| line.split_once("measured ")).map(|(_, rest)| rest.to_owned());
    Ok(Run {
        file: file.to_owned(),
        passed: output.status.success(),
        took: started.elapsed(),
        measured: measured.collect(),
    })
}

fn commit(root: &Path) -> Result<String, String> {
    let git = |words: &[&str]| -> Result<String, String> {
        let output = Command::new("git")
            .args(words)
            .current_dir(root)
            .output()
            .map_err(|error| format!("git: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    let commit = git(&["log", "-1", "--format=%h of %cs"])?;
    Ok(if changed { format!("{commit}, with changes on top") } else { commit })
}

fn page(runs: &[Run], commit: &str) -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let mut text = format!(
        "# Soak\n\nWritten by `cargo xtask soak`: the chaos tests (`tests/tests/chaos_*.rs`) in their long form, 1,000 requests a second, each \
         counted by whoever sent it and by whoever executed it.\n\nCommit {commit}; {processors} processors, shared by the mesh, its programs \
         and the load.\n\n| test | passed | seconds |\n|---|---|---|\n"
    );
    for run in runs {
        let passed = if run.passed { "yes" } else { "**no**" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| {} | {passed} | {} |", run.file, run.took.as_secs());
    }
    text.push_str("\n| measured | numbers |\n|---|---|\n");
    for line in runs.iter().flat_map(|run| &run.measured) {
        let (name, numbers) = line.split_once(" {").unwrap_or((line, ""));
        let numbers = numbers.trim_end_matches('}').replace('"', "").replace('|', "/");
        let _ = writeln!(text, "| {name} | {} |", numbers.replace(',', ", ").replace(':', ": "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chaos_files_are_found_and_a_failure_is_shown() {
        let tracked =
            ["tests/tests/chaos_kill.rs", "tests/tests/demo.rs", "tests/src/chaos/mod.rs"].map(PathBuf::from);
        assert_eq!(chaos_files(&tracked, None), ["chaos_kill"]);
        assert!(chaos_files(&tracked, Some("restart")).is_empty());
        let run = Run {
            file: "chaos_kill".to_owned(),
            passed: false,
            took: Duration::from_secs(61),
            measured: vec![r#"kill tulled {"requests":5,"statuses":{"200":5}}"#.to_owned()],
        };
        let page = page(&[run], "abc");
        assert!(page.contains("| chaos_kill | **no** | 61 |"), "{page}");
        assert!(page.contains("| kill tulled | requests: 5, statuses: {200: 5 |"), "{page}");
    }
}
