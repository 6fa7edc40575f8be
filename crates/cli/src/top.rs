//! `tulle top`: services, routes and peers with their requests per second, success and durations, live: on a terminal as
//! a screen that updates, with `--once` as one table for programs. The proxies count only while somebody looks.

mod screen;
mod sums;

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::{self, Control};
use crate::output::{self, Form};
use crate::tap::{FilterArguments, seconds};
use crate::{Error, known};
use sums::{By, Row, Sums};

/// How long proxies may take until they count.
const PATIENCE: Duration = Duration::from_secs(10);

/// Flags of `tulle top`.
#[derive(Debug, Clone, clap::Args)]
pub struct TopArguments {
    /// The workload at whose proxy is looked, as in `tulle tap`; all without it
    workload: Option<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// Count for some seconds, print the tables, and end
    #[arg(long)]
    once: bool,
    /// For how long --once counts, in seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds, default_value = "2")]
    duration: Duration,
    #[command(flatten)]
    control: Control,
    /// How --once prints
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Shows the screen until `q`, or prints once.
///
/// # Errors
/// `tulled` cannot be asked, or there is no terminal for the screen.
pub fn run(arguments: &TopArguments) -> Result<ExitCode, Error> {
    let address = arguments.control.address;
    let workload = match &arguments.workload {
        None => None,
        Some(named) => Some(known::selection(address, named)?),
    };
    let path = format!("/debug/top?{}", arguments.filter.query(workload.as_deref()));
    if !arguments.once && arguments.output == Form::Table {
        return screen::run(address, &path);
    }
    let counted = count(address, &path, arguments.duration)?;
    match arguments.output {
        Form::Table => output::print(&tables(&counted))?,
        Form::Json => output::json(&whole(&counted))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Counts for so long, from when every proxy takes part.
fn count(address: control::Address, path: &str, duration: Duration) -> Result<Sums, Error> {
    let (mut sums, mut counting) = (Sums::default(), false);
    let limit = PATIENCE + duration + PATIENCE;
    control::lines(address, path, Some(limit), |line| {
        let (there, watching) = (line["proxies"].as_u64(), line["watching"].as_u64());
        if there == Some(0) {
            return Err("no proxy is connected: nothing can be counted (tulle status shows who is)".into());
        }
        if counting {
            sums.add(&line);
        } else {
            // What came before everybody counted is not taken.
            counting = there == watching;
            if counting {
                eprintln!(
                    "counting for {} s at {} proxies",
                    duration.as_secs_f64(),
                    watching.unwrap_or_default()
                );
                sums.begin();
            }
        }
        Ok(if counting && sums.seconds >= duration.as_secs_f64() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    if !counting {
        return Err("some proxies did not begin to count; tulle status shows how they are".into());
    }
    Ok(sums)
}

fn tables(sums: &Sums) -> String {
    let mut out = format!("{:.1} s, {} proxies", sums.seconds, sums.proxies);
    if !sums.refusals.is_empty() {
        out.push_str(&format!("; not counted: {}", sums.refusals.join("; ")));
    }
    out.push('\n');
    for by in By::ALL {
        let rows: Vec<Vec<String>> = sums.rows(by).iter().map(|row| cells(row).to_vec()).collect();
        out.push('\n');
        if rows.is_empty() {
            out.push_str(&format!("{}: no request ended meanwhile\n", by.title()));
        } else {
            out.push_str(&output::table(&heads(by), &rows));
        }
    }
    out
}

/// The heads of a table.
fn heads(by: By) -> [&'static str; 7] {
    [by.title(), "SEEN BY", "REQUESTS", "RPS", "SUCCESS", "P50 MS", "P99 MS"]
}

/// The cells of a row.
fn cells(row: &Row) -> [String; 7] {
    let side = if row.direction == "inbound" { "called" } else { "callers" };
    [
        output::printable(&row.name),
        side.to_owned(),
        row.requests.to_string(),
        format!("{:.1}", row.rps),
        format!("{:.2} %", row.success * 100.0),
        format!("{:.2}", row.p50),
        format!("{:.2}", row.p99),
    ]
}

fn whole(sums: &Sums) -> Value {
    let of = |by: By| -> Value {
        let rows = sums.rows(by).into_iter().map(|row| {
            json!({
                "name": row.name,
                "direction": row.direction,
                "requests": row.requests,
                "failures": row.failures,
                "rps": row.rps,
                "success_rate": row.success,
                "p50_ms": row.p50,
                "p99_ms": row.p99,
            })
        });
        rows.collect()
    };
    json!({
        "seconds": sums.seconds,
        "proxies": sums.proxies,
        "not_counted": sums.refusals,
        "services": of(By::Service),
        "routes": of(By::Route),
        "peers": of(By::Peer),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_show_what_was_counted_and_say_when_nothing_was() {
        let mut sums = Sums::default();
        assert!(tables(&sums).contains("SERVICE: no request ended meanwhile"));
        sums.add(&json!({"proxies": 2, "watching": 2, "seconds": 2.0, "refused": [], "sums": [{
            "proxy": "n/a", "direction": "outbound", "service": "b\u{1b}.n", "route": "VirtualService/n/b#http[0]",
            "peer": "n/b", "requests": 10, "failures": 1, "slots": [100], "counts": [10],
        }]}));
        let shown = tables(&sums);
        assert!(
            shown.contains("b\\u{1b}.n") && shown.contains("90.00 %") && shown.contains("5.0"),
            "{shown}"
        );
        assert!(shown.contains("n/a → n/b") && shown.contains("VirtualService/n/b#http[0]"), "{shown}");
        let whole = whole(&sums);
        assert_eq!(
            (&whole["services"][0]["requests"], &whole["peers"][0]["failures"]),
            (&json!(10), &json!(1))
        );
    }
}
