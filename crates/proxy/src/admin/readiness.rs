//! Whether this proxy is ready for traffic, and if not, what it waits for.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use runtime::DrainWatch;
use tokio::sync::watch;

use crate::identity;
use crate::listen::Listening;
use crate::state::{Builder, Live, Stream};
use crate::tls::Secrets;

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
            let valid = self.secrets.current().is_some_and(|own| SystemTime::now() < own.own.not_after);
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
