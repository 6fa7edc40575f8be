//! One run of a room's tests in the copy.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::room::Room;
use super::scratch::Scratch;

/// How long tests may run; a fault can make a loop that never ends.
const LONGEST: Duration = Duration::from_secs(180);

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

/// Builds and runs the tests of a room.
///
/// # Errors
/// Cargo cannot be started.
pub fn run(scratch: &Scratch, room: Room) -> Result<Verdict, Box<dyn Error>> {
    if !cargo(scratch, room, &["--no-run"]).status()?.success() {
        return Ok(Verdict::NoBuild);
    }
    // A group of its own, so that the tests end with cargo.
    let mut child = cargo(scratch, room, &[]).process_group(0).spawn()?;
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

fn cargo(scratch: &Scratch, room: Room, more: &[&str]) -> Command {
    let log = |name: &str| {
        File::create(scratch.target.with_file_name(name)).map_or_else(|_| Stdio::null(), Stdio::from)
    };
    let mut command = Command::new("cargo");
    command
        .arg("test")
        .args(room.tests())
        .args(more)
        .current_dir(&scratch.root)
        .env("CARGO_TARGET_DIR", &scratch.target)
        // Warnings of a fault are of no interest, and the tests must not renew what they compare with.
        .env("RUSTFLAGS", "--cap-lints=warn")
        .env_remove("UPDATE")
        .stdin(Stdio::null())
        .stdout(log("output.log"))
        .stderr(log("errors.log"));
    command
}
