//! `cargo xtask soak`: the chaos tests in their long form, on release binaries, with the numbers written down.
//!
//! The tests are those of every change (`tests/tests/chaos_*.rs`): what is longer is only how long and how hard. Each run of
//! a file replaces its part of the raw numbers; the page is written from them, so that a part can be run again alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

mod page;

/// Where the numbers go, for people and for programs.
const PAGE: &str = "docs/soak.md";
const RAW: &str = "docs/soak.json";
/// Makes the tests long.
const LONG: &str = "TULLE_SOAK";
/// Tells the tests where the binaries are: the load itself need not be a release build.
const BINARIES: &str = "TULLE_BINARIES";

/// Flags of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Only tests whose file has this in its name, such as `restart`; the other parts of the page stay
    #[arg(long)]
    only: Option<String>,
    /// The debug profile and the short form, for trying it out; nothing is written
    #[arg(long)]
    debug: bool,
    /// Niceness of the tests and all their processes; below 0 what they measure is less what others leave to them
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    nice: i8,
    /// Nothing is built: a folder with release binaries of the mesh and the tests' executables
    #[arg(long, requires = "commit")]
    prebuilt: Option<PathBuf>,
    /// The commit that they are of
    #[arg(long)]
    commit: Option<String>,
    /// Nothing is run: the page is written from the raw numbers
    #[arg(long)]
    render: bool,
}

/// A test file and how it went.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Run {
    /// Commit and date; whether there were changes on top.
    commit: String,
    /// Start, in UTC.
    begun: String,
    seconds: u64,
    passed: bool,
    /// Niceness of all its processes.
    nice: i8,
    /// Load average of one minute before and after: what else the machine did.
    load_before: f64,
    load_after: f64,
    /// What each test measured, in their order.
    measured: Vec<(String, Value)>,
}

/// Everything that was run, by file.
type Runs = BTreeMap<String, Run>;

/// Runs the soak; `Ok(false)` when a test failed.
///
/// # Errors
/// Cargo or git cannot be run, or the page cannot be written.
pub fn run(options: &Options, root: &Path, tracked: &[PathBuf]) -> Result<bool, String> {
    let raw = root.join(RAW);
    let mut runs: Runs = match std::fs::read(&raw) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| format!("{RAW}: {error}"))?,
        Err(_) => Runs::new(),
    };
    let mut passed = true;
    if !options.render {
        let files = chaos_files(tracked, options.only.as_deref());
        if files.is_empty() {
            return Err("no test file fits".to_owned());
        }
        if options.prebuilt.is_none() {
            build(root, &files, options.debug)?;
        }
        for (at, file) in files.iter().enumerate() {
            eprintln!("soak: {file} ({} of {})", at + 1, files.len());
            let run = one(root, file, options)?;
            eprintln!(
                "soak: {file}: {} after {} s",
                if run.passed { "passed" } else { "FAILED" },
                run.seconds
            );
            passed &= run.passed;
            runs.insert(file.clone(), run);
            if !options.debug {
                // After each: what was measured is kept when the next one is interrupted.
                write(root, &runs)?;
            }
        }
    }
    if options.render {
        write(root, &runs)?;
    }
    Ok(passed)
}

fn write(root: &Path, runs: &Runs) -> Result<(), String> {
    let mut raw = serde_json::to_string_pretty(runs).map_err(|error| error.to_string())?;
    raw.push('\n');
    std::fs::write(root.join(RAW), raw).map_err(|error| format!("{RAW}: {error}"))?;
    std::fs::write(root.join(PAGE), page::of(runs, &machine())).map_err(|error| format!("{PAGE}: {error}"))
}

fn build(root: &Path, files: &[String], debug: bool) -> Result<(), String> {
    let bins = ["build", "--workspace", "--bins"].map(str::to_owned).to_vec();
    let release = [bins.clone(), vec!["--release".to_owned()]].concat();
    let mut tests = ["test", "-p", "tests", "--no-run"].map(str::to_owned).to_vec();
    tests.extend(files.iter().flat_map(|file| ["--test".to_owned(), file.clone()]));
    for words in [if debug { bins } else { release }, tests] {
        let built = Command::new("cargo").args(&words).current_dir(root).status();
        if !built.map_err(|error| format!("cargo: {error}"))?.success() {
            return Err(format!("cargo {} failed", words.join(" ")));
        }
    }
    Ok(())
}

fn chaos_files(tracked: &[PathBuf], only: Option<&str>) -> Vec<String> {
    let names =
        tracked.iter().filter_map(|path| path.to_str()?.strip_prefix("tests/tests/")?.strip_suffix(".rs"));
    let chaos = names.filter(|name| name.starts_with("chaos_"));
    chaos.filter(|name| only.is_none_or(|only| name.contains(only))).map(str::to_owned).collect()
}

fn one(root: &Path, file: &str, options: &Options) -> Result<Run, String> {
    let (begun, load_before) = (said(root, "date", &["-u", "+%F %R"])?, load());
    let started = Instant::now();
    let mut words: Vec<PathBuf> = Vec::new();
    if options.nice != 0 {
        words.extend(["nice", "-n", &options.nice.to_string()].map(PathBuf::from));
    }
    match &options.prebuilt {
        Some(folder) => words.push(executable(&root.join(folder), file)?),
        None => words.extend(["cargo", "test", "-p", "tests", "--test", file, "--"].map(PathBuf::from)),
    }
    // One after the other: each of them wants the whole machine.
    words.extend(["--nocapture", "--test-threads", "1"].map(PathBuf::from));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    if !options.debug {
        let binaries = options.prebuilt.as_deref().unwrap_or(Path::new("target/release"));
        command.env(LONG, "1").env(BINARIES, root.join(binaries));
    }
    let child = command.current_dir(root).stdout(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("cargo test: {error}"))?;
    let mut measured = Vec::new();
    for line in child.stdout.take().into_iter().flat_map(|output| BufReader::new(output).lines()) {
        let line = line.map_err(|error| format!("cargo test: {error}"))?;
        eprintln!("  {:>5} s  {line}", started.elapsed().as_secs());
        measured.extend(numbers(&line));
    }
    let status = child.wait().map_err(|error| format!("cargo test: {error}"))?;
    Ok(Run {
        commit: options.commit.clone().map_or_else(|| commit(root), Ok)?,
        begun,
        seconds: started.elapsed().as_secs(),
        passed: status.success(),
        nice: options.nice,
        load_before,
        load_after: load(),
        measured,
    })
}

/// The executable that cargo made of a test file: its name goes on with a hash.
fn executable(folder: &Path, file: &str) -> Result<PathBuf, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let hash = name.strip_prefix(file).and_then(|rest| rest.strip_prefix('-'));
        if hash.is_some_and(|hash| !hash.contains('.')) {
            return Ok(path);
        }
    }
    Err(format!("{}: no executable of {file}", folder.display()))
}

/// Name and numbers of a line of a test. The harness may have begun the line with the name of the test.
fn numbers(line: &str) -> Option<(String, Value)> {
    let (_, rest) = line.split_once("measured ")?;
    let at = rest.find(" {")?;
    Some((rest[..at].to_owned(), serde_json::from_str(&rest[at + 1..]).ok()?))
}

fn said(root: &Path, program: &str, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).current_dir(root).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn commit(root: &Path) -> Result<String, String> {
    let changed =
        !said(root, "git", &["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"])?
            .is_empty();
    let commit = said(root, "git", &["log", "-1", "--format=%h of %cs"])?;
    Ok(if changed { format!("{commit}, with changes on top") } else { commit })
}

/// Load average of the last minute; 0 where it is not known.
fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default()
}

/// Processors, memory and kernel.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processor, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let field = |text: &str, name: &str| -> String {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        line.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
    };
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    let gigabytes =
        field(&memory, "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or_default() >> 20;
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{count} × {}, {gigabytes} GiB, Linux {}", field(&processor, "model name"), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chaos_files_are_found() {
        let tracked =
            ["tests/tests/chaos_kill.rs", "tests/tests/demo.rs", "tests/src/chaos/mod.rs"].map(PathBuf::from);
        assert_eq!(chaos_files(&tracked, None), ["chaos_kill"]);
        assert!(chaos_files(&tracked, Some("restart")).is_empty());
    }

    #[test]
    fn numbers_are_read_behind_the_name_of_a_test() {
        let line = r#"test kills ... measured kill tulled {"requests":5}"#;
        assert_eq!(numbers(line), Some(("kill tulled".to_owned(), serde_json::json!({"requests": 5}))));
        assert_eq!(numbers("test kills ... ok"), None);
    }
}
