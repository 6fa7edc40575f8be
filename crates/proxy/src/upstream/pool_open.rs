//! Opens the connections that those in line of a pool need, within the limits, as jobs of the worker: a request that goes
//! away does not break off a connection that the next one can use.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use base::Reason;
use config::model::{Priority, UpstreamHttpOptions};

use super::alpn::Speak;
use super::checkout::{Http1, Http2, OpenConnection, Slots, UntilClosed};
use super::cluster::Cluster;
use super::connect::{self, ConnectFailure};
use super::host::Host;
use super::pool::{HostPool, Wanted};
use crate::http::h1::Limits;
use crate::http::h1::client::{ClientOptions, Connection};
use crate::http::h2_client;
use crate::telemetry::Registry;
use crate::telemetry::attempts;

/// What is needed to open a connection.
pub(super) struct Opening {
    cluster: Arc<Cluster>,
    host: Arc<Host>,
    registry: Arc<Registry>,
    priority: Priority,
    pub(super) speak: Speak,
}

impl Opening {
    pub(super) fn new(wanted: &Wanted<'_>, speak: Speak) -> Rc<Self> {
        Rc::new(Opening {
            cluster: wanted.cluster.clone(),
            host: wanted.host.clone(),
            registry: wanted.worker.registry().clone(),
            priority: wanted.priority,
            speak,
        })
    }
}

impl HostPool {
    /// Opens what those in line need. `make_room` closes a connection elsewhere that nobody uses; whether there was one.
    pub(super) fn open_more(self: &Rc<Self>, opening: &Rc<Opening>, mut make_room: impl FnMut() -> bool) {
        while self.needs_connection(opening.speak) {
            if let Some(slots) = self.places(opening) {
                self.open(opening, slots);
                continue;
            }
            self.state.cells.connection_overflow.increment();
            if make_room()
                && let Some(slots) = self.places(opening)
            {
                self.open(opening, slots);
                continue;
            }
            self.state.limits.ask_for_connections();
            self.wait_for_places(opening);
            return;
        }
    }

    fn group(&self, speak: Speak) -> usize {
        match speak {
            Speak::Http2 => 1,
            Speak::Either if self.speaks_http2.get() => 1,
            Speak::Http1 | Speak::Either => 0,
        }
    }

    /// Whether those in line need more connections than are being opened.
    fn needs_connection(&self, speak: Speak) -> bool {
        self.leave_out_the_gone();
        let group = self.group(speak);
        let waiting =
            self.line.borrow().iter().filter(|waiter| self.group(waiter.opening.speak) == group).count();
        let per_connection = match group {
            1 => self
                .rules
                .get()
                .max_requests
                .map_or(usize::MAX, |limit| limit as usize)
                .min(self.max_streams.get()),
            _ => 1,
        };
        waiting.div_ceil(per_connection.max(1)) > self.opening[group].get()
    }

    fn places(&self, opening: &Opening) -> Option<Slots> {
        self.state.places(&opening.host, &opening.cluster.config.circuit_breakers, opening.priority)
    }

    /// Stands in line for places, one job for all requests that wait here.
    fn wait_for_places(self: &Rc<Self>, opening: &Rc<Opening>) {
        let group = self.group(opening.speak);
        if self.in_line[group].replace(true) {
            return;
        }
        let (pool, opening) = (self.clone(), opening.clone());
        runtime::thread::background("place for a connection", async move {
            while pool.needs_connection(opening.speak) {
                let limit = opening.cluster.config.circuit_breakers.max_connections_per_host;
                let host = match opening.host.runtime.connections(limit) {
                    Some(slots) => Some(slots.wait().await),
                    None => None,
                };
                let cluster = pool.state.limits.of(opening.priority).connections.wait().await;
                if pool.needs_connection(opening.speak) {
                    pool.open(&opening, Slots { host, cluster });
                }
            }
            pool.in_line[group].set(false);
        });
    }

    fn open(self: &Rc<Self>, opening: &Rc<Opening>, slots: Slots) {
        let group = self.group(opening.speak);
        self.opening[group].set(self.opening[group].get() + 1);
        let (pool, opening) = (self.clone(), opening.clone());
        runtime::thread::background("connect", async move {
            let result = pool.connect(&opening, slots).await;
            pool.opening[group].set(pool.opening[group].get() - 1);
            match result {
                Ok(Opened::Http1(http1)) => pool.opened_http1(http1),
                Ok(Opened::Http2(http2)) => {
                    pool.speaks_http2.set(true);
                    pool.multiplexed.borrow_mut().push(http2);
                    pool.serve_streams();
                    pool.state.upkeep.look_soon();
                }
                Err(failure) => {
                    pool.state.cells.connect_failures.increment();
                    if failure.timed_out {
                        pool.state.cells.connect_timeouts.increment();
                    }
                    pool.host_failed();
                    pool.fail_line(&failure);
                    pool.open_more(&opening, || false);
                }
            }
        });
    }

    /// A new connection: for the first in line, else for the next request.
    fn opened_http1(self: &Rc<Self>, http1: Http1) {
        self.speaks_http2.set(false);
        if let Some(http1) = self.hand_over(http1, None) {
            self.keep(http1, Instant::now());
        }
    }

    async fn connect(&self, opening: &Opening, slots: Slots) -> Result<Opened, ConnectFailure> {
        let config = &opening.cluster.config;
        let cells = &self.state.cells;
        let (stream, info) =
            connect::connect(&opening.host, config, Some(opening.speak), &opening.registry).await?;
        cells.connections.increment();
        let http2 = info.http2;
        let active = cells.connections_active.clone();
        let opened = info.opening;
        let open = Rc::new(OpenConnection::new(info, active, self.established.clone(), slots));
        if !http2 {
            cells.http1_connections.increment();
            return Ok(Opened::Http1(Http1 {
                connection: Connection::new(stream, http1(&config.http)),
                open,
            }));
        }
        cells.http2_connections.increment();
        let until_closed = UntilClosed { open: open.clone(), bell: self.state.upkeep.bell().clone() };
        let options = http2_options(&config.http);
        let handshake = h2_client::Connection::handshake(stream, &options, until_closed);
        let failed = |detail, timed_out| ConnectFailure {
            host: opening.host.address_text.clone(),
            reason: if timed_out { Reason::ConnectTimeout } else { Reason::ConnectFailed },
            detail,
            timed_out,
            opening: Some(attempts::Opening { ready: None, ..opened }),
        };
        match tokio::time::timeout(config.connect_timeout, handshake).await {
            Ok(Ok(connection)) => {
                open.ready.set(Some(Instant::now()));
                Ok(Opened::Http2(Rc::new(Http2::new(connection, open))))
            }
            Ok(Err(detail)) => Err(failed(detail, false)),
            Err(_) => Err(failed("the host sent no HTTP/2 settings".to_owned(), true)),
        }
    }
}

#[allow(clippy::large_enum_variant, reason = "moved once a connection")]
enum Opened {
    Http1(Http1),
    Http2(Rc<Http2>),
}

/// The codec's limits for responses of a cluster.
fn http1(options: &UpstreamHttpOptions) -> ClientOptions {
    ClientOptions { limits: limits(options), ..ClientOptions::default() }
}

fn http2_options(options: &UpstreamHttpOptions) -> h2_client::Options {
    let http2 = &options.http2;
    h2_client::Options {
        limits: Limits {
            max_headers_bytes: http2.max_response_headers_bytes,
            max_headers_count: options.max_headers_count,
        },
        stream_window: http2.initial_stream_window_size,
        connection_window: http2.initial_connection_window_size,
        header_table_size: http2.hpack_table_size,
        keepalive: http2.keepalive.map(|keepalive| h2_client::Keepalive {
            interval: keepalive.interval,
            timeout: keepalive.timeout,
        }),
        ..h2_client::Options::default()
    }
}

fn limits(options: &UpstreamHttpOptions) -> Limits {
    Limits {
        max_headers_bytes: options.max_response_headers_bytes,
        max_headers_count: options.max_headers_count,
    }
}
