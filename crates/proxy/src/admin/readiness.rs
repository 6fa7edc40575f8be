//! Whether this proxy is ready for traffic, and if not, what it waits for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use runtime::DrainWatch;
use tokio::sync::watch;

use crate::identity;
use crate::listen::Listening;
use crate::state::{Builder, Live, SealedStatus, Stream};
use crate::tls::error::unix;
use crate::tls::{Secrets, clock_text};

/// State of the proxy, in Envoy's words (`envoy.admin.v3.ServerInfo.State`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Ready.
    Live,
    /// Going away.
    Draining,
    /// Not ready yet, with the reasons.
    Initializing(Vec<String>),
}

impl State {
    /// Envoy's name.
    pub fn name(&self) -> &'static str {
        match self {
            State::Live => "LIVE",
            State::Draining => "DRAINING",
            State::Initializing(_) => "INITIALIZING",
        }
    }
}

/// Answers `/ready`.
pub struct Readiness {
    /// Certificates.
    pub secrets: Arc<Secrets>,
    /// There, if the bootstrap asks for an identity.
    pub identity: Option<Arc<identity::Status>>,
    /// The sealed snapshot.
    pub sealed: SealedStatus,
    /// The xDS stream.
    pub stream: watch::Receiver<Stream>,
    /// Sockets.
    pub listening: Listening,
    /// What waits.
    pub builder: Rc<RefCell<Builder>>,
    /// What is in use.
    pub live: Arc<Live>,
    /// The process's drain.
    pub drain: DrainWatch,
    /// It was ready once: later updates that wait do not make it unready.
    pub was_ready: Cell<bool>,
}

impl Readiness {
    /// The state now.
    pub fn state(&self) -> State {
        if self.drain.is_draining() {
            return State::Draining;
        }
        let mut reasons = Vec::new();
        if let Some(status) = &self.identity {
            let valid = self.secrets.current().is_some_and(|own| self.secrets.now() < own.own.not_after);
            if !valid {
                let reason = status.failure().unwrap_or_else(|| "asking for a certificate".to_owned());
                reasons.push(format!("identity: {reason}"));
            }
        }
        if !self.was_ready.get() {
            self.first_configuration(&mut reasons);
        }
        if reasons.is_empty() {
            self.was_ready.set(true);
            return State::Live;
        }
        State::Initializing(reasons)
    }

    /// Whether what is in use comes from the sealed snapshot, because no server was reached since the start.
    pub fn from_snapshot(&self) -> bool {
        self.sealed.facts().loaded.is_some() && !self.stream.borrow().was_up
    }

    /// What goes on besides, one line each: for `/ready?verbose`.
    pub fn remarks(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let time = |at| clock_text(unix(at));
        let now = self.secrets.now();
        if let Some(own) = self.secrets.current() {
            let left = own.own.not_after.duration_since(now).unwrap_or_default().as_secs();
            lines.push(format!("certificate: ends at {} (in {left} s)", time(own.own.not_after)));
        }
        if let Some(status) = &self.identity {
            let renewal = status.renewal();
            let next = renewal.next.map_or_else(|| "now".to_owned(), time);
            lines.push(match &renewal.failure {
                None => format!("renewal: next at {next}"),
                Some(reason) => {
                    let waits = renewal.back_off.unwrap_or_default().as_millis();
                    format!(
                        "renewal: failed {} times, next at {next} (after {waits} ms): {reason}",
                        renewal.failures
                    )
                }
            });
        }
        let stream = self.stream.borrow();
        match stream.up {
            true => lines.push("xDS: connected".to_owned()),
            false if stream.reason.is_empty() => lines.push("xDS: not connected yet".to_owned()),
            false => lines.push(format!("xDS: not connected: {}", stream.reason)),
        }
        let facts = self.sealed.facts();
        if let Some(saved) = facts.saved {
            let used = if self.from_snapshot() { "in use" } else { "kept" };
            lines.push(format!("snapshot: {used}, made at {}", time(saved)));
        }
        let problems = [("not used", facts.refused), ("not written", facts.failure)];
        for (what, reason) in problems {
            lines.extend(reason.map(|reason| format!("snapshot: {what}: {reason}")));
        }
        lines
    }

    fn first_configuration(&self, reasons: &mut Vec<String>) {
        let stream = self.stream.borrow();
        if !stream.complete {
            let reason =
                if stream.reason.is_empty() { "waiting for the first configuration" } else { &stream.reason };
            reasons.push(format!("xDS: {reason}"));
        }
        reasons.extend(self.builder.borrow().waiting().into_iter().map(|what| format!("warming: {what}")));
        let failures = self.listening.failures();
        reasons.extend(failures.iter().map(|(name, reason)| format!("listener {name}: {reason}")));
        let bound = self.listening.list();
        for listener in self.live.load().listeners.values().filter(|listener| listener.bind_to_port) {
            let there = bound.iter().any(|bound| bound.name == listener.name);
            if !there && !failures.contains_key(&listener.name) {
                reasons.push(format!("listener {}: being bound", listener.name));
            }
        }
    }
}
