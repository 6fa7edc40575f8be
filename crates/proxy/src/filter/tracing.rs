//! The connection manager's part in traces: begins a request's span, sends its context on, and says what the span was.
//!
//! The context goes upstream whether or not the request is traced; only a traced request keeps anything else.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use config::model::{self, CustomTag, Direction, Format, TagValue};

use super::exchange::Exchange;
use super::worker::Shared;
use crate::http::{Headers, RequestHead, ResponseHead};
use crate::route::Picked;
use crate::route::header_operations::{self, Values};
use crate::telemetry::attempts::AttemptRecord;
use crate::telemetry::labels::Protocol;
use crate::telemetry::request_id;
use crate::telemetry::trace::sampling::{self, CLIENT_TRACE_ID, Reason};
use crate::telemetry::trace::{Event, Kind, Span, SpanContext, Tracer, span};

/// Tells the other side what a span is called.
const DECORATOR: &str = "x-envoy-decorator-operation";

/// A connection manager's tracing, ready for use.
#[derive(Debug)]
pub struct ChainTracing {
    config: model::Tracing,
    /// Requests leave the workload here.
    egress: bool,
    tracer: Option<Arc<Tracer>>,
}

impl ChainTracing {
    /// The tracing of a listener of that direction; `None` where the configuration asks for none.
    pub fn build(
        config: &model::HttpConnectionManager,
        direction: Direction,
        shared: &Shared,
    ) -> Option<ChainTracing> {
        let mut tracing = config.tracing.clone()?;
        tracing.custom_tags.retain_mut(resolve);
        let provider = tracing.provider.as_ref().or(shared.default_tracer.as_ref());
        let tracer = provider.map(|provider| shared.tracers.get(provider, &shared.exports));
        Some(ChainTracing { config: tracing, egress: direction == Direction::Outbound, tracer })
    }
}

/// Reads the environment once; a variable without a value makes no tag.
fn resolve(tag: &mut CustomTag) -> bool {
    if let TagValue::Environment { name, default } = &tag.value {
        let value = std::env::var(&**name).map_or_else(|_| default.clone(), Arc::from);
        tag.value = TagValue::Literal(value);
    }
    !matches!(&tag.value, TagValue::Literal(text) if text.is_empty())
}

/// The span of one request.
#[derive(Debug)]
pub struct RequestTrace {
    /// The request came to the workload, and its program is being watched.
    watched: bool,
    context: SpanContext,
    /// The answer names the span to the caller.
    announced: Option<Arc<str>>,
    recording: Option<Box<Recording>>,
}

impl RequestTrace {
    /// The ids of its trace and its span.
    pub fn ids(&self) -> (u128, u64) {
        (self.context.trace_id, self.context.span_id)
    }
}

/// What a traced request leaves for its span.
#[derive(Debug)]
struct Recording {
    /// By a decorator, or by the other side.
    name: Option<String>,
    /// As it was sent last.
    request: RequestHead,
    route: Option<Arc<model::Route>>,
    grpc_status: Option<Bytes>,
    grpc_message: Option<Bytes>,
    /// The spans of tries, by their number.
    tries: Vec<(u32, SpanContext)>,
}

/// Decides whether the request is traced, and begins its span. Called when the route is known.
pub fn begin(head: &mut RequestHead, picked: Option<&Picked>, exchange: &mut Exchange) {
    let connection = exchange.connection.clone();
    let Some(tracing) = &connection.chain.tracing else { return };
    let route = picked.map(|picked| &picked.route);
    let own = route.and_then(|route| route.tracing.as_deref());
    let rates = own.map_or(&tracing.config.sampling, |own| &own.sampling);
    let random = &exchange.worker.random;
    let reason = sampling::decide(rates, connection.chain.config.request_id, &mut head.headers, random);
    if let Some(cells) = &connection.tracing {
        cells.of(reason).increment();
    }
    if reason != Reason::NotTraceable || exchange.request_id.is_some() {
        exchange.request_id = head.headers.get_bytes(request_id::HEADER);
    }
    let decorator = route.and_then(|route| route.decorator.as_ref());
    let mut announced = decorator.filter(|it| it.propagate).map(|it| it.operation.clone());
    let mut told = None;
    if tracing.egress {
        if let Some(operation) = announced.take() {
            head.headers.set(DECORATOR, Bytes::copy_from_slice(operation.as_bytes()));
        }
    } else if let Some(name) = head.headers.remove(DECORATOR).filter(|name| !name.is_empty()) {
        (announced, told) = (None, Some(name));
    }
    let Some(tracer) = &tracing.tracer else { return };
    let server = !tracing.egress || tracing.config.spawn_upstream_span;
    let context = tracer.start(&head.headers, reason.traces(), server, random).context;
    let recording = context.sampled.then(|| {
        let name = told.as_deref().map(span::text);
        Box::new(Recording {
            name: name.or_else(|| decorator.map(|it| it.operation.to_string())),
            request: head.clone(),
            route: route.cloned(),
            grpc_status: None,
            grpc_message: None,
            tries: Vec::new(),
        })
    });
    let watched = watch_context(tracing, &context, exchange);
    exchange.trace = Some(RequestTrace { watched, context, announced, recording });
}

/// Notes what the program beside this proxy gets, or whether it passes it on; true where it is being served.
fn watch_context(tracing: &ChainTracing, context: &SpanContext, exchange: &Exchange) -> bool {
    let (worker, watch) = (&exchange.worker, &exchange.worker.shared.context_watch);
    let request_id = exchange.request_id.as_deref();
    if tracing.egress {
        let sent = (context.parent_id != 0).then_some(context.trace_id);
        watch.goes_out(&worker.calls, request_id, sent);
    } else {
        watch.came_in(&worker.calls, request_id, Some(context.trace_id));
    }
    !tracing.egress
}

/// Writes the context into a try that is about to be sent.
pub fn inject(head: &mut RequestHead, number: u32, exchange: &mut Exchange) {
    let Some(trace) = &mut exchange.trace else { return };
    let connection = exchange.connection.clone();
    let Some(tracing) = &connection.chain.tracing else { return };
    let Some(tracer) = &tracing.tracer else { return };
    let child =
        tracing.config.spawn_upstream_span.then(|| trace.context.child(&exchange.worker.random, false));
    if !tracing.config.no_context_propagation {
        tracer.inject(&mut head.headers, child.as_ref().unwrap_or(&trace.context));
    }
    if let Some(recording) = &mut trace.recording {
        recording.tries.extend(child.map(|child| (number, child)));
        recording.request.clone_from(head);
    }
}

/// Takes from an answer what the span says, and tells the caller what the span is called.
pub fn on_response(head: &mut ResponseHead, exchange: &mut Exchange) {
    let connection = exchange.connection.clone();
    let Some(tracing) = &connection.chain.tracing else { return };
    let mut told = None;
    if tracing.egress {
        told = head.headers.remove(DECORATOR).filter(|name| !name.is_empty());
    }
    let Some(trace) = &mut exchange.trace else { return };
    if let Some(operation) = &trace.announced {
        head.headers.set(DECORATOR, Bytes::copy_from_slice(operation.as_bytes()));
    }
    if let Some(recording) = &mut trace.recording {
        if let Some(name) = told {
            recording.name = Some(span::text(&name));
        }
        recording.grpc(&head.headers);
    }
}

/// Takes from the trailers of an answer what the span says.
pub fn on_trailers(trailers: &Headers, exchange: &mut Exchange) {
    if let Some(recording) = exchange.trace.as_mut().and_then(|trace| trace.recording.as_mut()) {
        recording.grpc(trailers);
    }
}

/// Hands over the spans of a request that has ended.
pub fn end(exchange: &mut Exchange) {
    let Some(trace) = exchange.trace.take() else { return };
    if trace.watched {
        exchange.worker.calls.served();
    }
    let RequestTrace { context, recording: Some(recording), .. } = trace else { return };
    let connection = exchange.connection.clone();
    let Some(tracing) = &connection.chain.tracing else { return };
    let Some(tracer) = &tracing.tracer else { return };
    let ending = Ending { tracing, recording: &recording, exchange };
    if tracing.config.spawn_upstream_span {
        ending.tries(&context).into_iter().for_each(|span| tracer.send(span));
    }
    tracer.send(ending.span(context, tracer));
}

impl Recording {
    fn grpc(&mut self, headers: &Headers) {
        if let Some(status) = headers.get_bytes("grpc-status") {
            self.grpc_status = Some(status);
            self.grpc_message = headers.get_bytes("grpc-message");
        }
    }
}

/// A traced request at its end.
struct Ending<'a> {
    tracing: &'a ChainTracing,
    recording: &'a Recording,
    exchange: &'a Exchange,
}

impl Ending<'_> {
    fn at(&self, moment: Instant) -> SystemTime {
        let record = &self.exchange.record;
        record.start_time + moment.saturating_duration_since(record.begun)
    }

    fn ended(&self) -> Instant {
        self.exchange.record.end.unwrap_or_else(Instant::now)
    }

    fn values(&self) -> Values<'_> {
        let context = self.exchange.log_context();
        Values { request: &self.recording.request, context }
    }

    fn format(&self, format: &Format) -> Bytes {
        header_operations::evaluate(format, &self.recording.request.headers, Some(self.values()))
    }

    fn name(&self, tracer: &Tracer) -> String {
        let route = self.recording.route.as_ref().and_then(|route| route.tracing.as_ref());
        let operation = route.and_then(|it| it.operation.as_ref()).or(self.tracing.config.operation.as_ref());
        let by_format =
            operation.map(|format| span::text(&self.format(format))).filter(|name| !name.is_empty());
        if let Some(name) = by_format.or_else(|| self.recording.name.clone()) {
            return name;
        }
        let host = span::text(&self.exchange.authority);
        match (tracer.names_by_host(), self.tracing.egress) {
            (true, _) => host,
            (false, true) => format!("egress {host}"),
            (false, false) => "ingress".to_owned(),
        }
    }

    /// The span of the whole request, with the tags of Envoy in their order.
    fn span(&self, context: SpanContext, tracer: &Tracer) -> Span {
        let (exchange, record) = (self.exchange, &self.exchange.record);
        let server = !self.tracing.egress || self.tracing.config.spawn_upstream_span;
        let mut span = Span {
            context,
            name: self.name(tracer),
            kind: if server { Kind::Server } else { Kind::Client },
            start: record.start_time,
            end: self.at(self.ended()),
            tags: Vec::with_capacity(32),
            events: Vec::new(),
            error: false,
        };
        let node = &exchange.worker.shared.node;
        span.tag("node_id", node.id.as_bytes());
        span.tag("zone", node.locality.zone.as_bytes());
        self.request_tags(&mut span);
        span.tag("request_size", record.request_body_bytes.to_string().as_bytes());
        span.tag("response_size", record.response_body_bytes.to_string().as_bytes());
        self.common_tags(&mut span, record.status);
        self.custom_tags(&mut span);
        if self.tracing.config.verbose {
            self.moments(&mut span);
        }
        if !self.tracing.config.spawn_upstream_span {
            self.retries(&mut span);
        }
        span.events.sort_by_key(|event| event.at);
        span
    }

    fn request_tags(&self, span: &mut Span) {
        let (exchange, request) = (self.exchange, &self.recording.request);
        let header = |name: &str| request.headers.get(name).map_or(&b"-"[..], |value| value);
        if let Some(id) = request.headers.get(request_id::HEADER) {
            span.tag("guid:x-request-id", id);
        }
        span.tag("http.url", &self.url());
        span.tag("http.method", exchange.method.as_str().as_bytes());
        span.tag("downstream_cluster", header("x-envoy-downstream-service-cluster"));
        span.tag("user_agent", header("user-agent"));
        span.tag("http.protocol", exchange.record.protocol.as_bytes());
        let peer: IpAddr = exchange.connection.facts.remote.ip();
        span.tag("peer.address", peer.to_string().as_bytes());
        if let Some(id) = request.headers.get(CLIENT_TRACE_ID) {
            span.tag("guid:x-client-trace-id", id);
        }
        if matches!(exchange.protocol, Protocol::Grpc(_)) {
            span.tag("grpc.path", &request.target);
            span.tag("grpc.authority", &request.authority);
            for (name, tag) in [("content-type", "grpc.content_type"), ("grpc-timeout", "grpc.timeout")] {
                if let Some(value) = request.headers.get(name) {
                    span.tag(tag, value);
                }
            }
        }
    }

    /// The address that the client asked for, its path cut.
    fn url(&self) -> Vec<u8> {
        let request = &self.recording.request;
        let path = request.headers.get("x-envoy-original-path").unwrap_or(&request.target);
        let mut url = request.headers.get("x-forwarded-proto").map_or_else(Vec::new, |it| it.to_vec());
        url.extend_from_slice(b"://");
        url.extend_from_slice(&request.authority);
        url.extend_from_slice(path.get(..self.tracing.config.max_path_tag_length).unwrap_or(path));
        url
    }

    fn common_tags(&self, span: &mut Span, status: u16) {
        let record = &self.exchange.record;
        span.tag("component", b"proxy");
        if let Some(cluster) = &record.upstream_cluster {
            span.tag("upstream_cluster", cluster.as_bytes());
            span.tag("upstream_cluster.name", cluster.as_bytes());
        }
        span.tag("http.status_code", status.to_string().as_bytes());
        span.tag("response_flags", record.flags.to_string().as_bytes());
        if let Some(status) = &self.recording.grpc_status {
            span.tag("grpc.status_code", status);
            if let Some(message) = &self.recording.grpc_message {
                span.tag("grpc.message", message);
            }
            if &status[..] != b"0" {
                span.fail();
            }
        }
        if status == 0 || status >= 500 {
            span.fail();
        }
    }

    fn custom_tags(&self, span: &mut Span) {
        let route = self.recording.route.as_ref().and_then(|route| route.tracing.as_ref());
        let of_route = route.map_or(&[][..], |route| &route.custom_tags);
        let other = |tag: &&CustomTag| !of_route.iter().any(|it| it.tag == tag.tag);
        for tag in self.tracing.config.custom_tags.iter().filter(other).chain(of_route) {
            let value = match &tag.value {
                TagValue::Literal(text) => Bytes::copy_from_slice(text.as_bytes()),
                TagValue::Environment { name, default } => {
                    std::env::var(&**name).unwrap_or_else(|_| default.to_string()).into()
                }
                TagValue::Header { name, default } => match self.header(name) {
                    Some(value) => value,
                    None => Bytes::copy_from_slice(default.as_bytes()),
                },
                TagValue::Format(format) => self.format(format),
            };
            if !value.is_empty() {
                span.tag(tag.tag.to_string(), &value);
            }
        }
    }

    fn header(&self, name: &str) -> Option<Bytes> {
        let request = &self.recording.request;
        match name {
            ":authority" => Some(request.authority.clone()),
            ":path" => Some(request.target.clone()),
            ":method" => Some(Bytes::copy_from_slice(request.method.as_str().as_bytes())),
            ":scheme" => Some(Bytes::from_static(request.scheme.as_str().as_bytes())),
            name => request.headers.get_bytes(name),
        }
    }

    /// `verbose`: the moments that were noted anyway, by Envoy's names.
    fn moments(&self, span: &mut Span) {
        let record = &self.exchange.record;
        let moments = [
            ("last_downstream_rx_byte_received", record.request_end),
            ("first_upstream_tx_byte_sent", record.sent),
            ("first_upstream_rx_byte_received", record.response_begin),
            ("last_downstream_tx_byte_sent", record.end),
        ];
        for (name, moment) in moments {
            if let Some(moment) = moment {
                span.events.push(Event { at: self.at(moment), name: name.into(), tags: Vec::new() });
            }
        }
    }

    /// Every try after the first one, with what became of the one before it.
    fn retries(&self, span: &mut Span) {
        let tries: Vec<&AttemptRecord> = self.exchange.record.timeline.iter().collect();
        for (index, pair) in tries.windows(2).enumerate() {
            let mut tags = vec![
                ("retry.count".into(), (index + 1).to_string()),
                ("upstream_address".into(), pair[1].host.to_string()),
            ];
            match pair[0].reason {
                Some(reason) => tags.push(("retry.reason".into(), reason.to_string())),
                None => tags.push(("retry.status_code".into(), pair[0].status.to_string())),
            }
            span.events.push(Event { at: self.at(pair[1].began), name: "retry".into(), tags });
        }
    }

    /// A span for every try.
    fn tries(&self, parent: &SpanContext) -> Vec<Span> {
        let (exchange, record) = (self.exchange, &self.exchange.record);
        let last = record.timeline.iter().len();
        let route = self.recording.route.as_ref().and_then(|route| route.tracing.as_ref());
        let operation = route.and_then(|it| it.upstream_operation.as_ref());
        let operation = operation.or(self.tracing.config.upstream_operation.as_ref());
        let cluster = record.upstream_cluster.as_deref().unwrap_or_default();
        let mut spans = Vec::with_capacity(last);
        for (number, one) in (1..).zip(record.timeline.iter()) {
            let known = self.recording.tries.iter().find(|(of, _)| *of == number);
            let random = &exchange.worker.random;
            let ended = one.failed.filter(|_| number as usize != last).or(one.answered);
            let ended = if number as usize == last { self.ended() } else { ended.unwrap_or(one.began) };
            let mut span = Span {
                context: known.map_or_else(|| parent.child(random, false), |(_, context)| context.clone()),
                name: match operation {
                    Some(format) => span::text(&self.format(format)),
                    None => format!("router {cluster} egress"),
                },
                kind: Kind::Client,
                start: self.at(one.began),
                end: self.at(ended),
                tags: Vec::new(),
                events: Vec::new(),
                error: false,
            };
            if number > 1 {
                span.tag("retry.count", (number - 1).to_string().as_bytes());
            }
            span.tag("http.protocol", record.protocol.as_bytes());
            span.tag("upstream_address", one.host.as_bytes());
            span.tag("peer.address", one.host.as_bytes());
            self.common_tags(&mut span, one.status);
            // Those of the request are the whole span's.
            span.tag("response_flags", b"-");
            if let Some(reason) = one.reason {
                span.tag("error.type", reason.to_string().as_bytes());
            }
            spans.push(span);
        }
        spans
    }
}
