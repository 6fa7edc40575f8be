//! What each try of a request cost: waiting in line, connecting, the handshake, and the upstream's own time.
//!
//! On a kept connection a try reads no clock of its own: its times are those that the request path reads anyway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::Reason;
use smallvec::SmallVec;

/// Tries that are told apart; of more the first ones and the last stand in the record.
const MOST: usize = 16;

/// The phases of a connection that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The first packet was sent.
    pub began: Instant,
    /// The peer's machine had answered.
    pub connected: Option<Instant>,
    /// TLS, and HTTP/2's settings, were done.
    pub ready: Option<Instant>,
}

/// One try.
#[derive(Debug, Clone)]
pub struct AttemptRecord {
    /// The host's address.
    pub host: Arc<str>,
    /// Our address of the connection; the called proxy sees it as its peer's.
    pub local: Option<SocketAddr>,
    /// The host was chosen; from here on the try waits for a connection.
    pub began: Instant,
    /// The connection that was opened meanwhile; `None`: one was kept, or none was begun.
    pub opening: Option<Opening>,
    /// It had its connection, and the request was sent.
    pub sent: Option<Instant>,
    /// The response's head had come.
    pub answered: Option<Instant>,
    /// It had failed.
    pub failed: Option<Instant>,
    /// The status of its answer; 0: none.
    pub status: u16,
    /// Why it failed.
    pub reason: Option<Reason>,
}

/// The parts of one try's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    /// In line for a connection.
    pub queue: Duration,
    /// TCP.
    pub connect: Duration,
    /// TLS, and HTTP/2's settings.
    pub handshake: Duration,
    /// From the request's first byte sent to the head of the response.
    pub upstream: Duration,
}

impl AttemptRecord {
    /// The parts of its time. `end` stands for what did not come: it was given up then.
    pub fn parts(&self, end: Instant) -> Parts {
        let end = self.answered.or(self.failed).unwrap_or(end);
        let had = self.sent.unwrap_or(end);
        // What was opened for another request before this one came was no part of its time.
        let within = |at: Instant| at.clamp(self.began, had.max(self.began));
        let (mut connect, mut handshake) = (Duration::ZERO, Duration::ZERO);
        if let Some(opening) = self.opening {
            let connected = within(opening.connected.unwrap_or(had));
            connect = connected.saturating_duration_since(within(opening.began));
            if opening.connected.is_some() {
                handshake = within(opening.ready.unwrap_or(had)).saturating_duration_since(connected);
            }
        }
        let before = had.saturating_duration_since(self.began);
        Parts {
            queue: before.saturating_sub(connect + handshake),
            connect,
            handshake,
            upstream: self.sent.map(|sent| end.saturating_duration_since(sent)).unwrap_or_default(),
        }
    }
}

/// The tries of one request, in their order.
#[derive(Debug, Clone, Default)]
pub struct Attempts(SmallVec<[AttemptRecord; 1]>);

impl Attempts {
    /// A host was chosen.
    pub fn begin(&mut self, host: &Arc<str>, now: Instant) {
        if self.0.len() == MOST {
            self.0.pop();
        }
        self.0.push(AttemptRecord {
            host: host.clone(),
            local: None,
            began: now,
            opening: None,
            sent: None,
            answered: None,
            failed: None,
            status: 0,
            reason: None,
        });
    }

    /// A connection is being opened for the last one, or was.
    pub fn opening(&mut self, opening: Option<Opening>) {
        if let Some(last) = self.0.last_mut() {
            // What was ready before was kept.
            last.opening = opening.filter(|it| it.ready.is_none_or(|ready| ready > last.began));
        }
    }

    /// The last one is sent, on a connection from that address of ours.
    pub fn sent(&mut self, local: Option<SocketAddr>, now: Instant) {
        if let Some(last) = self.0.last_mut() {
            (last.sent, last.local) = (Some(now), local);
        }
    }

    /// The last one was answered.
    pub fn answered(&mut self, status: u16, now: Instant) {
        if let Some(last) = self.0.last_mut() {
            (last.answered, last.status) = (Some(now), status);
        }
    }

    /// The last one failed.
    pub fn failed(&mut self, reason: Reason, now: Instant) {
        if let Some(last) = self.0.last_mut() {
            (last.failed, last.reason) = (Some(now), Some(reason));
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &AttemptRecord> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zero: Instant, milliseconds: u64) -> Instant {
        zero + Duration::from_millis(milliseconds)
    }

    fn parts(all: &Attempts, end: Instant) -> [u128; 4] {
        let parts = all.iter().last().unwrap().parts(end);
        [parts.queue, parts.connect, parts.handshake, parts.upstream].map(|it| it.as_millis())
    }

    fn begun(zero: Instant) -> Attempts {
        let mut all = Attempts::default();
        all.begin(&"127.0.0.1:1".into(), at(zero, 100));
        all
    }

    #[test]
    fn the_parts_are_the_whole() {
        let zero = Instant::now();
        let mut all = begun(zero);
        let opening = |began, connected, ready| {
            Some(Opening {
                began: at(zero, began),
                connected: Some(at(zero, connected)),
                ready: Some(at(zero, ready)),
            })
        };
        all.opening(opening(110, 130, 170));
        all.sent(None, at(zero, 175));
        all.answered(200, at(zero, 275));
        assert_eq!(parts(&all, zero), [15, 20, 40, 100]);
        let mut all = begun(zero);
        all.opening(opening(10, 20, 99));
        all.sent(None, at(zero, 101));
        assert_eq!(parts(&all, at(zero, 111)), [1, 0, 0, 10], "it was open before");
        let mut all = begun(zero);
        all.opening(opening(10, 120, 150));
        all.sent(None, at(zero, 150));
        assert_eq!(parts(&all, at(zero, 150)), [0, 20, 30, 0], "it was being opened for another");
    }

    #[test]
    fn a_try_that_is_given_up_shows_where_it_stood() {
        let zero = Instant::now();
        let mut all = begun(zero);
        assert_eq!(parts(&all, at(zero, 140)), [40, 0, 0, 0]);
        all.opening(Some(Opening { began: at(zero, 110), connected: None, ready: None }));
        assert_eq!(parts(&all, at(zero, 140)), [10, 30, 0, 0]);
        all.opening(Some(Opening { began: at(zero, 110), connected: Some(at(zero, 120)), ready: None }));
        all.failed(Reason::UpstreamTls, at(zero, 190));
        assert_eq!(parts(&all, at(zero, 500)), [10, 10, 70, 0]);
        for number in 0..100 {
            all.begin(&format!("host-{number}").into(), zero);
        }
        assert_eq!((all.iter().len(), &*all.iter().last().unwrap().host), (MOST, "host-99"));
    }
}
