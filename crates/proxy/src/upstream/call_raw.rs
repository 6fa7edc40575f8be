//! A try whose bodies are the bytes of a connection: what a CONNECT (or a POST in its place) asks for when it ends here.

use std::rc::Rc;
use std::time::Instant;

use base::Reason;

use super::call::{Answer, Attempt, Call, CallFailure, Chosen, Next, OnAttempt, Progress};
use super::checkout::OpenConnection;
use super::connect::connect;
use super::failure::Said;
use super::outlier::Outcome;
use super::retry::Tried;
use crate::http::h1::client::{ClientOptions, Connection};
use crate::http::{BodyLength, RequestHead, ResponseHead};

impl Call<'_> {
    /// Opens a connection of the request's own, and answers 200 when it stands: the host itself is not asked.
    pub(super) async fn attempt_raw(
        &self,
        head: &mut RequestHead,
        progress: &mut Progress<'_>,
        chosen: Chosen,
        on_attempt: OnAttempt<'_>,
    ) -> Next {
        let Chosen { host, pool, active } = chosen;
        let config = &self.cluster.config;
        let state = progress.state.clone();
        let cells = &state.cells;
        let Some(slots) = state.places(&host, &config.circuit_breakers, self.priority) else {
            cells.connection_overflow.increment();
            self.timeline.borrow_mut().failed(Reason::Overflow, Instant::now());
            return progress.fail(CallFailure::Overflow("max_connections"), None);
        };
        let (stream, info) = match connect(&host, config, None, self.worker.registry()).await {
            Ok(connected) => connected,
            Err(failure) => {
                cells.connect_failures.increment();
                if failure.timed_out {
                    cells.connect_timeouts.increment();
                }
                host.runtime.reach.failed();
                self.timeline.borrow_mut().opening(failure.opening);
                self.timeline.borrow_mut().failed(failure.reason, Instant::now());
                self.report(&host, if failure.timed_out { Outcome::TimedOut } else { Outcome::Failed });
                return self.after(progress, Tried::NotConnected, CallFailure::Connect(failure));
            }
        };
        cells.connections.increment();
        host.runtime.reach.worked();
        self.report(&host, Outcome::Reached);
        let (now, number) = (Instant::now(), progress.number);
        {
            let mut timeline = self.timeline.borrow_mut();
            timeline.opening(Some(info.opening));
            timeline.sent(info.local, now);
            timeline.answered(200, now);
        }
        on_attempt(head, &Attempt { cluster: self.cluster, host: &host, connection: &info, number, now });
        cells.requests.increment();
        let open = OpenConnection::new(info, cells.connections_active.clone(), Rc::default(), slots);
        let ended = Box::new(move |_| drop((active, open)));
        let connection = Connection::new(stream, ClientOptions::default());
        let body = connection.tunnel(progress.body.reader(), ended);
        progress.body.stop_keeping();
        let head = ResponseHead::new(200, BodyLength::Unknown);
        Next::Answer(Box::new(Answer { head, body, pool, denied: None, said: Said::default(), at: now }))
    }
}
