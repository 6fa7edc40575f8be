//! `tulle tap`: requests as they pass, live, from the proxies of the mesh through `tulled`. Filtered at the proxies,
//! sampled, bounded: what cannot be shown fast enough is left out and counted.

use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use crate::control::{self, Control, encoded};
use crate::output::{self, Form, printable};
use crate::{Error, known};

/// Flags of `tulle tap`.
#[derive(Debug, Clone, clap::Args)]
pub struct TapArguments {
    /// The workload at whose proxy is looked, as NAMESPACE/NAME, NAME, or NAMESPACE/ for all of a namespace; all without it
    workload: Option<String>,
    #[command(flatten)]
    filter: FilterArguments,
    /// End after so many requests
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    /// End after so long, in seconds
    #[arg(long = "for", value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    #[command(flatten)]
    control: Control,
    /// How requests are printed: a table, or one JSON object a line
    #[arg(short = 'o', long, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Which requests are watched.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct FilterArguments {
    /// What the proxy does for its workload: `inbound` takes calls, `outbound` makes them
    #[arg(long, value_name = "SIDE", value_parser = ["inbound", "outbound"])]
    direction: Option<String>,
    /// Only this method; may be given again
    #[arg(long, value_name = "METHOD")]
    method: Vec<String>,
    /// Only this path, without query; `*` at its beginning or end stands for anything
    #[arg(long)]
    path: Option<String>,
    /// Only this host; `*` as in --path
    #[arg(long)]
    host: Option<String>,
    /// Only this status: 404, 5xx, or failed; may be given again
    #[arg(long, value_name = "STATUS")]
    status: Vec<String>,
    /// Only with this request header, `name: value` or `name`; `*` as in --path; may be given again, all must be there
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Only from callers with this SPIFFE id; `*` as in --path
    #[arg(long, value_name = "SPIFFE-ID")]
    peer: Option<String>,
    /// Only so many percent of them
    #[arg(long, value_name = "PERCENT")]
    sample: Option<f64>,
}

impl FilterArguments {
    /// The query that says the same to `tulled`.
    pub fn query(&self, workload: Option<&str>) -> String {
        let one = |name: &'static str, value: Option<&str>| value.map(|value| (name, value.to_owned()));
        let mut parts: Vec<(&str, String)> = [
            one("workload", workload),
            one("direction", self.direction.as_deref()),
            one("path", self.path.as_deref()),
            one("authority", self.host.as_deref()),
            one("peer", self.peer.as_deref()),
            self.sample.map(|percent| ("sample", percent.to_string())),
        ]
        .into_iter()
        .flatten()
        .collect();
        parts.extend(self.method.iter().map(|it| ("method", it.clone())));
        parts.extend(self.status.iter().map(|it| ("status", it.clone())));
        parts.extend(self.header.iter().map(|it| ("header", it.clone())));
        let parts: Vec<String> =
            parts.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        parts.join("&")
    }
}

/// A time in seconds, as a person writes it: `2`, `0.5`, `2s`.
///
/// # Errors
/// It is no such number, or longer than a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds: f64 = number.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    let fits = seconds > 0.0 && seconds <= 86_400.0;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| fits)
        .ok_or_else(|| "above 0, at most a day".to_owned())
}

/// Prints requests until it is ended, or has printed as many as it was told.
///
/// # Errors
/// `tulled` cannot be asked, or no proxy has the name.
pub fn run(arguments: &TapArguments) -> Result<ExitCode, Error> {
    let address = arguments.control.address;
    let workload = match &arguments.workload {
        None => None,
        Some(named) => Some(known::selection(address, named)?),
    };
    let path = format!("/debug/tap?{}", arguments.filter.query(workload.as_deref()));
    let mut tap = Tap { form: arguments.output, left: arguments.count, headed: false, watching: None };
    control::lines(address, &path, arguments.duration, |line| tap.line(&line))?;
    Ok(ExitCode::SUCCESS)
}

struct Tap {
    form: Form,
    left: Option<u64>,
    headed: bool,
    watching: Option<(u64, u64)>,
}

impl Tap {
    fn line(&mut self, line: &Value) -> Result<ControlFlow<()>, Error> {
        if line.get("watching").is_some() {
            return self.state(line);
        }
        let mut text = match self.form {
            Form::Json => format!("{}\n", output::escaped(&line.to_string())),
            Form::Table => row(line),
        };
        if self.form == Form::Table && !self.headed {
            self.headed = true;
            text.insert_str(0, &head());
        }
        let reads = output::write(&text)?;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(if reads && self.left != Some(0) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    /// What is worth saying beside the requests: on standard error for people, as lines of their own for programs.
    fn state(&mut self, line: &Value) -> Result<ControlFlow<()>, Error> {
        let number = |key: &str| line[key].as_u64().unwrap_or_default();
        let now = (number("watching"), number("proxies"));
        let refused = line["refused"].as_array().map(Vec::as_slice).unwrap_or_default();
        let news = self.watching != Some(now) || number("dropped") > 0 || !refused.is_empty();
        let first = self.watching.replace(now).is_none();
        if !news {
            return Ok(ControlFlow::Continue(()));
        }
        if self.form == Form::Json {
            let reads = output::write(&format!("{}\n", output::escaped(&line.to_string())))?;
            return Ok(if reads { ControlFlow::Continue(()) } else { ControlFlow::Break(()) });
        }
        if now.0 == now.1 || !first {
            eprintln!("watching {} of {} proxies; Ctrl-C ends", now.0, now.1);
        }
        if number("dropped") > 0 {
            eprintln!(
                "{} requests were left out: they came faster than they could be shown; --sample shows a part",
                number("dropped")
            );
        }
        for reason in refused.iter().filter_map(Value::as_str) {
            eprintln!("not watched: {}", printable(reason));
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn head() -> String {
    format!(
        "{:<24} {:<28} {:<8} {:>6} {:<10} {:>9} {:>9}  {}\n",
        "TIME", "PROXY", "SIDE", "STATUS", "FLAGS", "MS", "UPSTREAM", "REQUEST"
    )
}

fn row(line: &Value) -> String {
    let text = |key: &str| printable(line[key].as_str().unwrap_or_default());
    let time = |key: &str| line["times"][key].as_f64().unwrap_or_default();
    let status = match line["status"].as_u64() {
        None | Some(0) => "-".to_owned(),
        Some(status) => status.to_string(),
    };
    format!(
        "{:<24} {:<28} {:<8} {:>6} {:<10} {:>9.2} {:>9.2}  {} from {}\n",
        text("began"),
        text("proxy"),
        text("direction"),
        status,
        text("flags"),
        time("total"),
        time("upstream"),
        text("request"),
        text("caller"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_is_told_to_tulled() {
        let filter = FilterArguments {
            method: vec!["GET".to_owned(), "PUT".to_owned()],
            path: Some("/a b*".to_owned()),
            header: vec!["x-user: ann".to_owned()],
            sample: Some(2.5),
            ..FilterArguments::default()
        };
        let query = filter.query(Some("production/a"));
        assert_eq!(
            query,
            "workload=production%2Fa&path=%2Fa%20b%2A&sample=2.5&method=GET&method=PUT&header=x-user%3A%20ann"
        );
    }

    #[test]
    fn what_a_client_sent_does_nothing_to_a_terminal() {
        let line = json!({"request": "GET a\u{1b}[2J/", "status": 0, "times": {"total": 1.0}});
        let shown = row(&line);
        assert!(!shown.trim_end().contains('\u{1b}') && shown.contains("\\u{1b}[2J"), "{shown}");
        assert!(shown.contains("      -"), "{shown}");
    }

    #[test]
    fn it_ends_after_the_number_that_was_asked_for() {
        let mut tap = Tap { form: Form::Json, left: Some(2), headed: false, watching: None };
        assert!(
            tap.line(&json!({"watching": 1, "proxies": 1, "dropped": 0, "refused": []}))
                .unwrap()
                .is_continue()
        );
        assert!(tap.line(&json!({"status": 200})).unwrap().is_continue());
        assert!(tap.line(&json!({"status": 200})).unwrap().is_break());
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!(seconds("2s").unwrap(), Duration::from_secs(2));
        assert_eq!(seconds("0.5").unwrap(), Duration::from_millis(500));
        for wrong in ["0", "-1", "x", "1e9", "NaN", "inf"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
