//! One of the two proxies as a process.

use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{binary, get};

/// Which proxy runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The real Envoy, by its path.
    Envoy(PathBuf),
    /// Ours.
    Tulle,
}

/// A running proxy. Killed when dropped.
pub struct Proxy {
    child: Child,
    log: PathBuf,
    admin: SocketAddr,
    ended: bool,
}

impl Proxy {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// What it printed, when it ended instead.
    pub fn start(kind: &Kind, bootstrap: &Path, admin: SocketAddr) -> Result<Proxy, String> {
        let (program, words): (PathBuf, &[&str]) = match kind {
            Kind::Envoy(path) => {
                (path.clone(), &["--disable-hot-restart", "--file-flush-interval-msec", "20", "-l", "error"])
            }
            Kind::Tulle => (binary("tulle-proxy"), &["--drain-time-s", "1"]),
        };
        let log = bootstrap.with_extension("log");
        let output = std::fs::File::create(&log).unwrap();
        let child = Command::new(&program)
            .arg("-c")
            .arg(bootstrap)
            .args(["--concurrency", "1"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let mut proxy = Proxy { child, log, admin, ended: false };
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(20) {
            if let Some(status) = proxy.child.try_wait().unwrap() {
                return Err(format!("ended with {status} before it was ready:\n{}", proxy.printed()));
            }
            if get(admin, "/ready").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
                return Ok(proxy);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("not ready within 20 s:\n{}", proxy.printed()))
    }

    /// What it has printed.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Values of statistics by their Prometheus names and labels (`name{label="…"}`), or by Envoy's own (`cluster.app.…`);
    /// `null` for one that is not there.
    pub fn stats(&self, names: &[String]) -> Value {
        let prometheus = if names.is_empty() { String::new() } else { self.metrics() };
        let own = if names.iter().any(|name| !name.contains('{')) {
            get(self.admin, "/stats").unwrap_or_default()
        } else {
            String::new()
        };
        let value = |name: &String| match metric(&prometheus, name) {
            None if !name.contains('{') => metric(&own, &format!("{name}:")),
            value => value,
        };
        Value::Object(names.iter().map(|name| (name.clone(), json!(value(name)))).collect())
    }

    /// Whether it says that no downstream connection is left; `None` when it has no such statistic.
    pub fn idle(&self) -> Option<bool> {
        let name = "envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix=\"case\"}";
        metric(&self.metrics(), name).map(|count| count == 0)
    }

    fn metrics(&self) -> String {
        get(self.admin, "/stats/prometheus").unwrap_or_default()
    }

    /// Asks it to end and waits.
    ///
    /// # Errors
    /// It crashed before, or it did not end.
    pub fn stop(&mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            self.ended = true;
            return Err(format!("it ended by itself with {status}:\n{}", self.printed()));
        }
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(5) {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.ended = true;
                return match status.signal() {
                    Some(signal) if signal != 15 => Err(format!("signal {signal}:\n{}", self.printed())),
                    _ => Ok(()),
                };
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("it did not end within 5 s of SIGTERM:\n{}", self.printed()))
    }
}

fn metric(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended by itself.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
