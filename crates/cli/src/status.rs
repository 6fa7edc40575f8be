//! `tulle status`: which proxies are connected and how far they are, what of the resources does not act, and the limits
//! in effect: for each proxy and for all of them together. Asks `tulled`, or one sidecar when there is none.

mod sidecar;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use serde_json::Value;

use crate::Error;
use crate::control::{self, Control};
use crate::output::{self, Form};

/// Flags of `tulle status`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatusArguments {
    #[command(flatten)]
    control: Control,
    /// Ask one sidecar's admin server and not tulled, which may be down: its identity, its renewal, where its
    /// configuration comes from
    #[arg(long, value_name = "ADDRESS", conflicts_with = "address")]
    admin: Option<SocketAddr>,
    /// How the answer is printed
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Prints how the mesh is. Exits with 1 where a proxy refused its configuration or a resource does not serve.
///
/// # Errors
/// `tulled`, or the sidecar, cannot be asked.
pub fn run(arguments: &StatusArguments) -> Result<ExitCode, Error> {
    if let Some(admin) = arguments.admin {
        return sidecar::run(admin, arguments.output);
    }
    let remedy = "; a sidecar can be asked without it: `tulle status --admin ADDRESS` (its admin server)";
    let mut answer = control::ask(arguments.control.address, "/debug/status")
        .map_err(|error| Error::from(format!("{error}{remedy}")))?;
    let renewal = control::ask(arguments.control.address, "/debug/renewal")?;
    if let Some(fields) = answer.as_object_mut() {
        let lost = control::ask(arguments.control.address, "/debug/trace_context")?;
        fields.insert("certificates".to_owned(), renewal);
        fields.insert("trace_context_lost".to_owned(), lost);
    }
    match arguments.output {
        Form::Table => output::print(&render(&answer))?,
        Form::Json => output::json(&answer)?,
    }
    Ok(if is_well(&answer) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn is_well(answer: &Value) -> bool {
    let refused = list(&answer["proxies"]).iter().any(|proxy| proxy["state"] == "rejected");
    !refused && answer["resources"]["refused"] == 0 && answer["synced"] == true
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

fn render(answer: &Value) -> String {
    let mut out = String::new();
    // A String takes everything.
    let _ = proxies(answer, &mut out);
    let _ = certificates(answer, &mut out);
    let _ = trace_context(answer, &mut out);
    let _ = resources(answer, &mut out);
    let _ = limits(answer, &mut out);
    out
}

fn proxies(answer: &Value, out: &mut String) -> fmt::Result {
    let mut rows = vec![["PROXY", "PROGRAM", "STATE", "TYPES", "SINCE"].map(str::to_owned)];
    let all = list(&answer["proxies"]);
    for proxy in all {
        let types = proxy["types"].as_object().into_iter().flatten();
        let types = types.map(|(name, report)| format!("{name} {}", text(report, "state")));
        rows.push([
            format!("{}/{}", text(proxy, "namespace"), text(proxy, "workload")),
            text(proxy, "program").to_owned(),
            text(proxy, "state").to_owned(),
            types.collect::<Vec<_>>().join(", "),
            text(proxy, "connected_at").to_owned(),
        ]);
    }
    table(&rows, out)?;
    for proxy in all {
        let name = format!("{}/{}", text(proxy, "namespace"), text(proxy, "workload"));
        for (kind, report) in proxy["types"].as_object().into_iter().flatten() {
            if let Some(reason) = report["rejection"]["text"].as_str() {
                writeln!(out, "{name} refused its {kind}: {}", reason.escape_debug())?;
            }
        }
        for note in list(&proxy["notes"]).iter().filter_map(Value::as_str) {
            writeln!(out, "{name}: {note}")?;
        }
    }
    Ok(())
}

fn certificates(answer: &Value, out: &mut String) -> fmt::Result {
    let all = list(&answer["certificates"]);
    if all.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    let head = ["CERTIFICATE OF", "ENDS", "NEXT RENEWAL", "BACK-OFF", "RENEWALS FAILED"];
    let mut rows = vec![head.map(str::to_owned)];
    for one in all {
        let (renewal, or_none) =
            (&one["renewal"], |text: &str| if text.is_empty() { "-" } else { text }.to_owned());
        rows.push([
            text(one, "proxy").to_owned(),
            or_none(text(one, "expires")),
            or_none(text(renewal, "next_attempt")),
            renewal["back_off_ms"].as_u64().map_or_else(|| "-".to_owned(), |pause| format!("{pause} ms")),
            format!(
                "{} in a row, {} in total",
                number(renewal, "failures_in_a_row"),
                number(renewal, "failures")
            ),
        ]);
    }
    table(&rows, out)?;
    for one in all {
        if let Some(reason) = one["renewal"]["last_failure"].as_str() {
            writeln!(out, "{}: the last renewal that failed: {}", text(one, "proxy"), reason.escape_debug())?;
        }
    }
    Ok(())
}

/// The programs that do not pass trace context on: their traces end with them.
fn trace_context(answer: &Value, out: &mut String) -> fmt::Result {
    for one in list(&answer["trace_context_lost"]) {
        let (lost, calls) = (number(one, "lost"), number(one, "calls"));
        writeln!(
            out,
            "\n{}: its program passes no trace context on: {lost} of its last {calls} calls carried neither \
             x-request-id nor the trace of a request that it served; let it copy these headers",
            text(one, "proxy").escape_debug()
        )?;
    }
    Ok(())
}

fn resources(answer: &Value, out: &mut String) -> fmt::Result {
    let count = &answer["resources"];
    writeln!(
        out,
        "\nresources: {} act as written, {} with a part that does not, {} refused",
        number(count, "accepted"),
        number(count, "accepted_with_notes"),
        number(count, "refused")
    )?;
    for message in list(&answer["messages"]).iter().filter_map(Value::as_str) {
        writeln!(out, "  {message}")?;
    }
    Ok(())
}

fn limits(answer: &Value, out: &mut String) -> fmt::Result {
    let all = list(&answer["limits"]);
    if all.is_empty() {
        writeln!(out, "\nlimits: no DestinationRule sets any")?;
    } else {
        writeln!(out, "\nlimits, for each proxy and for all that hold them:")?;
        let head = ["DESTINATION", "PROXIES", "CONNECTIONS", "PENDING", "REQUESTS", "RETRIES"];
        let mut rows = vec![head.map(str::to_owned)];
        for limit in all {
            let subset = match text(limit, "subset") {
                "" => String::new(),
                subset => format!(" subset {subset}"),
            };
            let both = |key: &str| match limit["per_proxy"][key].as_u64() {
                Some(each) => format!("{each} / {}", number(&limit["total"], key)),
                None => "-".to_owned(),
            };
            rows.push([
                format!("{}:{}{subset}", text(limit, "host"), number(limit, "port")),
                number(limit, "proxies").to_string(),
                both("max_connections"),
                both("max_pending_requests"),
                both("max_requests"),
                both("max_retries"),
            ]);
        }
        table(&rows, out)?;
    }
    match number(answer, "left_out") {
        0 => Ok(()),
        more => writeln!(out, "and {more} more that were left out"),
    }
}

fn table<const N: usize>(rows: &[[String; N]], out: &mut String) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..N).map(width).collect();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            write!(line, "{cell:<width$}  ")?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer() -> Value {
        json!({
            "synced": true,
            "proxies": [{
                "namespace": "production", "workload": "frontend", "program": "tulle-proxy", "state": "synced",
                "connected_at": "2026-01-01T00:00:00Z",
                "types": {"cds": {"state": "synced"}, "lds": {"state": "synced"}},
                "notes": ["a part does not act"],
            }],
            "resources": {"accepted": 3, "accepted_with_notes": 1, "refused": 0},
            "messages": ["a.yaml:3: warning: x"],
            "limits": [{
                "host": "payment.production.svc.cluster.local", "subset": "stable", "port": 8080, "proxies": 3,
                "per_proxy": {"max_connections": 100}, "total": {"max_connections": 300},
            }],
            "left_out": 2,
            "certificates": [{
                "proxy": "production/frontend", "expires": "2026-01-02T00:00:00Z",
                "renewal": {"next_attempt": "2026-01-01T12:00:00Z", "back_off_ms": 750, "failures_in_a_row": 2, "failures": 3,
                            "last_failure": "no\nanswer"},
            }],
            "trace_context_lost": [{"proxy": "production/frontend", "calls": 40, "lost": 31}],
        })
    }

    #[test]
    fn shows_a_limit_for_each_proxy_and_in_total() {
        let text = render(&answer());
        for part in [
            "production/frontend  tulle-proxy  synced  cds synced, lds synced",
            "production/frontend: a part does not act",
            "3 act as written, 1 with a part that does not, 0 refused",
            "a.yaml:3: warning: x",
            "payment.production.svc.cluster.local:8080 subset stable  3        100 / 300    -",
            "and 2 more",
            "production/frontend  2026-01-02T00:00:00Z  2026-01-01T12:00:00Z  750 ms    2 in a row, 3 in total",
            "the last renewal that failed: no\\nanswer",
            "production/frontend: its program passes no trace context on: 31 of its last 40 calls",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn a_refusal_is_shown_and_is_no_success() {
        let mut answer = answer();
        assert!(is_well(&answer));
        answer["proxies"][0]["state"] = json!("rejected");
        answer["proxies"][0]["types"]["cds"] = json!({"state": "rejected", "rejection": {"text": "no\nway"}});
        assert!(!is_well(&answer));
        assert!(render(&answer).contains("production/frontend refused its cds: no\\nway"));
    }
}
