//! The load of one run, by public tools, and what they say.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::place::Place;
use super::scenario::{Kind, Scenario};

/// What a load did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// Requests answered; for bytes: 1.
    pub requests: f64,
    /// Per second.
    pub per_second: f64,
    /// Requests that failed.
    pub errors: u64,
    /// Bytes moved; 0 for requests.
    pub bytes: f64,
}

/// A load on a port.
pub struct Load<'a> {
    /// What is measured.
    pub scenario: &'a Scenario,
    /// Core of the load.
    pub core: usize,
    /// Where to.
    pub port: u16,
}

impl Load<'_> {
    /// Runs the load for so long.
    ///
    /// # Errors
    /// The tool cannot be run, or says nothing that can be read.
    pub fn run(&self, _: &Place, duration: Duration) -> Result<Outcome, String> {
        let seconds = duration.as_secs().to_string();
        let url = format!("http://127.0.0.1:{}/", self.port);
        let timed = format!("{seconds}s");
        match self.scenario.kind {
            Kind::Http1 => wrk(&self.tool("wrk", &["-t1", "-c64", "-d", &timed, &url])?),
            Kind::Http1Close => {
                wrk(&self.tool("wrk", &["-t1", "-c64", "-d", &timed, "-H", "Connection: close", &url])?)
            }
            Kind::Http2 => h2load(&self.tool("h2load", &["-t1", "-c8", "-m16", "-D", &seconds, &url])?),
            Kind::Bytes => {
                let port = self.port.to_string();
                iperf(&self.tool("iperf3", &["-c", "127.0.0.1", "-p", &port, "-t", &seconds, "-J"])?)
            }
        }
    }

    fn tool(&self, program: &str, words: &[&str]) -> Result<String, String> {
        let core = self.core.to_string();
        let output = Command::new("taskset")
            .args(["-c", &core])
            .arg(Path::new(program))
            .args(words)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("{program}: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn wrk(text: &str) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [number, "requests", "in", ..] => outcome.requests = number.parse().unwrap_or(0.0),
            ["Requests/sec:", number] => outcome.per_second = number.parse().unwrap_or(0.0),
            ["Non-2xx", _, _, _, number] => {
                outcome.errors += number.parse().unwrap_or(1);
            }
            ["Socket", "errors:", rest @ ..] => {
                let numbers = rest.iter().filter_map(|it| it.trim_end_matches(',').parse::<u64>().ok());
                outcome.errors += numbers.sum::<u64>();
            }
            _ => {}
        }
    }
    if outcome.requests > 0.0 { Ok(outcome) } else { Err(format!("wrk got no answer: {text}")) }
}

fn h2load(text: &str) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("finished in ") {
            let number = rest.split(", ").nth(1).and_then(|it| it.split_whitespace().next());
            outcome.per_second = number.and_then(|it| it.parse().ok()).unwrap_or(0.0);
        }
        if let Some(rest) = line.strip_prefix("requests: ") {
            for part in rest.split(", ") {
                let mut words = part.split_whitespace();
                let number: f64 = words.next().and_then(|it| it.parse().ok()).unwrap_or(0.0);
                match words.next() {
                    Some("succeeded") => outcome.requests = number,
                    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                    Some("failed" | "errored" | "timeout") => outcome.errors += number as u64,
                    _ => {}
                }
            }
        }
    }
    if outcome.requests > 0.0 { Ok(outcome) } else { Err(format!("h2load got no answer: {text}")) }
}

fn iperf(text: &str) -> Result<Outcome, String> {
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| format!("iperf3: {error}: {text}"))?;
    let sum = &value["end"]["sum_received"];
    let (Some(bytes), Some(bits)) = (sum["bytes"].as_f64(), sum["bits_per_second"].as_f64()) else {
        return Err(format!("iperf3: {}", value["error"]));
    };
    Ok(Outcome { requests: 1.0, per_second: bits / 1e9, errors: 0, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tools_say_is_read() {
        let text = "  305342 requests in 6.00s, 351.95MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 4\nRequests/sec:  50887.66\n";
        let read = wrk(text).unwrap();
        assert_eq!((read.requests, read.per_second, read.errors), (305_342.0, 50_887.66, 7));
        let text = "finished in 1.00s, 39508.00 req/s, 40.71MB/s\nrequests: 39508 total, 39636 started, 39508 done, 39500 succeeded, 8 failed, 0 errored, 0 timeout\n";
        let read = h2load(text).unwrap();
        assert_eq!((read.requests, read.per_second, read.errors), (39_500.0, 39_508.0, 8));
        assert!(wrk("unable to connect").is_err() && h2load("").is_err() && iperf("{}").is_err());
    }
}
