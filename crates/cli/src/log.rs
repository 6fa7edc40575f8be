//! `tulle log`: access logs write every request of one workload, or one request in every proxy, for a time. No connection
//! and no configuration is touched; the lines go where the access log goes.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::control::{self, Control, encoded};
use crate::output::{self, Form, printable};
use crate::tap::seconds;
use crate::{Error, known};

/// Flags of `tulle log`.
#[derive(Debug, Clone, clap::Args)]
pub struct LogArguments {
    /// The workload whose proxy writes every request, as NAMESPACE/NAME, NAME, or NAMESPACE/ for all of a namespace
    #[arg(required_unless_present_any = ["request_id", "reset"])]
    workload: Option<String>,
    /// Only requests with this x-request-id; without a workload: in every proxy
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// For so long, in seconds; at most an hour
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    duration: Duration,
    /// Nothing is raised any more
    #[arg(long, conflicts_with = "request_id")]
    reset: bool,
    #[command(flatten)]
    control: Control,
    /// How the answer is printed
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Raises access logs. Exits with 1 where no proxy did it.
///
/// # Errors
/// `tulled` cannot be asked, or no proxy has the name.
pub fn run(arguments: &LogArguments) -> Result<ExitCode, Error> {
    let address = arguments.control.address;
    let time = if arguments.reset { 0 } else { arguments.duration.as_secs().max(1) };
    let mut path = format!("/debug/log?seconds={time}");
    if let Some(named) = &arguments.workload {
        path.push_str(&format!("&workload={}", encoded(&known::selection(address, named)?)));
    }
    if let Some(id) = &arguments.request_id {
        path.push_str(&format!("&request_id={}", encoded(id)));
    }
    let answer = control::command(address, &path)?;
    match arguments.output {
        Form::Table => output::print(&render(&answer, arguments.reset))?,
        Form::Json => output::json(&answer)?,
    }
    let raised = answer.as_array().is_some_and(|all| all.iter().any(|it| it["error"].is_null()));
    Ok(if raised { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(answer: &Value, reset: bool) -> String {
    let all = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return "no tulle-proxy is connected\n".to_owned();
    }
    let line = |it: &Value| {
        let text = |key: &str| printable(it[key].as_str().unwrap_or_default());
        let proxy = text("proxy");
        match (it["error"].is_null(), reset) {
            (false, _) => format!("{proxy}: {}\n", text("error")),
            (true, true) => format!("{proxy}: writes what its access log is configured to\n"),
            (true, false) => format!("{proxy}: writes to its access log until {}\n", text("until")),
        }
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_proxy_has_a_line() {
        let answer = json!([{"proxy": "a/b", "until": "2026-01-01T00:00:00Z"}, {"proxy": "a/c", "error": "x\u{1b}[2J"}]);
        let text = render(&answer, false);
        assert!(text.contains("a/b: writes to its access log until 2026-01-01T00:00:00Z\n"));
        assert!(text.contains("a/c: x") && !text.contains('\u{1b}'), "{text:?}");
        assert!(render(&json!([]), false).contains("no tulle-proxy"));
    }
}
