//! `tulle why REQUEST-ID`: what became of one request, hop by hop: where its time went, which rule decided, who is to
//! blame. Asks `tulled`, which asks every proxy.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::Value;

use crate::{Error, control, output};

/// Flags of `tulle why`.
#[derive(Debug, Clone, clap::Args)]
pub struct WhyArguments {
    /// The request's `x-request-id`: in the response's headers, the access log, or the caller's own log
    request_id: String,
    /// Address of tulled's monitoring port
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:15014")]
    monitoring: SocketAddr,
    /// How the answer is printed
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Text)]
    output: Form,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Prints what became of a request. Exits with 1 where no proxy has seen it.
///
/// # Errors
/// `tulled` cannot be asked.
pub fn run(arguments: &WhyArguments) -> Result<ExitCode, Error> {
    let path = format!("/debug/why?request_id={}", encoded(&arguments.request_id));
    let answer = control::ask(arguments.monitoring, &path)?;
    match arguments.output {
        Form::Text => output::print(&render(&answer))?,
        Form::Json => output::print(&format!("{}\n", serde_json::to_string_pretty(&answer)?))?,
    }
    let seen = answer["seen_by"].as_array().is_some_and(|it| !it.is_empty());
    Ok(if seen { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An id as part of a query (RFC 3986, section 2.1).
fn encoded(id: &str) -> String {
    let mut out = String::new();
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
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
    writeln!(
        out,
        "{number}. {} {}  {}  {}: {status}",
        text(it, "proxy"),
        text(it, "direction"),
        text(it, "began"),
        text(it, "request")
    )?;
    writeln!(out, "   caller     {}", text(it, "caller"))?;
    if let Some(route) = it.get("route") {
        writeln!(out, "   route      {}", written(route))?;
    }
    if !text(it, "cluster").is_empty() {
        let tries = match it["attempts"].as_u64() {
            Some(0 | 1) | None => String::new(),
            Some(tries) => format!(", {tries} tries"),
        };
        writeln!(out, "   upstream   {} {}{tries}", text(it, "cluster"), text(it, "upstream"))?;
    }
    let times = &it["times"];
    let mut parts = Vec::new();
    for (key, name) in [("before_upstream", "before"), ("upstream", "upstream"), ("transfer", "transfer")] {
        if let Some(milliseconds) = times[key].as_f64() {
            parts.push(format!("{name} {milliseconds:.2} ms"));
        }
    }
    let total = times["total"].as_f64().unwrap_or_default();
    writeln!(out, "   time       {total:.2} ms ({})", parts.join(", "))?;
    if let Some(reason) = it.get("reason") {
        writeln!(
            out,
            "   reason     {} ({}, flags {})",
            text(reason, "text"),
            text(reason, "code"),
            text(it, "flags")
        )?;
        for resource in reason["resources"].as_array().into_iter().flatten() {
            writeln!(out, "              {}", written(resource))?;
        }
    }
    Ok(())
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
    Some(format!(
        "{} at {} ({}); blame: {}",
        text(reason, "code"),
        text(hop, "proxy"),
        text(hop, "direction"),
        text(reason, "blame")
    ))
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
    }

    #[test]
    fn ids_are_encoded() {
        assert_eq!(encoded("a-1.b_~"), "a-1.b_~");
        assert_eq!(encoded("a b&c=%"), "a%20b%26c%3D%25");
    }
}
