//! One request and its response from beginning to end: whichever way it ends, it is counted and logged once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use base::Reason;
use bytes::Bytes;

use super::connection::ConnectionState;
use super::forwarded::Client;
use super::request_body::Progress;
use super::tracing::{self, RequestTrace};
use super::worker::Worker;
use super::{grpc_reply, watching};
use crate::http::{Gone, RequestHead, ResponseHead, Version};
use crate::telemetry::RequestRecord;
use crate::telemetry::exemplar;
use crate::telemetry::grpc_messages::GrpcMessages;
use crate::telemetry::intern::Interned;
use crate::telemetry::labels::{Protocol, Workload};
use crate::telemetry::log_value::LogContext;
use crate::telemetry::recent::Asked;
use crate::telemetry::watch::Watching;
use crate::upstream::Cluster;
use crate::upstream::host::Host;
use crate::upstream::retry::Marks;

/// What is known about the upstream that was tried last.
#[derive(Debug, Clone)]
pub struct UpstreamFacts {
    /// The host.
    pub host: Arc<Host>,
    /// SPIFFE id that the host proved.
    pub peer_principal: Interned<str>,
    /// The id that we proved to it.
    pub own_principal: Interned<str>,
}

/// One request. Filters read it and leave here what later hooks need.
pub struct Exchange {
    /// The worker.
    pub worker: Rc<Worker>,
    /// The downstream connection.
    pub connection: Rc<ConnectionState>,
    /// What logs say.
    pub record: RequestRecord,
    /// How far the request's body has come.
    pub progress: Rc<Progress>,
    /// What the client's headers say.
    pub client: Client,
    /// The client's host, for metrics.
    pub authority: Bytes,
    /// The request's id.
    pub request_id: Option<Bytes>,
    /// The method that the client sent.
    pub method: http::Method,
    /// Path and query as the client sent them.
    pub target: Bytes,
    /// HTTP or gRPC.
    pub protocol: Protocol,
    /// Messages of the response to a gRPC call.
    pub response_messages: GrpcMessages,
    /// The trace that the request belongs to, when it is recorded.
    pub recorded_trace: Option<[u8; 16]>,
    /// The cluster that was chosen.
    pub cluster: Option<Arc<Cluster>>,
    /// The upstream that was tried last.
    pub upstream: Option<UpstreamFacts>,
    /// The caller said who it is, in a header that can be believed: it is told who we are.
    pub told_by_caller: bool,
    /// What a proxy of the mesh that gets the answer should know of it.
    pub marks: Marks,
    /// The caller's workload.
    pub caller: Option<Interned<Workload>>,
    /// The span of the request, where its context is known.
    pub trace: Option<RequestTrace>,
    /// The called workload, as it said itself.
    pub called: Option<Interned<Workload>>,
    /// Who watches it.
    pub watching: Watching,
    ended: bool,
}

impl Exchange {
    /// A request that has just come.
    pub fn new(worker: &Rc<Worker>, connection: &Rc<ConnectionState>, head: &RequestHead) -> Box<Self> {
        let mut exchange = Self::begin(worker, connection, head.version.as_str());
        // Method, target and the blanks, version and line ends of the first line.
        exchange.record.request_head_bytes =
            (head.method.as_str().len() + head.target.len() + 12 + head.headers.byte_size()) as u64;
        if head.headers.get("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc")) {
            exchange.protocol = Protocol::Grpc(None);
            exchange.progress.messages.set(Some(GrpcMessages::default()));
        }
        exchange.recorded_trace = head.headers.get("traceparent").and_then(exemplar::recorded_trace);
        exchange.authority = head.authority.clone();
        exchange.method = head.method.clone();
        exchange.target = head.target.clone();
        exchange.watching = watching::begin(worker, connection, head);
        exchange
    }

    /// A request whose head was refused: nothing that it says is known.
    pub fn of_refused(worker: &Rc<Worker>, connection: &Rc<ConnectionState>, version: Version) -> Box<Self> {
        Self::begin(worker, connection, version.as_str())
    }

    fn begin(worker: &Rc<Worker>, connection: &Rc<ConnectionState>, protocol: &'static str) -> Box<Self> {
        let now = Instant::now();
        connection.cells.requests.increment();
        Box::new(Self {
            worker: worker.clone(),
            connection: connection.clone(),
            record: RequestRecord::new(worker.wall_clock.at(now), now, protocol),
            progress: Rc::default(),
            client: Client { address: connection.facts.remote, from_outside: false },
            authority: Bytes::new(),
            request_id: None,
            method: http::Method::GET,
            target: Bytes::new(),
            protocol: Protocol::Http,
            response_messages: GrpcMessages::default(),
            recorded_trace: None,
            cluster: None,
            upstream: None,
            told_by_caller: false,
            marks: Marks::default(),
            caller: None,
            called: None,
            watching: None,
            trace: None,
            ended: false,
        })
    }

    /// The response's head goes to the client.
    pub fn begin_response(&mut self, head: &ResponseHead) {
        self.record.status = head.status;
        self.record.response_head_bytes = (head.headers.byte_size() + 15) as u64;
        if let Some(cells) =
            self.connection.cells.by_class.get(usize::from(head.status / 100).wrapping_sub(1))
        {
            cells.increment();
        }
        if let Protocol::Grpc(None) = self.protocol {
            self.protocol = Protocol::Grpc(grpc_status(head.headers.get("grpc-status")));
        }
        self.connection.chain.captures.capture_response(head, &mut self.record);
    }

    /// Everything went as far as it could: not the client's going away ended it.
    pub fn end(&mut self) {
        self.ended = true;
    }

    /// Messages of a gRPC call: the caller's, the called one's. `None` for any other request.
    pub fn messages(&self) -> Option<(u64, u64)> {
        let request = self.progress.messages.get()?;
        Some((request.count(), self.response_messages.count()))
    }

    /// Leaves the request where people can ask about it.
    fn remember(&mut self) {
        let watching = self.watching.take();
        let asked = Asked {
            request_id: self.request_id.as_deref().unwrap_or_default(),
            reporter: self.connection.chain.reporter,
            method: &self.method,
            authority: &self.authority,
            target: &self.target,
            peer_address: self.connection.facts.remote,
            peer: &self.connection.peer_principal,
            local_address: self.connection.facts.local,
        };
        self.worker.recent.note(&asked, &self.record);
        if let Some(watching) = watching {
            watching::end(&watching, self, &asked);
        }
    }

    /// What formats of logs and headers read.
    pub fn log_context(&self) -> LogContext<'_> {
        let upstream = self.upstream.as_ref();
        let called = self.called.as_ref().or(upstream.map(|upstream| &upstream.host.workload));
        LogContext {
            captures: Some(&self.connection.chain.captures),
            caller: self.caller.as_deref(),
            called: called.map(|called| &**called),
            span: self.trace.as_ref().map(RequestTrace::ids),
            upstream_principals: upstream.map(|it| (&*it.peer_principal, &*it.own_principal)),
            ..self.worker.log_context(&self.record, &self.connection.facts)
        }
    }

    /// It ended for that reason; `details` are Envoy's words for it.
    pub fn fail(&mut self, reason: Reason, details: &'static str) {
        self.record.fail(reason);
        self.record.told = None;
        self.record.details = details.into();
    }
}

/// A gRPC status, when it is a number of at most two digits.
pub fn grpc_status(value: Option<&[u8]>) -> Option<u8> {
    std::str::from_utf8(value?).ok()?.parse().ok()
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.record.end = Some(Instant::now());
        if !self.ended {
            match self.connection.gone.get() {
                Gone::Disconnected => self.fail(Reason::DownstreamReset, "downstream_remote_disconnect"),
                Gone::Malformed => self.fail(Reason::BadRequest, "http2.invalid.header.field"),
                Gone::Reset => self.fail(Reason::DownstreamResetStream, "http2.remote_reset"),
            }
        }
        self.record.request_body_bytes = self.progress.bytes.get();
        self.record.request_end = self.progress.end.get();
        self.record.timeline = self.progress.attempts.take();
        if let Protocol::Grpc(said) = self.protocol
            && self.record.status != 0
        {
            self.record.grpc_status = said.or(Some(grpc_reply::grpc_status(self.record.status)));
        }
        let connection = self.connection.clone();
        let chain = &connection.chain;
        for filter in chain.filters() {
            filter.on_end(self);
        }
        if !chain.logs.is_empty() {
            chain.logs.write(&self.log_context(), self.worker.number);
        }
        tracing::end(self);
        self.remember();
    }
}
