//! Pages that do something, and two small ones.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use super::page::{Asked, Context, Page, status, text};
use crate::listen::drain;
use crate::telemetry::raised;

/// POST `/drain_listeners[?inboundonly][&graceful][&skip_exit]`: nothing new is accepted, and each connection ends after
/// its request. `inboundonly`: the inbound listeners. `graceful`: accept for the drain time first; with `skip_exit`, for
/// ever.
pub fn drain_listeners(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&["graceful", "inboundonly", "skip_exit"]) {
        return page;
    }
    let asked = |name| query.get(name).is_some();
    let (graceful, skip_exit) = (asked("graceful"), asked("skip_exit"));
    if skip_exit && !graceful {
        return status(StatusCode::BAD_REQUEST, "skip_exit requires graceful\n".to_owned());
    }
    let concerned = if asked("inboundonly") { drain::inbound } else { drain::every };
    tracing::info!(
        graceful,
        skip_exit,
        inbound_only = asked("inboundonly"),
        "draining: asked by /drain_listeners"
    );
    let listening = &context.readiness.listening;
    if !graceful {
        listening.stop(concerned);
        return text("OK\n");
    }
    listening.drain(concerned);
    if !skip_exit {
        let (listening, stop) = (listening.clone(), context.readiness.drain.clone());
        let time = Duration::from_secs(u64::from(context.command_line.drain_seconds));
        context.tasks.job_local("graceful drain", async move {
            tokio::select! {
                () = tokio::time::sleep(time) => listening.stop(concerned),
                // The process goes, and takes the listeners along in its own order.
                () = stop.started() => {}
            }
        });
    }
    text("OK\n")
}

/// POST `/quitquitquit`: the same as SIGTERM.
pub fn quit(context: &Context, _: &Asked<'_>) -> Page {
    tracing::info!("draining: asked by /quitquitquit");
    context.drain.start();
    text("OK\n")
}

/// POST `/access_log?all` or `?request_id=ID`, with `&seconds=N` (600 without): access logs write, beside what their
/// filters take, every request or those with that id, for that time. `?reset` ends it. Nothing else changes.
pub fn access_log(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&["all", "request_id", "seconds", "reset"]) {
        return page;
    }
    let bad = |text: &str| status(StatusCode::BAD_REQUEST, format!("{text}\n"));
    let seconds = query.get("seconds").map_or(Ok(600), str::parse::<u64>);
    let Some(time) =
        seconds.ok().map(Duration::from_secs).filter(|it| !it.is_zero() && *it <= raised::LONGEST)
    else {
        return bad("seconds is a number from 1 to 3600");
    };
    let now = SystemTime::now();
    let raised = match (query.get("all"), query.get("request_id"), query.get("reset")) {
        (Some(_), None, None) => context.raised.raise(None, time, now),
        (None, Some(id), None) => context.raised.raise(Some(id), time, now),
        (None, None, Some(_)) => context.raised.raise(None, Duration::ZERO, now),
        _ => return bad("say one of ?all, ?request_id=ID (at most 256 bytes) and ?reset"),
    };
    match raised {
        Ok(_) => text("OK\n"),
        Err(reason) => bad(&reason),
    }
}

/// The log filter; it is set on the command line.
pub fn logging(context: &Context, query: &Asked<'_>) -> Page {
    if let Some(page) = query.refusal(&[]) {
        return page;
    }
    text(format!(
        "active filter: {}\nit is set with --log-level when the proxy starts\n",
        context.command_line.log_level
    ))
}

/// Fields that were accepted and do nothing yet.
pub fn not_acting(context: &Context, _: &Asked<'_>) -> Page {
    let mut body = String::new();
    for ((kind, field), noted) in context.notes.list() {
        // Writing to a String cannot fail.
        let _ =
            writeln!(body, "{kind}::{field}::{}::first in {}: {}", noted.count, noted.example, noted.reason);
    }
    text(body)
}
