//! One run of tests in the copy: the module's own first, then the crate's, then, if wanted, the differential cases.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::room::{self, Room};
use super::scratch::Scratch;

/// How long tests may run; a fault can make a loop that never ends.
const LONGEST: Duration = Duration::from_secs(240);

/// What became of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A test failed.
    Killed,
    /// The tests did not end in time, which is noticed as well.
    NoEnd,
    /// All tests passed.
    Survived,
    /// The compiler noticed.
    NoBuild,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Killed => "killed",
            Verdict::NoEnd => "no end",
            Verdict::Survived => "SURVIVED",
            Verdict::NoBuild => "no build",
        })
    }
}

/// Builds and runs tests of a room: those of a file's module, and if they notice nothing, all of the crate.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(
    scratch: &Scratch,
    room: Room,
    file: Option<&Path>,
    cases: bool,
) -> Result<Verdict, Box<dyn Error>> {
    let package = ["test", "-p", room.package()];
    if !cargo(scratch, &[&package[..], &["--no-run"]].concat()).status()?.success() {
        return Ok(Verdict::NoBuild);
    }
    let module = file.and_then(room::module);
    if let Some(module) = &module {
        let narrow = [&package[..], &["--lib", module.as_str()]].concat();
        match ended(&mut cargo(scratch, &narrow))? {
            Verdict::Survived => {}
            other => return Ok(other),
        }
    }
    let verdict = ended(&mut cargo(scratch, &package))?;
    if verdict != Verdict::Survived || !cases || !room.is_seen_outside() {
        return Ok(verdict);
    }
    if !cargo(scratch, &["build", "--bin", "tulle-proxy"]).status()?.success() {
        return Ok(Verdict::NoBuild);
    }
    ended(&mut cargo(scratch, &["test", "-p", "tests", "--test", "differential", "tulle_proxy"]))
}

fn ended(command: &mut Command) -> Result<Verdict, Box<dyn Error>> {
    // A group of its own, so that the tests end with cargo.
    let mut child = command.process_group(0).spawn()?;
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { Verdict::Survived } else { Verdict::Killed });
        }
        if started.elapsed() > LONGEST {
            let group = format!("-{}", child.id());
            Command::new("kill").args(["-KILL", "--", &group]).status()?;
            child.wait()?;
            return Ok(Verdict::NoEnd);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn cargo(scratch: &Scratch, words: &[&str]) -> Command {
    let log = |name: &str| {
        File::create(scratch.target.with_file_name(name)).map_or_else(|_| Stdio::null(), Stdio::from)
    };
    let mut command = Command::new("cargo");
    command
        .args(words)
        .current_dir(&scratch.root)
        .env("CARGO_TARGET_DIR", &scratch.target)
        // The tests must not renew what they compare with.
        .env_remove("UPDATE")
        .env_remove("TULLE_LIVE")
        .stdin(Stdio::null())
        .stdout(log("output.log"))
        .stderr(log("errors.log"));
    command
}
