//! The HTTP connection manager: from a request's head to the response's, in the order of `docs/life-of-a-request.md`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use config::model::{RouteAction, RouteSource, StripPort};
use http::Method;

use super::chain::{HttpChain, Verdict};
use super::connection::{ConnectionState, Downstream};
use super::exchange::Exchange;
use super::local_reply::LocalReply;
use super::request_body::CountedBody;
use super::response_body::RecordedBody;
use super::response_headers::{self, Completion};
use super::router::{Response, Routed};
use super::worker::Worker;
use super::{client_certificate, forwarded, grpc_reply, tracing, upgrade};
use crate::http::{
    Body, Gone, Handler, Informational, LocalBoxFuture, Refusal, RequestHead, ResponseHead, Version,
};
use crate::route::{Picked, Routing, canonical, rewrite};
use crate::telemetry::request_id::{self, RequestIdRules};
use crate::telemetry::trace::sampling;
use crate::upstream::failure;
use crate::upstream::retry::Marks;

/// Serves one downstream connection: hand it to the codec as its handler. The chain can be swapped while the connection
/// is open: requests that run end under the one they began with, the next one is served by the new one.
pub struct ConnectionManager {
    worker: Rc<Worker>,
    downstream: Downstream,
    current: RefCell<Rc<ConnectionState>>,
    gone: Rc<Cell<Gone>>,
}

impl ConnectionManager {
    /// For a connection that the listener gave to that chain.
    pub fn new(worker: &Rc<Worker>, chain: &Arc<HttpChain>, downstream: Downstream) -> Self {
        let connection = Rc::new(ConnectionState::new(worker, chain, downstream.clone()));
        let gone = connection.gone.clone();
        Self { worker: worker.clone(), downstream, current: RefCell::new(connection), gone }
    }

    /// Serves the next requests by that chain: its filters, routes and access logs.
    pub fn adopt(&self, chain: &Arc<HttpChain>) {
        let mut connection = ConnectionState::new(&self.worker, chain, self.downstream.clone());
        connection.gone = self.gone.clone();
        *self.current.borrow_mut() = Rc::new(connection);
    }

    fn serving(&self) -> Serving {
        Serving { worker: self.worker.clone(), connection: self.current.borrow().clone() }
    }
}

/// One request under the chain that the connection had when it came.
struct Serving {
    worker: Rc<Worker>,
    connection: Rc<ConnectionState>,
}

impl Serving {
    async fn serve(
        &self,
        mut head: RequestHead,
        body: Body,
        informational: Informational,
    ) -> (ResponseHead, Body) {
        let mut exchange = Exchange::new(&self.worker, &self.connection, &head);
        let bodyless = head.method == Method::HEAD;
        let outcome = self.answer(&mut head, body, &informational, &mut exchange).await;
        match outcome {
            Ok(response) => self.respond(response, exchange),
            Err(reply) => self.reply(*reply, Some(&head), bodyless, exchange),
        }
    }

    async fn answer(
        &self,
        head: &mut RequestHead,
        mut body: Body,
        informational: &Informational,
        exchange: &mut Exchange,
    ) -> Result<Response, Box<LocalReply>> {
        self.prepare(head, exchange)?;
        // One load per request: route and clusters come from the same push.
        let routing = self.worker.shared.routing.load();
        let picked = self.route(head, &routing, exchange);
        let forward = picked.as_ref().and_then(|picked| match &picked.route.action {
            RouteAction::Forward(forward) => Some(&**forward),
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => None,
        });
        let config = &self.connection.chain.config;
        upgrade::decide(head, &mut body, config, (picked.is_some(), forward), &self.worker.random)?;
        tracing::begin(head, picked.as_ref(), exchange);
        for filter in self.connection.chain.filters() {
            if let Verdict::Reply(reply) = filter.on_request(head, exchange) {
                return Err(reply);
            }
        }
        let body = CountedBody::wrap(body, head.length, &exchange.progress, exchange.record.begun);
        let routed = Routed { picked, informational };
        self.connection.chain.router.run(head, body, routed, exchange).await
    }

    /// What the client may say about itself, the request's id, and the one canonical form of host and path that routes,
    /// policies and the application see.
    fn prepare(&self, head: &mut RequestHead, exchange: &mut Exchange) -> Result<(), Box<LocalReply>> {
        let config = &self.connection.chain.config;
        let session = self.connection.session.as_ref();
        let remote = self.connection.facts.remote;
        exchange.client = forwarded::apply(&mut head.headers, config, remote, session.is_some());
        if exchange.client.address != remote {
            exchange.record.client_address = Some(exchange.client.address);
        }
        client_certificate::apply(
            &mut head.headers,
            config.forward_client_cert,
            config.client_cert_details,
            session,
        );
        if !config.via.is_empty() {
            head.headers.append("via", Bytes::copy_from_slice(config.via.as_bytes()));
        }
        let rules = RequestIdRules {
            generate: config.generate_request_id,
            preserve_external: config.preserve_external_request_id,
        };
        let has_one = head.headers.get(request_id::HEADER).is_some_and(|id| !id.is_empty());
        if rules.wants_new(has_one, exchange.client.from_outside) {
            let id = request_id::generate(&self.worker.random);
            head.headers.set_known(request_id::HEADER, id.clone());
            exchange.request_id = Some(id);
        } else if has_one && exchange.client.from_outside && config.request_id.pack_trace_reason {
            // A stranger's id is kept, its decision to trace is not.
            sampling::pack(&mut head.headers, sampling::Reason::NotTraceable);
        }
        if exchange.request_id.is_none() {
            exchange.request_id = head.headers.get_bytes(request_id::HEADER);
        }
        if head.is_connect() {
            // It has no path, and its port says where to.
            return Ok(());
        }
        self.canonical_host(head);
        exchange.authority = head.authority.clone();
        canonical::apply(head, config).map_err(|not| Box::new(LocalReply::not_canonical(not)))
    }

    fn canonical_host(&self, head: &mut RequestHead) {
        let config = &self.connection.chain.config;
        let (host, port) = rewrite::split_port(&head.authority);
        let strip = match config.strip_port {
            StripPort::Keep => false,
            StripPort::Any => port.is_some(),
            StripPort::Matching => {
                port.and_then(|port| std::str::from_utf8(port).ok()).and_then(|port| port.parse().ok())
                    == Some(self.connection.facts.local.port())
            }
        };
        let dot = config.strip_trailing_host_dot && host.len() > 1 && host.ends_with(b".");
        if !strip && !dot {
            return;
        }
        let mut new = host[..host.len() - usize::from(dot)].to_vec();
        if let Some(port) = port.filter(|_| !strip) {
            new.push(b':');
            new.extend_from_slice(port);
        }
        head.authority = new.into();
    }

    fn route(&self, head: &mut RequestHead, routing: &Routing, exchange: &mut Exchange) -> Option<Picked> {
        let routes = match &self.connection.chain.config.route {
            RouteSource::Rds { name } => routing.routes.get(name)?,
            RouteSource::Inline(routes) => routes,
        };
        for name in &routes.internal_only_headers {
            head.headers.remove(name);
        }
        let picked = Picked::pick(routes, head, &self.worker.random)?;
        exchange.record.virtual_host = picked.virtual_host().map(|host| host.name.clone());
        exchange.record.route_name = Some(picked.route.name.clone());
        exchange.record.route_origin = picked.route.origin.clone();
        // Known from here on, so that logs and metrics name it also when a filter answers.
        if let Some(chosen) = &picked.chosen
            && let Some(cluster) = routing.clusters.get(&chosen.name)
        {
            exchange.record.upstream_cluster = Some(chosen.name.clone());
            exchange.cluster = Some(cluster.clone());
        }
        Some(picked)
    }

    fn respond(&self, response: Response, mut exchange: Box<Exchange>) -> (ResponseHead, Body) {
        let Response { mut head, body, deadlines } = response;
        self.finish_head(&mut head, &mut exchange);
        let body = RecordedBody::wrap(body, head.length, Some(deadlines), exchange);
        (head, body)
    }

    fn reply(
        &self,
        reply: LocalReply,
        request: Option<&RequestHead>,
        bodyless: bool,
        mut exchange: Box<Exchange>,
    ) -> (ResponseHead, Body) {
        let for_grpc = request.is_some_and(grpc_reply::is_grpc);
        let reply = if for_grpc { grpc_reply::convert(reply) } else { reply };
        exchange.record.reason = Some(reply.reason);
        exchange.record.flags.set(reply.flags);
        exchange.marks = reply.marks;
        exchange.record.details = reply.details.clone();
        exchange.record.transport_failure = reply.transport_failure.clone();
        if let Some(request) = request {
            self.connection.chain.captures.capture_request(request, &mut exchange.record);
        }
        let (mut head, body) = reply.into_response(bodyless);
        self.finish_head(&mut head, &mut exchange);
        let body = RecordedBody::wrap(body, head.length, None, exchange);
        (head, body)
    }

    /// What a proxy of the mesh is told about a failure.
    fn failure(&self, exchange: &Exchange) -> Option<Bytes> {
        let record = &exchange.record;
        if record.reason.is_none() && exchange.marks == Marks::default() {
            return None;
        }
        let peer = record.failing_peer(&self.connection.facts);
        let hop = record.told.as_ref().map_or(&*self.worker.shared.own_name, |told| &*told.hop);
        let failure = record.reason.map(|reason| (reason, hop, peer.as_deref()));
        failure::text(exchange.marks, failure)
    }

    fn finish_head(&self, head: &mut ResponseHead, exchange: &mut Exchange) {
        for filter in self.connection.chain.filters().rev() {
            filter.on_response(head, exchange);
        }
        tracing::on_response(head, exchange);
        let with = Completion {
            config: &self.connection.chain.config,
            date: self.worker.date(exchange.record.response_begin.unwrap_or_else(Instant::now)),
            request_id: exchange.request_id.as_ref(),
        };
        response_headers::complete(head, with);
        // Between proxies of the mesh only.
        if self.connection.is_mesh_peer()
            && let Some(text) = self.failure(exchange)
        {
            head.headers.set_known(Marks::HEADER, text);
        }
        exchange.begin_response(head);
    }
}

impl Handler for ConnectionManager {
    fn handle<'a>(
        &'a self,
        head: RequestHead,
        body: Body,
        sink: Informational,
    ) -> LocalBoxFuture<'a, (ResponseHead, Body)> {
        let serving = self.serving();
        Box::pin(async move { serving.serve(head, body, sink).await })
    }

    fn refuse(&self, refusal: &Refusal, version: Version) -> (ResponseHead, Body) {
        let serving = self.serving();
        let exchange = Exchange::of_refused(&serving.worker, &serving.connection, version);
        serving.reply(LocalReply::of_refusal(*refusal, version), None, false, exchange)
    }

    fn client_gone(&self, how: Gone) {
        self.gone.set(how);
    }
}

#[cfg(test)]
#[path = "manager_tests.rs"]
mod tests;
