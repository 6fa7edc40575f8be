//! Pages that do something, and two small ones.

use std::fmt::Write as _;

use super::page::{Context, Page, Query, text};

/// POST `/drain_listeners`: nothing new is accepted, and each connection ends after its request.
pub fn drain_listeners(context: &Context, query: &Query) -> Page {
    if let Some(page) = query.refusal(&["graceful"]) {
        return page;
    }
    tracing::info!("draining the listeners: asked by /drain_listeners");
    context.readiness.listening.stop();
    text("OK\n")
}

/// POST `/quitquitquit`: the same as SIGTERM.
pub fn quit(context: &Context, _: &Query) -> Page {
    tracing::info!("draining: asked by /quitquitquit");
    context.drain.start();
    text("OK\n")
}

/// The log filter; it is set on the command line.
pub fn logging(context: &Context, query: &Query) -> Page {
    if let Some(page) = query.refusal(&[]) {
        return page;
    }
    text(format!(
        "active filter: {}\nit is set with --log-level when the proxy starts\n",
        context.command_line.log_level
    ))
}

/// Fields that were accepted and do nothing yet.
pub fn not_acting(context: &Context, _: &Query) -> Page {
    let mut body = String::new();
    for ((kind, field), noted) in context.notes.list() {
        // Writing to a String cannot fail.
        let _ =
            writeln!(body, "{kind}::{field}::{}::first in {}: {}", noted.count, noted.example, noted.reason);
    }
    text(body)
}
