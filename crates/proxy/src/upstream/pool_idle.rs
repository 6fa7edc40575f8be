//! The HTTP/1 connections of a pool that no request uses: the one used last is used first, so that surplus ones grow old
//! and go; one that its host closes goes at once.

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use config::model::UpstreamHttpOptions;

use super::checkout::{Http1, OpenConnection};
use super::idle_limit::IdleLimit;
use super::worker::ClusterCells;

/// The most idle connections that are kept per host and worker.
pub const MAX_IDLE: usize = 512;

/// When a connection is too old for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolRules {
    /// Idle for longer.
    pub idle_timeout: Option<Duration>,
    /// Open for longer.
    pub max_duration: Option<Duration>,
    /// Requests on one connection.
    pub max_requests: Option<u32>,
}

impl PoolRules {
    /// What a cluster's configuration says.
    pub fn of(options: &UpstreamHttpOptions) -> Self {
        Self {
            idle_timeout: options.idle_timeout,
            max_duration: options.max_connection_duration,
            max_requests: options.max_requests_per_connection,
        }
    }

    /// Whether a connection that is idle since then may be kept; counts why not.
    pub fn allow(
        &self,
        open: &OpenConnection,
        requests: u64,
        idle_since: Instant,
        now: Instant,
        cells: &ClusterCells,
    ) -> bool {
        let passed = |limit: Option<Duration>, since: Instant| {
            limit.is_some_and(|limit| now.saturating_duration_since(since) >= limit)
        };
        let over = if passed(self.max_duration, open.opened) {
            &cells.max_duration
        } else if self.max_requests.is_some_and(|limit| requests >= u64::from(limit)) {
            &cells.max_requests
        } else if passed(self.idle_timeout, idle_since) {
            &cells.idle_timeouts
        } else {
            return true;
        };
        over.increment();
        false
    }
}

#[derive(Debug)]
struct Idle {
    http1: Http1,
    since: Instant,
}

/// Connections in the order in which they became idle.
#[derive(Debug, Default)]
pub struct IdleList(Vec<Idle>);

impl IdleList {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The connection used last, when it is young enough, and since when it is idle.
    pub fn take(
        &mut self,
        rules: &PoolRules,
        limit: &IdleLimit,
        cells: &ClusterCells,
        now: Instant,
    ) -> Option<(Http1, Instant)> {
        loop {
            let youngest = self.0.last()?;
            let age = now.saturating_duration_since(youngest.since);
            if limit.safe().is_some_and(|safe| age >= safe) {
                // All others are older.
                return None;
            }
            let mut idle = self.0.pop()?;
            if !idle.http1.connection.is_reusable_now() {
                limit.closed_at(age);
                continue;
            }
            let requests = idle.http1.connection.requests();
            if rules.allow(&idle.http1.open, requests, idle.since, now, cells) {
                return Some((idle.http1, idle.since));
            }
        }
    }

    /// Adds a connection that has just become idle; `false`, and closed, when there is no room.
    pub fn put(&mut self, http1: Http1, now: Instant) -> bool {
        let room = self.0.len() < MAX_IDLE;
        if room {
            self.0.push(Idle { http1, since: now });
        }
        room
    }

    /// Closes what is too old or was closed by the host, and learns from it. The others ring `waker` when they close.
    pub fn sweep(
        &mut self,
        rules: &PoolRules,
        limit: &IdleLimit,
        cells: &ClusterCells,
        now: Instant,
        waker: &Waker,
    ) {
        let mut watched = false;
        let mut cx = Context::from_waker(waker);
        // The oldest comes first: it is the one that is kept beyond the safe age to see how long the host waits.
        self.0.retain_mut(|idle| {
            let age = now.saturating_duration_since(idle.since);
            if idle.http1.connection.poll_closed(&mut cx).is_ready() {
                limit.closed_at(age);
                return false;
            }
            limit.alive_at(age);
            let requests = idle.http1.connection.requests();
            if !rules.allow(&idle.http1.open, requests, idle.since, now, cells) {
                return false;
            }
            let beyond = limit.safe().is_some_and(|safe| age >= safe);
            let surplus = beyond && watched;
            watched |= beyond;
            !surplus
        });
    }

    /// Closes the oldest; whether there was one.
    pub fn close_oldest(&mut self) -> bool {
        let some = !self.0.is_empty();
        if some {
            self.0.remove(0);
        }
        some
    }

    /// Closes all.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
