//! `tulle why REQUEST-ID`: what became of one request, hop by hop: where its time went, which rule decided, who is to
//! blame. Asks `tulled`, which asks every proxy.

use std::fmt::{self, Write};
use std::process::ExitCode;

use serde_json::Value;

use crate::Error;
use crate::control::{self, Control, encoded};
use crate::output::{self, Form};

/// Flags of `tulle why`.
#[derive(Debug, Clone, clap::Args)]
pub struct WhyArguments {
    /// The request's `x-request-id`: in the response's headers, the access log, or the caller's own log
    request_id: String,
    #[command(flatten)]
    control: Control,
    /// How the answer is printed
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Prints what became of a request. Exits with 1 where no proxy has seen it.
///
/// # Errors
/// `tulled` cannot be asked.
pub fn run(arguments: &WhyArguments) -> Result<ExitCode, Error> {
    let path = format!("/debug/why?request_id={}", encoded(&arguments.request_id));
    let answer = control::ask(arguments.control.address, &path)?;
    match arguments.output {
        Form::Table => output::print(&render(&output::harmless(&answer)))?,
        Form::Json => output::json(&answer)?,
    }
    let seen = answer["seen_by"].as_array().is_some_and(|it| !it.is_empty());
    Ok(if seen { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(answer: &Value) -> String {
    let mut out = String::new();
    // A String takes everything.
    let _ = tree(answer, &mut out);
    out
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

fn tree(answer: &Value, out: &mut String) -> fmt::Result {
    let id = text(answer, "request_id");
    let (seen, silent) = (list(&answer["seen_by"]), list(&answer["silent"]));
    let hops = answer["hops"].as_array().map(Vec::as_slice).unwrap_or_default();
    if hops.is_empty() {
        match seen.as_slice() {
            [] => writeln!(
                out,
                "{id}: never seen by any of {} proxies (each remembers the ids of its last requests)",
                answer["asked"]
            )?,
            proxies => writeln!(
                out,
                "{id}: passed {} without a failure; its story was not kept (failures, slow requests and a sample are)",
                proxies.join(", ")
            )?,
        }
    } else {
        writeln!(out, "{id}: passed {}", seen.join(", "))?;
    }
    for (number, it) in hops.iter().enumerate() {
        hop(number + 1, it, out)?;
    }
    if answer["gaps"] == true {
        writeln!(
            out,
            "some hops were not kept, or the id served several requests: the parts stand in the order of their clocks"
        )?;
    }
    if let Some(failed) = blamed(hops) {
        writeln!(out, "because: {failed}")?;
    }
    if !silent.is_empty() {
        writeln!(out, "not answered by: {}", silent.join(", "))?;
    }
    Ok(())
}

fn hop(number: usize, it: &Value, out: &mut String) -> fmt::Result {
    let status = match it["status"].as_u64() {
        Some(0) | None => "no answer".to_owned(),
        Some(status) => status.to_string(),
    };
    let depth = it["depth"].as_u64().and_then(|depth| usize::try_from(depth).ok()).unwrap_or_default();
    let indent = "  ".repeat(depth.min(32));
    let attempt = match it["attempt"].as_u64() {
        Some(0 | 1) | None => String::new(),
        Some(attempt) => format!(" (try {attempt})"),
    };
    writeln!(
        out,
        "{indent}{number}. {} {}{attempt}  {}  {}: {status}",
        text(it, "proxy"),
        text(it, "direction"),
        text(it, "began"),
        text(it, "request")
    )?;
    writeln!(out, "{indent}   caller     {}", text(it, "caller"))?;
    if let Some(route) = it.get("route") {
        writeln!(out, "{indent}   route      {}", written(route))?;
    }
    if !text(it, "cluster").is_empty() {
        writeln!(out, "{indent}   upstream   {} {}", text(it, "cluster"), text(it, "upstream"))?;
    }
    let total = it["times"]["total"].as_f64().unwrap_or_default();
    let parts = parts(&it["times"], &["own", "queue", "connect", "handshake", "upstream", "transfer"]);
    writeln!(out, "{indent}   time       {total:.2} ms{parts}")?;
    let tries = it["tries"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (number, one) in (1..).zip(tries).filter(|_| tries.len() > 1) {
        let ended = match one["status"].as_u64() {
            Some(0) | None if text(one, "reason").is_empty() => "given up".to_owned(),
            Some(0) | None => text(one, "reason").to_owned(),
            Some(status) => status.to_string(),
        };
        let parts = self::parts(one, &["queue", "connect", "handshake", "upstream"]);
        writeln!(out, "{indent}     try {number}    {}: {ended}{parts}", text(one, "host"))?;
    }
    if let Some(reason) = it.get("reason") {
        writeln!(
            out,
            "{indent}   reason     {} ({}, flags {})",
            text(reason, "text"),
            text(reason, "code"),
            text(it, "flags")
        )?;
        if !text(reason, "failed_at").is_empty() {
            let with = match text(reason, "failed_with") {
                "" => String::new(),
                peer => format!(", with {peer}"),
            };
            writeln!(out, "{indent}              as {} said{with}", text(reason, "failed_at"))?;
        }
        for resource in reason["resources"].as_array().into_iter().flatten() {
            writeln!(out, "{indent}              {}", written(resource))?;
        }
    }
    Ok(())
}

/// The parts of a time that are not nothing.
fn parts(times: &Value, names: &[&str]) -> String {
    let part = |name: &&str| {
        let milliseconds = times[*name].as_f64().filter(|it| *it >= 0.005)?;
        Some(format!("{name} {milliseconds:.2}"))
    };
    let parts: Vec<String> = names.iter().filter_map(part).collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
}

fn written(resource: &Value) -> String {
    match text(resource, "place") {
        "" => text(resource, "resource").to_owned(),
        place => format!("{} ({place})", text(resource, "resource")),
    }
}

/// The hop that is nearest to the cause: the last one with a reason.
fn blamed(hops: &[Value]) -> Option<String> {
    let hop = hops.iter().rev().find(|it| it.get("reason").is_some())?;
    let reason = &hop["reason"];
    // The hop that noticed it may not have kept its story: then the nearest one knows its name.
    let place = match text(reason, "failed_at") {
        "" => format!("{} ({})", text(hop, "proxy"), text(hop, "direction")),
        noticed => noticed.to_owned(),
    };
    Some(format!("{} at {place}; blame: {}", text(reason, "code"), text(reason, "blame")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn never_seen_and_not_recorded_are_told_apart() {
        let never = json!({"request_id": "a", "asked": 3, "silent": [], "seen_by": [], "hops": []});
        assert!(render(&never).contains("never seen by any of 3 proxies"));
        let passed =
            json!({"request_id": "a", "asked": 3, "silent": ["n/c"], "seen_by": ["n/a"], "hops": []});
        let shown = render(&passed);
        assert!(shown.contains("passed n/a without a failure") && shown.contains("not answered by: n/c"));
    }

    #[test]
    fn the_hop_nearest_to_the_cause_is_blamed() {
        let hop = |proxy: &str, reason: Value| {
            json!({"proxy": proxy, "direction": "inbound", "status": 503, "flags": "UC", "times": {"total": 1.5},
                   "reason": reason})
        };
        let answer = json!({"request_id": "a", "asked": 2, "silent": [], "seen_by": ["n/a", "n/b"], "hops": [
            hop("n/a", json!({"code": "upstream-reset", "blame": "upstream", "text": "t", "resources": []})),
            hop("n/b", json!({"code": "connect-failed", "blame": "upstream", "text": "t", "resources": []})),
        ]});
        let shown = render(&answer);
        assert!(shown.contains("because: connect-failed at n/b (inbound); blame: upstream"), "{shown}");
        let told = json!({"code": "ejected", "blame": "upstream", "text": "t", "resources": [], "failed_at": "n/c",
            "failed_with": "h:1"});
        let answer = json!({"request_id": "a", "asked": 1, "silent": [], "seen_by": ["n/a"], "hops": [hop("n/a", told)]});
        let shown = render(&answer);
        assert!(
            shown.contains("as n/c said, with h:1") && shown.contains("because: ejected at n/c; blame"),
            "{shown}"
        );
    }

    #[test]
    fn every_part_of_the_time_and_every_try_is_shown() {
        let hop = json!({"proxy": "n/a", "direction": "outbound", "status": 200, "depth": 1, "attempt": 2,
            "times": {"total": 9.0, "own": 1.0, "queue": 2.0, "connect": 0.001, "upstream": 6.0},
            "tries": [{"host": "h1", "status": 0, "reason": "connect-failed", "queue": 2.0},
                      {"host": "h2", "status": 200, "reason": "", "upstream": 6.0}]});
        let answer = json!({"request_id": "a", "asked": 1, "silent": [], "seen_by": ["n/a"], "hops": [hop],
            "gaps": true});
        let shown = render(&answer);
        for part in [
            "  1. n/a outbound (try 2)",
            "time       9.00 ms (own 1.00, queue 2.00, upstream 6.00)",
            "try 1    h1: connect-failed (queue 2.00)",
            "try 2    h2: 200 (upstream 6.00)",
            "the order of their clocks",
        ] {
            assert!(shown.contains(part), "no {part:?} in\n{shown}");
        }
    }
}
