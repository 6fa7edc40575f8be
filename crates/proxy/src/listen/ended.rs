//! How a connection ended, for the listener's access log.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

use base::Reason;

use super::worker::Worker;
use crate::filter::Downstream;
use crate::http::h1::server::{Closed, ConnectionError};
use crate::telemetry::RequestRecord;
use crate::telemetry::access_log::AccessLogs;

/// The end of a connection.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// Why it ended other than well.
    pub reason: Option<Reason>,
    /// Why this proxy closed it, Envoy's words.
    pub termination: Cow<'static, str>,
    /// Why the handshake failed.
    pub handshake: Cow<'static, str>,
}

impl Ended {
    /// For that reason, or well.
    pub fn by(reason: Option<Reason>) -> Ended {
        Ended { reason, ..Ended::default() }
    }

    /// Writes the connection's line.
    pub fn log(
        self,
        worker: &Worker,
        logs: &AccessLogs,
        record: &mut RequestRecord,
        downstream: &Downstream,
    ) {
        record.end = Some(Instant::now());
        if let Some(reason) = self.reason {
            record.fail(reason);
        }
        record.downstream_failure = self.handshake;
        record.termination = self.termination;
        let connection = &downstream.facts();
        logs.write(&worker.http.log_context(record, connection), worker.http.number);
    }
}

/// Why a connection of HTTP/1 ended other than well.
pub fn http1(peer: SocketAddr, served: Result<Closed, ConnectionError>) -> Option<Reason> {
    match served {
        Ok(closed) => {
            tracing::trace!(%peer, ?closed, "connection closed");
            match closed {
                Closed::ByClient | Closed::AfterResponse => None,
                Closed::Idle => Some(Reason::IdleTimeout),
                Closed::Drained => Some(Reason::Draining),
                Closed::Aged => Some(Reason::MaxDuration),
                Closed::Refused(refusal) => Some(refusal.reason()),
            }
        }
        Err(ConnectionError::ClientGone) => {
            tracing::trace!(%peer, "the client went away");
            Some(Reason::DownstreamReset)
        }
        Err(error) => {
            tracing::debug!(%peer, "{error}");
            Some(match error {
                ConnectionError::Stalled => Reason::SlowClient,
                ConnectionError::ResponseBroken(error) => error.reason,
                ConnectionError::ClientGone | ConnectionError::Io(_) => Reason::DownstreamReset,
            })
        }
    }
}
