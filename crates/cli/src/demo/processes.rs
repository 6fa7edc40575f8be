//! The processes of the demo: started with a log file each, stopped together.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use crate::Error;

/// How long a process may take after SIGTERM before it is killed.
const PATIENCE: Duration = Duration::from_secs(8);

struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

/// Every process that was started and is not stopped yet.
pub struct Processes {
    logs: PathBuf,
    running: Vec<Process>,
}

impl Processes {
    /// None yet.
    pub fn new(logs: PathBuf) -> Processes {
        Processes { logs, running: Vec::new() }
    }

    /// Starts a process; standard output and error go to `NAME.log`.
    ///
    /// # Errors
    /// The binary or the log file cannot be opened.
    pub fn start(&mut self, name: &str, binary: &Path, words: &[String]) -> Result<(), Error> {
        let log = self.log(name);
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(binary)
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .env_remove("http_proxy")
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        self.running.push(Process { name: name.to_owned(), child, log });
        Ok(())
    }

    /// Path of a process's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// What a process has logged so far.
    pub fn logged(&self, name: &str) -> String {
        std::fs::read(self.log(name))
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Stops with an error if a process has ended although nobody stopped it.
    ///
    /// # Errors
    /// Its name, exit status and the end of its log.
    pub fn all_alive(&mut self) -> Result<(), Error> {
        for process in &mut self.running {
            if let Some(status) = process.child.try_wait()? {
                let log = std::fs::read_to_string(&process.log).unwrap_or_default();
                let lines: Vec<&str> = log.lines().rev().take(5).collect();
                let end: Vec<&str> = lines.into_iter().rev().collect();
                let text =
                    format!("{} ended with {status}; its log ends with:\n{}", process.name, end.join("\n"));
                return Err(text.into());
            }
        }
        Ok(())
    }

    /// Stops one process: SIGTERM, then SIGKILL after some seconds.
    pub async fn stop(&mut self, name: &str) {
        if let Some(at) = self.running.iter().position(|process| process.name == name) {
            finish(self.running.swap_remove(at)).await;
        }
    }

    /// Kills one process (SIGKILL).
    ///
    /// # Errors
    /// It does not run, or cannot be waited for.
    pub async fn kill(&mut self, name: &str) -> Result<(), Error> {
        let at = self.running.iter().position(|process| process.name == name);
        let mut process = self.running.swap_remove(at.ok_or_else(|| format!("{name} does not run"))?);
        Ok(process.child.kill().await?)
    }

    /// Stops all of them at the same time.
    pub async fn stop_all(&mut self) {
        for process in &self.running {
            terminate(process);
        }
        while let Some(process) = self.running.pop() {
            finish(process).await;
        }
    }
}

fn terminate(process: &Process) {
    let id =
        process.child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may have ended already, which is what is wanted.
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    }
}

async fn finish(mut process: Process) {
    terminate(&process);
    if tokio::time::timeout(PATIENCE, process.child.wait()).await.is_err() {
        tracing::warn!(process = process.name, "did not stop within {} s and was killed", PATIENCE.as_secs());
        // Nothing more can be done when even this fails.
        let _ = process.child.kill().await;
    }
}
